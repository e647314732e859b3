//! Generates what tonic-build generates, from `proto/`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    notnets_build::compile(&["proto/greeter.proto"], &["proto"])
}
