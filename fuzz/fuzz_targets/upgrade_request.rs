//! Bytes as a request head. Whatever is accepted is the same in every split, ends where `httparse` says it
//! ends, has one meaning, and can be answered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhub_protocol::http::{BodyLength, Head, HeadLimits, parse_head, write_refusal};
use ringhub_protocol::uri::{percent_decode, query_pairs};
use ringhub_protocol::ws::DeflateOffer;
use ringhub_protocol::ws::extension::WINDOW_BITS_MIN;
use ringhub_protocol::ws::handshake::{Upgrade, choose, write_accept};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 2048 };

fuzz_target!(|bytes: &[u8]| {
    let head = match parse_head(bytes, &LIMITS) {
        Ok(None) => {
            assert!(bytes.len() < LIMITS.head_bytes_max, "the limit is reached and it waits for more");
            return;
        }
        Err(fault) => {
            assert!((400..600).contains(&fault.status) && !fault.reason.is_empty());
            // Nothing that is refused whole is accepted at some length on the way.
            for end in 0..bytes.len().min(LIMITS.head_bytes_max) {
                assert!(!matches!(parse_head(&bytes[..end], &LIMITS), Ok(Some(_))), "accepted at {end}");
            }
            return;
        }
        Ok(Some(head)) => head,
    };

    for end in 0..head.consumed {
        assert!(matches!(parse_head(&bytes[..end], &LIMITS), Ok(None)), "no verdict yet at {end}");
    }
    check_against_httparse(bytes, &head);
    check_framing(&bytes[..head.consumed], &head);

    assert!(head.path().starts_with('/') || head.path() == "*");
    let _ = percent_decode(head.path());
    let _ = head.query().map(|query| query_pairs(query).filter(Result::is_ok).count());
    match head.upgrade() {
        Upgrade::NotUpgrade => {}
        Upgrade::Upgrade(request) => {
            assert!(head.method == "GET" && head.is_http_11 && head.body == BodyLength::Known(0));
            let (_, echoed) = choose(&request.subprotocols);
            let mut out = Vec::new();
            let deflate = DeflateOffer::choose(&request.deflate, WINDOW_BITS_MIN);
            write_accept(&mut out, request.key, echoed, deflate);
            assert_eq!(response_status(&out), 101);
        }
        Upgrade::Refused(fault) => {
            let mut out = Vec::new();
            write_refusal(
                &mut out,
                fault.status,
                fault.extra_headers(),
                "text/plain",
                fault.reason.as_bytes(),
            );
            assert!(matches!(response_status(&out), 400 | 426));
        }
    }
});

fn check_against_httparse(bytes: &[u8], head: &Head<'_>) {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(head.consumed)));
    assert_eq!((request.method, request.path), (Some(head.method), Some(head.target)));
    assert!(request.headers.iter().map(|header| (header.name, header.value)).eq(head.headers()));
}

/// One length at most, and no line that another reader could end or join elsewhere.
fn check_framing(bytes: &[u8], head: &Head<'_>) {
    let count = |name: &str| head.header_values(name).count();
    assert!(count("host") <= 1);
    assert!(count("content-length") + count("transfer-encoding") <= 1);
    assert_eq!(head.body == BodyLength::Chunked, count("transfer-encoding") == 1);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' => assert_eq!(bytes[at - 1], b'\r'),
            b'\r' => assert_eq!(bytes[at + 1], b'\n'),
            0 => panic!("a NUL byte"),
            _ => {}
        }
    }
    let lines = bytes.split(|&byte| byte == b'\n');
    assert!(
        !lines.into_iter().any(|line| line.starts_with(b" ") || line.starts_with(b"\t")),
        "a folded line"
    );
}

fn response_status(bytes: &[u8]) -> u16 {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    assert!(response.parse(bytes).is_ok_and(|status| status.is_complete()), "an answer that parses");
    response.code.unwrap_or_default()
}
