//! A server whose client may write anything.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/notnets-core/tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::connection::any_peer(
    notnets_core::call::Role::Server,
    bytes
));
