//! Code generation from `.proto` files without `protoc`.
//!
//! Call [`compile`] from a `build.rs`. It parses the files with `protox`, lets
//! `tonic-prost-build` generate the same clients and servers as ever, and writes
//! the file descriptor set for reflection beside them, as
//! `$OUT_DIR/descriptors.bin`.
//!
//! ```no_run
//! // build.rs
//! notnets_build::compile(&["proto/greeter.proto"], &["proto"])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`compile_with`] takes settings for what is generated.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;
pub use tonic_prost_build;

/// Generates clients and servers for `protos`, whose imports are looked up in
/// `includes`, into `$OUT_DIR`.
///
/// # Errors
/// When a file does not parse or `$OUT_DIR` cannot be written to.
pub fn compile(protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Box<dyn Error>> {
    compile_with(tonic_prost_build::configure(), protos, includes)
}

/// As [`compile`], with settings.
///
/// ```no_run
/// // Fields of type `bytes` are generated as `bytes::Bytes`, which are cloned and read without a copy.
/// let settings = notnets_build::tonic_prost_build::configure().bytes(".");
/// notnets_build::compile_with(settings, &["proto/greeter.proto"], &["proto"])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When a file does not parse or `$OUT_DIR` cannot be written to.
pub fn compile_with(
    settings: tonic_prost_build::Builder,
    protos: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
) -> Result<(), Box<dyn Error>> {
    for proto in protos {
        println!("cargo:rerun-if-changed={}", proto.as_ref().display());
    }
    let descriptors = protox::compile(protos, includes)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: call this from a build.rs")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    settings.compile_fds(descriptors)?;
    Ok(())
}
