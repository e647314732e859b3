//! Generates what tonic-prost-build generates, from `proto/`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    notnets_build::compile(&["proto/hello.proto"], &["proto"])?;
    // The last one's descriptors are kept for reflection.
    notnets_build::compile(&["proto/greeter.proto"], &["proto"])
}
