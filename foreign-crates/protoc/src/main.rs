//! As much of protoc as prost-build asks for: descriptors of files, by protox.
//!
//! `protoc --include_imports --include_source_info -o SET -I DIRECTORY... FILE...`

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut set, mut includes, mut files) = (None, Vec::new(), Vec::new());
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("-o") => set = arguments.next(),
            Some("-I") => includes.extend(arguments.next().map(PathBuf::from)),
            // Imports and comments are always written, and fields may always be optional.
            Some(option) if option.starts_with("--") => {}
            _ => files.push(PathBuf::from(argument)),
        }
    }
    let mut compiler = protox::Compiler::new(includes)?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    std::fs::write(set.ok_or("-o is missing")?, compiler.encode_file_descriptor_set())?;
    Ok(())
}
