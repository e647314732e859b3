//! A server's answer to a hello.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/notnets-core/tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::parsers::answers(bytes));
