//! Generates the code of the services that the command's own tests use.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    notnets_build::compile(&["proto/probe.proto"], &["proto"])
}
