//! Generates the suite's own services.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    notnets_build::compile(&["proto/conformance.proto"], &["proto"])
}
