//! `cargo xtask fuzz audit`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zen_fuzz::audit(data));
