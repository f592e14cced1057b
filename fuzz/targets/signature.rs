//! `cargo xtask fuzz signature`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zen_fuzz::signature(data));
