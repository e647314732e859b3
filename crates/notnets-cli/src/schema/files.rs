//! Methods and messages as files describe them: `.proto` files, or sets of descriptors that a compiler made.

use std::path::{Path, PathBuf};

use notnets::Channel;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;

use super::Schema;
use super::pruned::Files;
use crate::failure::Failure;
use crate::target::Target;

/// Who says what methods and messages there are, unless the server does.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct Args {
    /// A .proto file that describes the method, so that the server needs no reflection; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "descriptor_set")]
    proto: Vec<PathBuf>,
    /// Where .proto files and what they import are found. Unless given, beside the first of them, and in the
    /// working directory
    #[arg(short = 'I', long = "proto-path", value_name = "DIR", requires = "proto")]
    proto_path: Vec<PathBuf>,
    /// A file of descriptors that describes the method, as `protoc --descriptor_set_out --include_imports`
    /// and `buf build` make; may be repeated
    #[arg(long, value_name = "FILE")]
    descriptor_set: Vec<PathBuf>,
}

impl Args {
    /// What these files describe; without any, what `server` says of itself.
    ///
    /// # Errors
    /// When a file can't be read, or is wrong.
    pub fn schema(
        &self,
        server: &Target,
        client: Grpc<Channel>,
        headers: MetadataMap,
    ) -> Result<Schema, Failure> {
        let (files, set) = match (&self.proto[..], &self.descriptor_set[..]) {
            ([], []) => return Ok(Schema::of_server(server, client, headers)),
            ([], files) => (files, self.sets()?),
            (files, _) => (files, self.compile()?),
        };
        let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        let names = names.join(", ");
        let set: Files = set.into_iter().map(|file| (file.name().to_owned(), file)).collect();
        Schema::of_files(names.clone(), set).map_err(|error| error.of(&names))
    }

    fn compile(&self) -> Result<Vec<prost_types::FileDescriptorProto>, Failure> {
        let beside = self.proto.first().and_then(|file| file.parent());
        let usual = beside.filter(|path| !path.as_os_str().is_empty()).into_iter().chain([Path::new(".")]);
        let paths: Vec<_> = if self.proto_path.is_empty() {
            usual.map(Path::to_owned).collect()
        } else {
            self.proto_path.clone()
        };
        let compiled = protox::Compiler::new(&paths).and_then(|mut compiler| {
            compiler.include_imports(true).open_files(&self.proto)?;
            Ok(compiler.file_descriptor_set().file)
        });
        compiled.map_err(|error| {
            let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            let sentence = format!("{error:?}");
            Failure::new(format!("{}; files were looked for in {}", sentence.trim_end(), paths.join(", ")))
        })
    }

    fn sets(&self) -> Result<Vec<prost_types::FileDescriptorProto>, Failure> {
        let mut all = Vec::new();
        for path in &self.descriptor_set {
            let of_file = |error: &dyn std::fmt::Display| {
                Failure::new(format!("{} is not a file of descriptors: {error}", path.display()))
            };
            let bytes = std::fs::read(path)
                .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
            let set = FileDescriptorSet::decode(&*bytes).map_err(|error| of_file(&error))?;
            if set.file.is_empty() {
                return Err(of_file(&"there is no file in it"));
            }
            all.extend(set.file);
        }
        Ok(all)
    }
}
