//! Generates the code for `proto/`.

fn main() -> std::io::Result<()> {
    notnets_build::configure().compile_protos(&["proto/hello.proto"], &["proto"])?;
    // Blocks stay where they are: a field of type `Bytes` refers to them.
    notnets_build::configure().bytes(".").compile_protos(&["proto/kv_cache.proto"], &["proto"])?;
    // The last one's descriptors are kept for reflection.
    notnets_build::configure().compile_protos(&["proto/greeter.proto"], &["proto"])
}
