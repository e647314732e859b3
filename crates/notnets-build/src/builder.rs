//! The settings of `tonic-prost-build`, by the same names.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic_build::Attributes;

use crate::generator::{Generator, Services};

/// Settings for what is generated. Those of `tonic_prost_build::configure()`, but for the ones of `protoc`,
/// which is not run, and of codecs: the generated code encodes with prost.
///
/// ```no_run
/// notnets_build::configure()
///     .build_server(false)
///     .compile_protos(&["proto/greeter.proto"], &["proto"])?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn configure() -> Builder {
    Builder {
        // Services are generated here.
        messages: tonic_prost_build::configure().build_client(false).build_server(false),
        services: Services {
            build_client: true,
            build_server: true,
            build_transport: true,
            client_attributes: Attributes::default(),
            server_attributes: Attributes::default(),
            proto_path: "super".to_owned(),
            compile_well_known_types: false,
            extended_rust_types: false,
            disable_comments: HashSet::new(),
            use_arc_self: false,
            generate_default_stubs: false,
        },
        out_dir: None,
        descriptors: None,
    }
}

/// Generates clients and servers for one file, whose imports are looked up beside it.
///
/// # Errors
/// When the file does not parse or `$OUT_DIR` cannot be written to.
pub fn compile_protos(proto: impl AsRef<Path>) -> io::Result<()> {
    let proto = proto.as_ref();
    let folder = proto.parent().ok_or_else(|| io::Error::other("a .proto file is expected in a folder"))?;
    configure().compile_protos(&[proto], &[folder])
}

/// Generates clients and servers for files that were parsed before.
///
/// # Errors
/// When `$OUT_DIR` cannot be written to.
pub fn compile_fds(descriptors: FileDescriptorSet) -> io::Result<()> {
    configure().compile_fds(descriptors)
}

/// Settings for what is generated: see [`configure`].
#[derive(Clone, Debug)]
#[must_use = "nothing is generated before compile_protos"]
pub struct Builder {
    messages: tonic_prost_build::Builder,
    services: Services,
    out_dir: Option<PathBuf>,
    descriptors: Option<PathBuf>,
}

/// Setters that concern messages only.
macro_rules! of_messages {
    ($($(#[$doc:meta])* $name:ident($($argument:ident),*);)*) => {$(
        $(#[$doc])*
        pub fn $name(mut self, $($argument: impl AsRef<str>),*) -> Self {
            self.messages = self.messages.$name($($argument),*);
            self
        }
    )*};
}

impl Builder {
    of_messages! {
        /// Takes the Rust code for a Protobuf package or type from elsewhere: `.google.rpc`,
        /// `::my_types::rpc`.
        extern_path(proto_path, rust_path);
        /// Puts an attribute on the fields that match.
        field_attribute(path, attribute);
        /// Puts an attribute on the messages that match.
        message_attribute(path, attribute);
        /// Puts an attribute on the enums that match.
        enum_attribute(path, attribute);
        /// Puts an attribute on the messages, enums and one-ofs that match.
        type_attribute(path, attribute);
        /// Boxes the fields that match.
        boxed(path);
        /// Generates the maps that match as `BTreeMap`.
        btree_map(path);
        /// Generates the `bytes` fields that match as [`Bytes`](https://docs.rs/bytes), which are cloned
        /// without a copy.
        bytes(path);
    }

    /// Generates no `Debug` for the messages that match.
    pub fn skip_debug<I, S>(mut self, paths: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        self.messages = self.messages.skip_debug(paths);
        self
    }

    /// Writes a file that includes all that is generated.
    pub fn include_file(mut self, path: impl AsRef<Path>) -> Self {
        self.messages = self.messages.include_file(path);
        self
    }

    /// Sets whether clients are generated.
    pub fn build_client(mut self, enable: bool) -> Self {
        self.services.build_client = enable;
        self
    }

    /// Sets whether servers are generated.
    pub fn build_server(mut self, enable: bool) -> Self {
        self.services.build_server = enable;
        self
    }

    /// Sets whether clients get `connect`, which makes a channel of tonic's transport.
    pub fn build_transport(mut self, enable: bool) -> Self {
        self.services.build_transport = enable;
        self
    }

    /// Sets where the code is written: `$OUT_DIR` unless set.
    pub fn out_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.messages = self.messages.out_dir(&folder);
        self.out_dir = Some(folder.as_ref().to_owned());
        self
    }

    /// Sets where the file descriptor set is written, beside `descriptors.bin`.
    pub fn file_descriptor_set_path(mut self, path: impl AsRef<Path>) -> Self {
        self.descriptors = Some(path.as_ref().to_owned());
        self
    }

    /// Puts an attribute on the modules of clients of the packages that match.
    pub fn client_mod_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        self.services.client_attributes.push_mod(path.as_ref(), attribute.as_ref());
        self
    }

    /// Puts an attribute on the clients of the services that match.
    pub fn client_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        self.services.client_attributes.push_struct(path.as_ref(), attribute.as_ref());
        self
    }

    /// Puts an attribute on the modules of servers of the packages that match.
    pub fn server_mod_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        self.services.server_attributes.push_mod(path.as_ref(), attribute.as_ref());
        self
    }

    /// Puts an attribute on the servers of the services that match.
    pub fn server_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        self.services.server_attributes.push_struct(path.as_ref(), attribute.as_ref());
        self
    }

    /// Puts an attribute on the traits of the services that match.
    pub fn trait_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        self.services.server_attributes.push_trait(path.as_ref(), attribute.as_ref());
        self
    }

    /// Sets the module that has the messages, as seen from a service's modules: `super` unless set.
    pub fn proto_path(mut self, path: impl AsRef<str>) -> Self {
        self.services.proto_path = path.as_ref().to_owned();
        self
    }

    /// Sets whether code is generated for the well-known types, instead of taking that of `prost-types`.
    pub fn compile_well_known_types(mut self, enable: bool) -> Self {
        self.messages = self.messages.compile_well_known_types(enable);
        self.services.compile_well_known_types = enable;
        self
    }

    /// Sets whether methods may take and return plain Rust types: numbers and `bool`.
    pub fn with_extended_rust_types(mut self, enable: bool) -> Self {
        self.services.extended_rust_types = enable;
        self
    }

    /// Generates no doc comments for these services and methods.
    pub fn disable_comments<I, S>(mut self, paths: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        self.services.disable_comments.extend(paths.into_iter().map(|path| path.as_ref().to_owned()));
        self
    }

    /// Sets whether the methods of a service's trait take `self: Arc<Self>`.
    pub fn use_arc_self(mut self, enable: bool) -> Self {
        self.services.use_arc_self = enable;
        self
    }

    /// Sets whether the methods of a service's trait answer with `UNIMPLEMENTED` unless they are implemented.
    pub fn generate_default_stubs(mut self, enable: bool) -> Self {
        self.services.generate_default_stubs = enable;
        self
    }

    /// Generates clients and servers for `protos`, whose imports are looked up in `includes`.
    ///
    /// # Errors
    /// When a file does not parse or what is generated can't be written.
    pub fn compile_protos<P>(self, protos: &[P], includes: &[P]) -> io::Result<()>
    where
        P: AsRef<Path>,
    {
        let descriptors = crate::parse(protos, includes)?;
        self.compile_fds(descriptors)
    }

    /// Generates clients and servers for files that were parsed before.
    ///
    /// # Errors
    /// When what is generated can't be written.
    pub fn compile_fds(self, descriptors: FileDescriptorSet) -> io::Result<()> {
        let folder = self.out_dir.map_or_else(crate::out_dir, Ok)?;
        let beside = folder.join("descriptors.bin");
        for path in [Some(beside), self.descriptors].into_iter().flatten() {
            fs::write(path, descriptors.encode_to_vec())?;
        }
        let mut config = prost_build::Config::new();
        config.service_generator(Box::new(Generator(self.services)));
        self.messages.compile_fds_with_config(descriptors, config)
    }
}
