//! The `notnets` command.
fn main() {}
