//! A client's hello.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/notnets-core/tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::parsers::terms(bytes));
