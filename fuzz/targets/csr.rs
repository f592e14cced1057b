//! `cargo xtask fuzz csr`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zen_fuzz::csr(data));
