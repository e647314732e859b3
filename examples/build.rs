//! Generates the code for `proto/`.

fn main() -> std::io::Result<()> {
    notnets_build::configure().compile_protos(&["proto/hello.proto"], &["proto"])?;
    // The last one's descriptors are kept for reflection.
    notnets_build::configure().compile_protos(&["proto/greeter.proto"], &["proto"])
}
