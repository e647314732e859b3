//! Generates the echo service: tonic's stubs, and ours.

use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    notnets_build::compile(&["proto/echo.proto"], &["proto"])?;
    let folder = PathBuf::from(env::var("OUT_DIR")?).join("stubs");
    fs::create_dir_all(&folder)?;
    notnets_build::configure().out_dir(folder).compile_protos(&["proto/echo.proto"], &["proto"])?;
    Ok(())
}
