//! WebSocket as a client speaks it (RFC 6455): upgrade, masked frames out, unmasked frames in.
//!
//! Written by hand and apart from the server's codec on purpose: a mistake in the one is then not
//! hidden by the same mistake in the other, and a delivery costs the generator one pass over a header.

use base64_simd::STANDARD;
use sha1::{Digest, Sha1};

/// Opcodes of RFC 6455 §5.2 that a client meets.
pub(crate) mod opcode {
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const BINARY: u8 = 2;
    pub(crate) const CLOSE: u8 = 8;
    pub(crate) const PING: u8 = 9;
    pub(crate) const PONG: u8 = 10;
}

/// Longest frame accepted from a server, bytes: far above every workload, far below a wild length.
const FRAME_MAX: u64 = 16 * 1024 * 1024;

/// One whole frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
    /// Bytes on the wire, header included.
    pub(crate) len: usize,
}

/// Reads the frame at the start of `bytes`; `None` when it is not complete yet.
///
/// # Errors
/// What a server did that it must not: masked, fragmented, reserved bits, or absurdly long. Fragments
/// are legal but no server we measure sends them, so they are reported instead of joined.
pub(crate) fn parse_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, String> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err("a masked frame (RFC 6455 section 5.1 forbids it)".into());
    }
    if first & 0xf0 != 0x80 {
        return Err(format!("a fragmented frame or reserved bits, first byte {first:#04x}"));
    }
    let (len, header) = match second & 0x7f {
        126 => match rest {
            [a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 4),
            _ => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(len) => (u64::from_be_bytes(*len), 10),
            None => return Ok(None),
        },
        len => (u64::from(len), 2),
    };
    if len > FRAME_MAX {
        return Err(format!("a frame of {len} bytes"));
    }
    let len = header + len as usize;
    Ok(bytes.get(header..len).map(|payload| Frame { opcode: first & 0x0f, payload, len }))
}

/// Appends one masked frame.
pub(crate) fn push_frame(out: &mut Vec<u8>, opcode: u8, mask: [u8; 4], payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    for chunk in out[start..].chunks_mut(4) {
        chunk.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// The upgrade request (RFC 6455 §4.1). `key` is 16 random bytes, as they are.
pub(crate) fn upgrade_request(host: &str, path: &str, key: [u8; 16], subprotocol: Option<&str>) -> Vec<u8> {
    let key = STANDARD.encode_to_string(key);
    let offer = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{offer}\r\n"
    )
    .into_bytes()
}

/// Checks the answer to [`upgrade_request`]; the length of its head once that is complete.
///
/// # Errors
/// Why the connection cannot be used, for people: the status and body of a refusal, a wrong accept
/// value, a subprotocol other than the one offered.
pub(crate) fn check_upgrade(
    answer: &[u8],
    key: [u8; 16],
    subprotocol: Option<&str>,
) -> Result<Option<usize>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let len = match head.parse(answer) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if answer.len() < 64 * 1024 => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("an answer head of more than 64 KiB".into()),
        Err(error) => return Err(format!("the answer is not HTTP: {error}")),
    };
    if head.code != Some(101) {
        let status = format!("{} {}", head.code.unwrap_or(0), head.reason.unwrap_or(""));
        let body = String::from_utf8_lossy(&answer[len..]);
        return Err(format!("{} {}", status.trim_end(), body.trim()).trim_end().to_owned());
    }
    let header = |name: &str| {
        head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    if header("Sec-WebSocket-Accept") != Some(accept_value(key).as_bytes()) {
        return Err("101 with a wrong Sec-WebSocket-Accept".into());
    }
    let chosen = header("Sec-WebSocket-Protocol");
    if chosen != subprotocol.map(str::as_bytes) {
        let chosen = chosen.map(String::from_utf8_lossy);
        return Err(format!("subprotocol {chosen:?} where {subprotocol:?} was offered"));
    }
    Ok(Some(len))
}

/// Reads the HTTP/1.1 answer at the start of `bytes`: status and length, body included; `None` when it is
/// not complete yet.
///
/// # Errors
/// What a server did that it must not: not HTTP, or a body without a length (RFC 9112 §6.3 allows chunks,
/// but the answers asked for here have no body to speak of).
pub(crate) fn parse_answer(bytes: &[u8]) -> Result<Option<(u16, usize)>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() < 64 * 1024 => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("an answer head of more than 64 KiB".into()),
        Err(error) => return Err(format!("the answer is not HTTP: {error}")),
    };
    let status = head.code.unwrap_or(0);
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body = match length {
        Some(length) => std::str::from_utf8(length.value).ok().and_then(|text| text.trim().parse().ok()),
        None if status == 204 => Some(0),
        None => None,
    };
    let body: usize = body.ok_or_else(|| format!("an answer {status} without a Content-Length"))?;
    Ok((bytes.len() >= len + body).then_some((status, len + body)))
}

/// RFC 6455 §4.2.2, point 5.4.
fn accept_value(key: [u8; 16]) -> String {
    let mut hash = Sha1::new();
    hash.update(STANDARD.encode_to_string(key));
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode_to_string(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_value_of_rfc_6455_section_1_3() {
        assert_eq!(accept_value(*b"the sample nonce"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_of_every_length_form_are_read_at_any_split() {
        for len in [0usize, 125, 126, 0xffff, 0x1_0000] {
            let mut frame = Vec::new();
            push_frame(&mut frame, opcode::TEXT, [0; 4], &vec![b'x'; len]);
            // A zero mask leaves the payload; dropping bit and key makes it a server's frame.
            frame[1] &= 0x7f;
            let header = frame.len() - len - 4;
            frame.drain(header..header + 4);
            for cut in (0..header + 1).chain([frame.len() - 1]).filter(|&cut| cut < frame.len()) {
                assert_eq!(parse_frame(&frame[..cut]), Ok(None), "{len} cut at {cut}");
            }
            let whole = parse_frame(&frame).unwrap().unwrap();
            assert_eq!((whole.opcode, whole.payload.len(), whole.len), (opcode::TEXT, len, frame.len()));
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_named() {
        assert!(parse_frame(&[0x81, 0x80, 0, 0, 0, 0]).unwrap_err().contains("masked"));
        assert!(parse_frame(&[0x01, 0]).unwrap_err().contains("fragmented"));
        assert!(parse_frame(&[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0]).unwrap_err().contains("bytes"));
    }

    #[test]
    fn upgrade_answers() {
        let key = *b"the sample nonce";
        let good =
            "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert_eq!(check_upgrade(good.as_bytes(), key, None), Ok(None));
        let whole = format!("{good}\r\n");
        assert_eq!(check_upgrade(whole.as_bytes(), key, None), Ok(Some(whole.len())));
        assert!(check_upgrade(whole.as_bytes(), *b"some other nonce", None).unwrap_err().contains("Accept"));
        assert!(check_upgrade(whole.as_bytes(), key, Some("json")).unwrap_err().contains("subprotocol"));
        assert_eq!(parse_answer(&whole.as_bytes()[..20]), Ok(None));
        let refused = check_upgrade(b"HTTP/1.1 401 Unauthorized\r\n\r\nno token", key, None);
        assert_eq!(refused.unwrap_err(), "401 Unauthorized no token");
    }

    #[test]
    fn answers_are_read_at_any_split_and_one_by_one() {
        let one = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
        let two = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno";
        for cut in 0..two.len() {
            assert_eq!(parse_answer(&two[..cut]), Ok(None), "cut at {cut}");
        }
        let both = [&one[..], two].concat();
        assert_eq!(parse_answer(&both), Ok(Some((202, one.len()))));
        assert_eq!(parse_answer(&both[one.len()..]), Ok(Some((404, two.len()))));
        assert!(parse_answer(b"HTTP/1.1 200 OK\r\n\r\n").unwrap_err().contains("Content-Length"));
    }
}
