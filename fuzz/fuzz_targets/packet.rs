//! What is said on a link's socket.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/notnets-core/tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::parsers::packet(bytes));
