#![no_main]
use libfuzzer_sys::fuzz_target;
#[allow(dead_code)]
#[path = "../../relay/src/jwks.rs"]
mod jwks;
fuzz_target!(|_bytes: &[u8]| {});
