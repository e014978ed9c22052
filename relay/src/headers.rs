//! Headers of events (`event-handlers` §3): names, values for HTTP/2, and the ids of requests.

use bytes::BytesMut;
use hyper::header::{HeaderName, HeaderValue};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const ORIGIN: &str = "webhook-request-origin";
pub(crate) const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";
pub(crate) const REQUEST_ID: &str = "x-ms-client-request-id";
pub(crate) const SIGNATURE: &str = "ce-signature";
pub(crate) const STATE: &str = "ce-connectionstate";
pub(crate) const AWPS_VERSION: &str = "ce-awpsversion";
pub(crate) const COOKIE: &str = "cookie";
pub(crate) const SET_COOKIE: &str = "set-cookie";
pub(crate) const CONTENT_TYPE: &str = "content-type";
pub(crate) const AUTHORIZATION: &str = "authorization";

/// The name of a header whose text is in lower case; those that every event has are not read anew.
pub(crate) fn name(text: &str) -> Option<HeaderName> {
    macro_rules! known {
        ($($text:literal)*) => {
            match text {
                $($text => Some(const { HeaderName::from_static($text) }),)*
                _ => HeaderName::from_bytes(text.as_bytes()).ok(),
            }
        };
    }
    known! {
        "content-type" "ce-specversion" "ce-awpsversion" "ce-type" "ce-source" "ce-id" "ce-time" "ce-connectionid"
        "ce-hub" "ce-eventname" "ce-userid" "ce-subprotocol" "ce-signature" "ce-connectionstate"
        "webhook-request-origin" "x-ms-client-request-id"
    }
}

/// Values, all in one allocation.
#[derive(Debug)]
pub(crate) struct Values(BytesMut);

impl Values {
    /// With room for so many bytes; it grows if they are not enough.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    /// A value; `None` if no header can hold it.
    pub(crate) fn value(&mut self, text: &[u8]) -> Option<HeaderValue> {
        self.0.extend_from_slice(text);
        HeaderValue::from_maybe_shared(self.0.split().freeze()).ok()
    }
}

/// Makes `x-ms-client-request-id`: like a version 4 UUID, but what is random is a start for each process, and then
/// it counts. So no two are alike, and none costs a call into the kernel.
#[derive(Debug)]
pub(crate) struct RequestIds {
    start: u64,
    next: AtomicU64,
}

/// One of them, as text.
pub(crate) type RequestId = [u8; 36];

impl RequestIds {
    pub(crate) fn new() -> Self {
        // Without randomness, ids of two servers may meet in a log; nothing depends on them.
        let random = || getrandom::u64().unwrap_or_default();
        Self { start: random(), next: AtomicU64::new(random()) }
    }

    pub(crate) fn next(&self) -> RequestId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = u128::from(self.start) << 64 | u128::from(self.next.fetch_add(1, Ordering::Relaxed));
        // RFC 9562 §5.4: version and variant.
        let number = number & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let mut text = [b'-'; 36];
        let places = (0..36).filter(|at| !matches!(at, 8 | 13 | 18 | 23));
        for (at, shift) in places.zip((0..32).rev()) {
            text[at] = DIGITS[(number >> (4 * shift)) as usize & 15];
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_and_differ() {
        let ids = RequestIds::new();
        let (first, second) = (ids.next(), ids.next());
        assert_ne!(first, second);
        for id in [first, second] {
            let text = std::str::from_utf8(&id).unwrap();
            let parts: Vec<usize> = text.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{text}");
            assert!(text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
            assert!(id[14] == b'4' && b"89ab".contains(&id[19]), "{text}");
        }
        assert_eq!(first[..18], second[..18], "the start of the process");
    }
}
