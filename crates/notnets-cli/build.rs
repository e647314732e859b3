//! Generates the client and the server of the service that the command's own tests use.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    notnets_build::compile(&["proto/probe.proto"], &["proto"])
}
