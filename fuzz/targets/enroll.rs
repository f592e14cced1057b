//! `cargo xtask fuzz enroll`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zen_fuzz::enroll(data));
