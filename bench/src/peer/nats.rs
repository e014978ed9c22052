//! The NATS client protocol: lines ended by CR LF, payloads after `MSG` counted in bytes
//! (docs.nats.io, "Client Protocol").

use super::{CHANNEL, Role, Unit};

/// Longest control line read; the server's `INFO` is the longest.
const LINE_MAX: usize = 16 * 1024;

/// What stands before a published payload of `size` bytes; CR LF follows it.
pub(super) fn push_head(out: &mut Vec<u8>, size: usize) {
    out.extend_from_slice(format!("PUB {CHANNEL} {size}\r\n").as_bytes());
}

/// The unit at the start of `bytes` and its length; `None` while it is incomplete.
pub(super) fn read(bytes: &[u8], role: Role) -> Result<Option<(Unit<'_>, usize)>, String> {
    let Some(end) = bytes.windows(2).take(LINE_MAX).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > LINE_MAX { Err("a control line of many bytes".into()) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| "a control line that is not text")?;
    let after = end + 2;
    let (verb, arguments) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let unit = match verb {
        // MSG subject sid [reply-to] size
        "MSG" => {
            let size = arguments.rsplit([' ', '\t']).next().and_then(|size| size.parse::<usize>().ok());
            let size = size.ok_or_else(|| format!("the line {line}"))?;
            let Some(rest) = bytes.get(after..after + size + 2) else { return Ok(None) };
            let (payload, tail) = rest.split_at(size);
            if tail != b"\r\n" {
                return Err(format!("a payload that is not as long as {line} says"));
            }
            return Ok(Some((Unit::Payload(payload), after + size + 2)));
        }
        "INFO" => Unit::Answer(hello(role)),
        "PING" => Unit::Answer(b"PONG\r\n".to_vec()),
        // Ours of the greeting: all that was said before it has been handled.
        "PONG" => Unit::Ready,
        "+OK" => Unit::Nothing,
        _ => return Err(format!("the server says {line}")),
    };
    Ok(Some((unit, after)))
}

fn hello(role: Role) -> Vec<u8> {
    // Protocol 0: `INFO` comes once, so it may be answered whenever it comes.
    let connect = r#"{"verbose":false,"pedantic":false,"lang":"rust","version":"0","protocol":0}"#;
    let subscribe = match role {
        Role::Member => format!("SUB {CHANNEL} 1\r\n"),
        Role::Publisher => String::new(),
    };
    format!("CONNECT {connect}\r\n{subscribe}PING\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greeting_subscribes_members_only() {
        let (answer, len) = read(b"INFO {}\r\nrest", Role::Member).unwrap().unwrap();
        let Unit::Answer(answer) = answer else { panic!("{answer:?}") };
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("CONNECT {\"verbose\":false") && len == 9, "{answer}");
        assert!(answer.ends_with("}\r\nSUB bench 1\r\nPING\r\n"), "{answer}");
        let (answer, _) = read(b"INFO {}\r\n", Role::Publisher).unwrap().unwrap();
        assert!(matches!(answer, Unit::Answer(answer) if !answer.windows(3).any(|part| part == b"SUB")));
    }

    #[test]
    fn messages_with_and_without_a_reply_subject() {
        let expected = Ok(Some((Unit::Payload(&b"abc"[..]), 20)));
        assert_eq!(read(b"MSG bench 1 3\r\nabc\r\nMSG", Role::Member), expected);
        let (unit, _) = read(b"MSG bench 1 inbox 3\r\nabc\r\n", Role::Member).unwrap().unwrap();
        assert_eq!(unit, Unit::Payload(b"abc"));
        assert_eq!(read(b"MSG bench 1 3\r\nabc\r", Role::Member), Ok(None));
        assert_eq!(read(b"", Role::Member), Ok(None));
    }

    #[test]
    fn what_is_against_the_protocol_is_named() {
        for bytes in
            [&b"-ERR 'Slow Consumer'\r\n"[..], b"MSG bench 1 x\r\n", b"MSG bench 1 2\r\nabcd", b"\xff\r\n"]
        {
            read(bytes, Role::Member).unwrap_err();
        }
        assert!(read(b"-ERR 'Slow Consumer'\r\n", Role::Member).unwrap_err().contains("Slow Consumer"));
    }
}
