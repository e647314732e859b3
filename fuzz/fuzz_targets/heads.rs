//! Metadata, head after head.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/notnets-core/tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::parsers::heads(bytes));
