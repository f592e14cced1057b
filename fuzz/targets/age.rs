//! `cargo xtask fuzz age`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zen_fuzz::age(data));
