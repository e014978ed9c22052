//! The PROXY protocol, version 2: the header with which a proxy that does not look into the bytes says whom it
//! speaks for (haproxy.org, `proxy-protocol.txt` §2.2).
//!
//! The parser is our own: the layout is one fixed block, and a crate for it would bring version 1's text form and
//! the extensions, which are passed over here. What must stay true: nothing but a whole header is ever consumed,
//! and what cannot become one is refused at its first wrong byte, so that a client that speaks to a port for
//! proxies does not wait for a deadline.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first bytes of every header; no other protocol begins so.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes before the addresses.
const FIXED: usize = 16;

/// Longest header, in bytes, extensions included: more than proxies send, unless they add a whole certificate.
pub const HEADER_BYTES_MAX: usize = 4096;

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its length in bytes; what the client said follows.
    pub consumed: usize,
    /// The client's address; `None` if the proxy speaks for itself or does not know.
    pub source: Option<IpAddr>,
}

/// Why bytes are no header: close the connection, there is nobody to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// They are something else.
    #[error("the connection does not begin with a PROXY protocol version 2 header")]
    NotAHeader,
    /// Another version, or a command or transport that does not exist or is not for a stream.
    #[error("the PROXY protocol header has an unknown version, command or transport")]
    Unknown,
    /// Its length does not hold the addresses it announces.
    #[error("the PROXY protocol header is too short for its addresses")]
    Short,
    /// Longer than [`HEADER_BYTES_MAX`].
    #[error("the PROXY protocol header is longer than the limit")]
    Long,
}

/// Reads a header from the start of `bytes`; `None` when its end has not arrived yet.
///
/// # Errors
///
/// [`ProxyFault`] as soon as it shows.
pub fn parse_proxy_header(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyFault> {
    let signature = &bytes[..bytes.len().min(SIGNATURE.len())];
    if !SIGNATURE.starts_with(signature) {
        return Err(ProxyFault::NotAHeader);
    }
    let is_proxied = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => false,
        Some(0x21) => true,
        Some(_) => return Err(ProxyFault::Unknown),
    };
    let Some(&transport) = bytes.get(13) else { return Ok(None) };
    let addresses = match transport {
        // A proxy that speaks for itself may name anything there.
        _ if !is_proxied => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err(ProxyFault::Unknown),
    };
    let Some(&[high, low]) = bytes.get(14..FIXED) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < addresses {
        return Err(ProxyFault::Short);
    }
    let consumed = FIXED + length;
    if consumed > HEADER_BYTES_MAX {
        return Err(ProxyFault::Long);
    }
    let Some(block) = bytes.get(FIXED..consumed) else { return Ok(None) };
    let source = match addresses {
        12 => block.first_chunk::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(*octets))),
        36 => block.first_chunk::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(*octets)).to_canonical()),
        _ => None,
    };
    Ok(Some(ProxyHeader { consumed, source }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, transport: u8, block: &[u8]) -> Vec<u8> {
        let length = (block.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, transport], &length, block].concat()
    }

    fn v4() -> Vec<u8> {
        header(0x21, 0x11, &[203, 0, 113, 9, 10, 0, 0, 1, 0xc0, 0x01, 0x01, 0xbb])
    }

    #[test]
    fn headers_of_every_kind() {
        let v6: Vec<u8> = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], [0; 16]]
            .concat()
            .into_iter()
            .chain([0; 4])
            .collect();
        let mapped: Vec<u8> = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 1], &[0; 20]].concat();
        let with_extension = [&v4()[16..], &[0x04, 0, 3, 1, 2, 3]].concat();
        for (bytes, source) in [
            (v4(), Some("203.0.113.9")),
            (header(0x21, 0x11, &with_extension), Some("203.0.113.9")),
            (header(0x21, 0x21, &v6), Some("2001:db8::7")),
            (header(0x21, 0x21, &mapped), Some("192.0.2.1")),
            (header(0x21, 0x31, &[b'/'; 216]), None),
            (header(0x21, 0x00, &[]), None),
            (header(0x21, 0x00, b"whatever"), None),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &[1; 12]), None),
            (header(0x20, 0xff, b"?"), None),
            (header(0x21, 0x00, &[0; HEADER_BYTES_MAX - 16]), None),
        ] {
            let source = source.map(|text| text.parse().unwrap());
            let expected = ProxyHeader { consumed: bytes.len(), source };
            assert_eq!(parse_proxy_header(&bytes), Ok(Some(expected)), "{bytes:?}");
            let more = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse_proxy_header(&more), Ok(Some(expected)), "what follows is not touched");
            for at in 0..bytes.len() {
                assert_eq!(parse_proxy_header(&bytes[..at]), Ok(None), "cut at {at}: {bytes:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
        for (bytes, first_wrong, fault) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), 0, ProxyFault::NotAHeader),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n".to_vec(), 0, ProxyFault::NotAHeader),
            (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), 11, ProxyFault::NotAHeader),
            (header(0x11, 0x11, &[0; 12]), 12, ProxyFault::Unknown),
            (header(0x22, 0x11, &[0; 12]), 12, ProxyFault::Unknown),
            (header(0x21, 0x12, &[0; 12]), 13, ProxyFault::Unknown),
            (header(0x21, 0x41, &[0; 12]), 13, ProxyFault::Unknown),
            (header(0x21, 0x11, &[0; 11]), 15, ProxyFault::Short),
            (header(0x21, 0x21, &[0; 35]), 15, ProxyFault::Short),
            (header(0x21, 0x00, &[0; HEADER_BYTES_MAX - 15]), 15, ProxyFault::Long),
            (header(0x20, 0x00, &[0; 65_535]), 15, ProxyFault::Long),
        ] {
            for at in 0..=first_wrong {
                assert_eq!(parse_proxy_header(&bytes[..at]), Ok(None), "{at} bytes of {bytes:?}");
            }
            assert_eq!(parse_proxy_header(&bytes[..=first_wrong]), Err(fault));
            assert_eq!(parse_proxy_header(&bytes), Err(fault));
        }
    }
}
