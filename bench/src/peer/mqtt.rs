//! MQTT 3.1.1 (OASIS standard of 29 October 2014), as far as one topic at QoS 0 needs it.

use super::{CHANNEL, Role, Unit};

/// Section 3.1: protocol level 4, clean session, no keep-alive, and an empty client id, for which the
/// server makes one up (MQTT-3.1.3-6).
pub(super) const CONNECT: [u8; 14] = *b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0";

/// What stands before a payload of `size` bytes published at QoS 0 (section 3.3).
pub(super) fn push_head(out: &mut Vec<u8>, size: usize) {
    out.push(0x30);
    let mut remaining = 2 + CHANNEL.len() + size;
    loop {
        let digit = (remaining % 128) as u8;
        remaining /= 128;
        out.push(if remaining > 0 { digit | 0x80 } else { digit });
        if remaining == 0 {
            break;
        }
    }
    out.extend_from_slice(&(CHANNEL.len() as u16).to_be_bytes());
    out.extend_from_slice(CHANNEL.as_bytes());
}

/// The packet at the start of `bytes` and its length; `None` while it is incomplete.
pub(super) fn read(bytes: &[u8], role: Role) -> Result<Option<(Unit<'_>, usize)>, String> {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((remaining, digits)) = remaining_length(rest)? else { return Ok(None) };
    let header = 1 + digits;
    let Some(body) = bytes.get(header..header + remaining) else { return Ok(None) };
    let unit = match (kind, body) {
        (0x20, [_, 0]) => match role {
            Role::Member => Unit::Answer(subscribe()),
            Role::Publisher => Unit::Ready,
        },
        (0x20, [_, code]) => return Err(format!("CONNACK with return code {code} (section 3.2.2.3)")),
        (0x90, [0, 1, 0]) => Unit::Ready,
        (0x90, _) => return Err("the subscription was refused or granted at another QoS".into()),
        // DUP and RETAIN may be set; QoS must be 0, as subscribed.
        (0x30 | 0x31 | 0x38 | 0x39, [high, low, rest @ ..]) => {
            let topic = usize::from(u16::from_be_bytes([*high, *low]));
            let payload = rest.get(topic..).ok_or("a PUBLISH shorter than its topic")?;
            Unit::Payload(payload)
        }
        (0xd0, []) => Unit::Nothing,
        _ => return Err(format!("a packet that begins with {kind:#04x} and {remaining} bytes")),
    };
    Ok(Some((unit, header + remaining)))
}

/// Section 2.2.3: base 128, least significant first, at most four digits.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut value = 0;
    for (index, &digit) in bytes.iter().take(4).enumerate() {
        value |= usize::from(digit & 0x7f) << (7 * index);
        if digit & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err("a remaining length of more than four bytes".into()) } else { Ok(None) }
}

/// Section 3.8: packet id 1, one topic filter, QoS 0.
fn subscribe() -> Vec<u8> {
    let mut out = vec![0x82, (5 + CHANNEL.len()) as u8, 0, 1];
    out.extend_from_slice(&(CHANNEL.len() as u16).to_be_bytes());
    out.extend_from_slice(CHANNEL.as_bytes());
    out.push(0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greeting() {
        assert_eq!(CONNECT[1] as usize, CONNECT.len() - 2);
        let (unit, len) = read(&[0x20, 2, 0, 0], Role::Member).unwrap().unwrap();
        assert_eq!((unit, len), (Unit::Answer(b"\x82\x0a\0\x01\0\x05bench\0".to_vec()), 4));
        assert_eq!(read(&[0x20, 2, 0, 0], Role::Publisher), Ok(Some((Unit::Ready, 4))));
        assert!(read(&[0x20, 2, 0, 5], Role::Member).unwrap_err().contains("return code 5"));
        assert_eq!(read(&[0x90, 3, 0, 1, 0], Role::Member), Ok(Some((Unit::Ready, 5))));
        read(&[0x90, 3, 0, 1, 0x80], Role::Member).unwrap_err();
    }

    /// The non-normative examples of table 2.4, at their borders.
    #[test]
    fn remaining_lengths() {
        for (bytes, value) in [
            (&[0x7f][..], 127),
            (&[0x80, 0x01], 128),
            (&[0xff, 0x7f], 16_383),
            (&[0x80, 0x80, 0x01], 16_384),
            (&[0xff, 0xff, 0xff, 0x7f], 268_435_455),
        ] {
            assert_eq!(remaining_length(bytes), Ok(Some((value, bytes.len()))));
            assert_eq!(remaining_length(&bytes[..bytes.len() - 1]), Ok(None));
        }
        remaining_length(&[0xff; 4]).unwrap_err();
    }

    #[test]
    fn only_quality_of_service_0_is_a_delivery() {
        let packet = b"\x30\x09\0\x05benchhi";
        assert_eq!(read(packet, Role::Member), Ok(Some((Unit::Payload(b"hi"), packet.len()))));
        assert_eq!(read(&packet[..10], Role::Member), Ok(None));
        assert!(read(b"\x32\x0b\0\x05bench\0\x01hi", Role::Member).unwrap_err().contains("0x32"));
        read(b"\x30\x03\0\x05b", Role::Member).unwrap_err();
        assert_eq!(read(&[0xd0, 0], Role::Member), Ok(Some((Unit::Nothing, 2))));
    }
}
