//! Generates connectrpc's code, without protoc.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file("echo.proto")?;
    let set = compiler.encode_file_descriptor_set();
    // Cargo watches this file: written anew, it would have everything built anew each time.
    if std::fs::read(&descriptors).ok().as_ref() != Some(&set) {
        std::fs::write(&descriptors, set)?;
    }
    connectrpc_build::Config::new()
        .files(&["echo.proto"])
        .descriptor_set(descriptors)
        .generate_json(false)
        .include_file("_connectrpc.rs")
        .compile()?;
    Ok(())
}
