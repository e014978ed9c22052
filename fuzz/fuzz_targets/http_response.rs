//! Bytes as an answer's head: what is accepted is accepted at its end and at no shorter length, its lines are the
//! headers of a second reading, and its framing follows from them in one way only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhub_protocol::http::{Answer, HEADERS_MAX, ResponseBody, ResponseHead, parse_response};

/// Longer heads are cut at fewer places: the target would only be slow.
const CUTS_MAX: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse_response(bytes);
    let consumed = match whole {
        Ok(Some(Answer::Interim(consumed))) => consumed,
        Ok(Some(Answer::Head(head))) => {
            check(&bytes[..head.consumed], &head);
            head.consumed
        }
        Ok(None) | Err(_) => bytes.len(),
    };
    assert!(consumed <= bytes.len());
    for end in 0..consumed.min(CUTS_MAX) {
        match parse_response(&bytes[..end]) {
            Ok(Some(_)) => panic!("accepted at {end} of {consumed}"),
            Ok(None) => {}
            Err(_) => assert!(whole.is_err(), "refused at {end}, and accepted at {consumed}"),
        }
    }
    if let Ok(Some(_)) = whole {
        let more = [&bytes[..consumed], b"HTTP/1.1 200 OK\r\n\r\n"].concat();
        assert_eq!(parse_response(&more), whole, "what comes behind it changes it");
    }
});

fn check(bytes: &[u8], head: &ResponseHead<'_>) {
    assert!(head.status >= 200 && bytes.ends_with(head.lines));
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    // The lines alone, as the relay reads them when somebody asks for one.
    let Ok(httparse::Status::Complete((length, headers))) = httparse::parse_headers(head.lines, &mut headers)
    else {
        panic!("lines that do not parse")
    };
    assert_eq!(length, head.lines.len());
    let values = |name: &str| {
        let named: Vec<&[u8]> = headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
            .collect();
        named
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match head.body {
        ResponseBody::Known(0) if matches!(head.status, 204 | 304) => {}
        ResponseBody::Known(length) => {
            assert!(codings.is_empty() && !lengths.is_empty());
            for value in lengths {
                let text = std::str::from_utf8(value).expect("digits").trim();
                assert!(text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse() == Ok(length));
            }
        }
        ResponseBody::Chunked => assert!(lengths.is_empty() && codings.len() == 1),
        ResponseBody::UntilClose => assert!(lengths.is_empty() && codings.is_empty() && head.is_last),
    }
}
