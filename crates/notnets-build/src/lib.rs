//! Code generation from `.proto` files without `protoc`.
//!
//! [`configure`] and [`compile_protos`] are those of `tonic-prost-build`, and generate clients and servers
//! with the same names and signatures. Over a `notnets::Channel` and in a `notnets::Server` their calls go
//! without HTTP; over any other transport they go as ever. A build script changes the crate that it names:
//!
//! ```no_run
//! // build.rs
//! notnets_build::configure()
//!     .bytes(".")
//!     .compile_protos(&["proto/greeter.proto"], &["proto"])?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The files are parsed with `protox`. The file descriptor set for reflection is written beside the code, as
//! `$OUT_DIR/descriptors.bin`. The crate that has the code needs `notnets`, `prost`, `tonic` and
//! `tonic-prost`.
//!
//! [`compile`] and [`compile_with`] let `tonic-prost-build` itself generate all of the code, which then needs
//! no `notnets`. Its clients and servers run over NotNets too, by HTTP's types.
//!
//! | module | what |
//! | --- | --- |
//! | `builder` | the settings of `tonic-prost-build`, for messages and for services |
//! | `generator` | lets `tonic-build` generate a service's modules, and hands them on |
//! | `service` | a service as `tonic-build` takes it |
//! | `client`, `server` | what is changed in a client's module, and added to a server's |
#![forbid(unsafe_code)]

mod builder;
mod client;
mod generator;
mod server;
mod service;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

pub use builder::{Builder, compile_fds, compile_protos, configure};
use prost::Message;
use prost_types::FileDescriptorSet;
pub use tonic_prost_build;

/// Generates tonic's own clients and servers for `protos`, whose imports are looked up in `includes`, into
/// `$OUT_DIR`.
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
    let descriptors = parse(protos, includes)?;
    fs::write(out_dir()?.join("descriptors.bin"), descriptors.encode_to_vec())?;
    settings.compile_fds(descriptors)?;
    Ok(())
}

/// Parses files, and tells cargo that the build depends on them.
fn parse(protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> io::Result<FileDescriptorSet> {
    for proto in protos {
        println!("cargo:rerun-if-changed={}", proto.as_ref().display());
    }
    protox::compile(protos, includes).map_err(io::Error::other)
}

fn out_dir() -> io::Result<PathBuf> {
    let missing = || io::Error::other("OUT_DIR is not set: call this from a build.rs");
    env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(missing)
}
