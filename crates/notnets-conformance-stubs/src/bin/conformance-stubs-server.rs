//! The suite's server, with our stubs.

extern crate notnets_conformance_stubs as notnets_conformance;

#[path = "../../../notnets-conformance/src/bin/conformance-server.rs"]
mod program;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    program::main()
}
