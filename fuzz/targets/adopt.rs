//! `cargo xtask fuzz adopt`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zen_fuzz::adopt(data));
