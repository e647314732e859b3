//! A service as `tonic-build` takes it, from what prost read.

use proc_macro2::TokenStream;
use quote::quote;

/// The codec that `tonic-build` writes into its code.
const CODEC: &str = "tonic_prost::ProstCodec";
/// Rust types that stand for a message.
const PLAIN: [&str; 1] = ["()"];
const EXTENDED: [&str; 8] = ["bool", "i32", "i64", "u32", "u64", "f32", "f64", "()"];

/// A service.
pub(crate) struct Service {
    of: prost_build::Service,
    methods: Vec<Method>,
}

impl Service {
    pub(crate) fn new(of: prost_build::Service, extended_rust_types: bool) -> Self {
        let plain: &[&str] = if extended_rust_types { &EXTENDED } else { &PLAIN };
        let methods = of.methods.iter().cloned().map(|of| Method { of, plain }).collect();
        Self { of, methods }
    }
}

impl tonic_build::Service for Service {
    type Comment = String;
    type Method = Method;

    fn name(&self) -> &str {
        &self.of.name
    }

    fn package(&self) -> &str {
        &self.of.package
    }

    fn identifier(&self) -> &str {
        &self.of.proto_name
    }

    fn methods(&self) -> &[Method] {
        &self.methods
    }

    fn comment(&self) -> &[String] {
        &self.of.comments.leading
    }
}

/// A method.
pub(crate) struct Method {
    of: prost_build::Method,
    plain: &'static [&'static str],
}

impl Method {
    /// The Rust type of a message, from within a service's module.
    fn message(&self, name: &str, proto_path: &str, compile_well_known_types: bool) -> TokenStream {
        let path = match name.strip_prefix(".google.protobuf.") {
            Some("Empty") if !compile_well_known_types => return quote!(()),
            Some("StringValue") if !compile_well_known_types => "::prost::alloc::string::String".to_owned(),
            Some(known) if !compile_well_known_types => format!("::prost_types::{known}"),
            _ if self.plain.iter().any(|plain| name.ends_with(plain)) => name.to_owned(),
            // An external type.
            _ if name.starts_with("::") || name.starts_with("crate::") => name.to_owned(),
            _ => format!("{proto_path}::{}", name.replace('.', "::").trim_start_matches("::")),
        };
        path.parse().expect("prost has made a type's path of the name")
    }
}

impl tonic_build::Method for Method {
    type Comment = String;

    fn name(&self) -> &str {
        &self.of.name
    }

    fn identifier(&self) -> &str {
        &self.of.proto_name
    }

    fn codec_path(&self) -> &str {
        CODEC
    }

    fn client_streaming(&self) -> bool {
        self.of.client_streaming
    }

    fn server_streaming(&self) -> bool {
        self.of.server_streaming
    }

    fn comment(&self) -> &[String] {
        &self.of.comments.leading
    }

    fn deprecated(&self) -> bool {
        self.of.options.deprecated()
    }

    fn request_response_name(
        &self,
        proto_path: &str,
        compile_well_known_types: bool,
    ) -> (TokenStream, TokenStream) {
        let message = |name: &str| self.message(name, proto_path, compile_well_known_types);
        (message(&self.of.input_type), message(&self.of.output_type))
    }
}
