//! Any bytes as a PROXY protocol header. What is whole stays the same with more behind it and is whole at no shorter
//! length; what is refused stays refused; what wants more is short.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhub_protocol::proxy::{HEADER_BYTES_MAX, parse_proxy_header};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse_proxy_header(bytes);
    if let Ok(None) = whole {
        assert!(bytes.len() < HEADER_BYTES_MAX);
    }
    let Ok(Some(header)) = whole else {
        let more = [bytes, b"GET / HTTP/1.1"].concat();
        assert!(whole == Ok(None) || parse_proxy_header(&more) == whole);
        return;
    };
    assert!(header.consumed <= bytes.len() && (16..=HEADER_BYTES_MAX).contains(&header.consumed));
    for at in 0..header.consumed {
        assert_eq!(parse_proxy_header(&bytes[..at]), Ok(None));
    }
    assert_eq!(parse_proxy_header(&bytes[..header.consumed]), Ok(Some(header)));
});
