#![no_main]
use libfuzzer_sys::fuzz_target;
#[allow(dead_code)]
#[path = "../../relay/src/cookies.rs"]
mod cookies;
fuzz_target!(|_bytes: &[u8]| {});
