//! `cargo xtask fuzz request`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zen_fuzz::request(data));
