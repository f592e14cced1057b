//! `cargo xtask fuzz review`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zen_fuzz::review(data));
