//! What a peer may write, whatever it is: the bodies of the fuzz targets in `fuzz/`.
//!
//! Each takes any bytes and panics when something is wrong. `hostile_input.rs` runs them on seeded
//! random bytes, so that they are part of the ordinary tests too.

pub mod application;
pub mod connection;
pub mod input;
pub mod parsers;
