//! What a client offers of permessage-deflate, and what it is answered (RFC 6455 §9.1, RFC 7692 §7.1).
//!
//! What must stay true: a header that breaks the grammar fails the handshake; an offer that is well-formed and
//! cannot be met (an unknown parameter, one twice, a value out of bounds) is passed over, and so is every other
//! extension; what is answered is the first offer that can be met. No context is ever taken over, in neither
//! direction: the answer says so, whether the client asked for it or not, so that a connection keeps no state
//! between messages and a message is the same bytes for every receiver.

/// One offer of permessage-deflate; the default is one without parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeflateOffer {
    /// `server_max_window_bits`, if the client gave it: 9 to 15.
    server_max_window_bits: Option<u8>,
}

/// The largest window there is, as a power of two.
pub const WINDOW_BITS_MAX: u8 = 15;
/// The smallest window the codec can be held to; RFC 7692 has 8, too, which no zlib can do without its header.
pub const WINDOW_BITS_MIN: u8 = 9;

/// The header is not what RFC 6455 §9.1 allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedExtensions;

impl DeflateOffer {
    /// The first offer that a server can meet whose windows have at least `window_bits_min`.
    pub fn choose(offers: &[Self], window_bits_min: u8) -> Option<Self> {
        offers.iter().copied().find(|offer| offer.window_bits() >= window_bits_min)
    }

    /// The largest window, as a power of two, that what is sent to the client may need: 9 to 15.
    pub fn window_bits(self) -> u8 {
        self.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX)
    }

    /// Appends the value of the answer's `Sec-WebSocket-Extensions`.
    pub(super) fn write_answer(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"permessage-deflate; server_no_context_takeover; client_no_context_takeover");
        if let Some(bits) = self.server_max_window_bits {
            out.extend_from_slice(b"; server_max_window_bits=");
            out.extend_from_slice(bits.to_string().as_bytes());
        }
    }

    /// One element of the header: an offer, or `None` for what is passed over.
    ///
    /// # Errors
    ///
    /// The element is no extension.
    pub(super) fn parse(element: &[u8]) -> Result<Option<Self>, MalformedExtensions> {
        let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().filter(|name| is_token(name)).ok_or(MalformedExtensions)?;
        let mut offer = Some(Parameters::default());
        for part in parts {
            let (name, value) = parse_parameter(part)?;
            offer = offer.and_then(|parameters| parameters.with(name, value));
        }
        let offer = offer.filter(|_| name == b"permessage-deflate");
        Ok(offer.map(|parameters| Self { server_max_window_bits: parameters.server_max_window_bits }))
    }
}

/// What is known of an offer so far.
#[derive(Default)]
struct Parameters {
    server_max_window_bits: Option<u8>,
    client_max_window_bits: bool,
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
}

impl Parameters {
    /// With one parameter more; `None` if the offer is to be declined for it (RFC 7692 §7.1).
    fn with(mut self, name: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let is_repeated = match (name, value) {
            (b"server_no_context_takeover", None) => {
                std::mem::replace(&mut self.server_no_context_takeover, true)
            }
            (b"client_no_context_takeover", None) => {
                std::mem::replace(&mut self.client_no_context_takeover, true)
            }
            // Whatever window the client has, its messages can be read with the largest.
            (b"client_max_window_bits", value) => {
                if let Some(value) = value {
                    parse_window_bits(value)?;
                }
                std::mem::replace(&mut self.client_max_window_bits, true)
            }
            (b"server_max_window_bits", Some(value)) => {
                let bits = parse_window_bits(value).filter(|&bits| bits >= WINDOW_BITS_MIN)?;
                self.server_max_window_bits.replace(bits).is_some()
            }
            _ => return None,
        };
        (!is_repeated).then_some(self)
    }
}

/// 8 to 15, without leading zeros (RFC 7692 §7.1.2).
fn parse_window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// A name and, if there is one, a value: a token, quoted or not.
fn parse_parameter(part: &[u8]) -> Result<(&[u8], Option<&[u8]>), MalformedExtensions> {
    let Some(equals) = part.iter().position(|&byte| byte == b'=') else {
        return if is_token(part) { Ok((part, None)) } else { Err(MalformedExtensions) };
    };
    let (name, value) = (part[..equals].trim_ascii(), part[equals + 1..].trim_ascii());
    // What stands in quotes must be a token, too, so nothing in there needs a backslash.
    let value = match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    };
    if is_token(name) && is_token(value) { Ok((name, Some(value))) } else { Err(MalformedExtensions) }
}

/// Whether this is a token (RFC 9110 §5.6.2).
pub(super) fn is_token(value: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !value.is_empty() && value.iter().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(element: &str) -> Option<String> {
        DeflateOffer::parse(element.as_bytes()).expect("well-formed").map(|offer| {
            let mut out = Vec::new();
            offer.write_answer(&mut out);
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn answers_never_take_context_over() {
        let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=8",
            "permessage-deflate ; client_max_window_bits = \"15\"",
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        ] {
            assert_eq!(answer(offer).as_deref(), Some(plain), "{offer}");
        }
        for bits in 9..=15 {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}; client_max_window_bits");
            assert_eq!(answer(&offer), Some(format!("{plain}; server_max_window_bits={bits}")));
        }
    }

    #[test]
    fn passes_over_what_cannot_be_met() {
        for offer in [
            "x-webkit-deflate-frame",
            "permessage-bzip2; client_max_window_bits",
            "Permessage-Deflate",
            "permessage-deflate; unknown",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=015",
            "permessage-deflate; server_max_window_bits=1e1",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover=true",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        ] {
            assert_eq!(answer(offer), None, "{offer}");
        }
    }

    #[test]
    fn refuses_what_breaks_the_grammar() {
        for element in [
            "permessage deflate",
            "; client_max_window_bits",
            "permessage-deflate;",
            "permessage-deflate;; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; =15",
            "permessage-deflate; a=b=c",
            "permessage-deflate; client_max_window_bits=\"15",
            "permessage-deflate; client_max_window_bits=\"1 5\"",
            "permessage-deflate; client_max_window_bits=\"\"",
            "permessage-deflate; a(b)",
            "permessage-deflate\0",
            "other; a=\u{e4}",
        ] {
            assert_eq!(DeflateOffer::parse(element.as_bytes()), Err(MalformedExtensions), "{element}");
        }
    }

    #[test]
    fn chooses_the_first_offer_with_windows_large_enough() {
        let offer = |server_max_window_bits| DeflateOffer { server_max_window_bits };
        let offers = [offer(Some(9)), offer(Some(12)), offer(None), offer(Some(15))];
        assert_eq!(DeflateOffer::choose(&offers, 9), Some(offers[0]));
        assert_eq!(DeflateOffer::choose(&offers, 10), Some(offers[1]));
        assert_eq!(DeflateOffer::choose(&offers, 15), Some(offers[2]));
        assert_eq!(DeflateOffer::choose(&offers[..2], 15), None);
        assert_eq!(DeflateOffer::choose(&[], 9), None);
    }
}
