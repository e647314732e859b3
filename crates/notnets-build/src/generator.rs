//! Generates the modules of a service. `tonic-build` writes them, so that names and signatures are tonic's;
//! what their functions do for calls over NotNets is put into them afterwards.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use syn::{Item, ItemMod};
use tonic_build::{Attributes, CodeGenBuilder};

use crate::service::Service;
use crate::{client, server};

/// What is to be generated for services.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) build_client: bool,
    pub(crate) build_server: bool,
    pub(crate) build_transport: bool,
    pub(crate) client_attributes: Attributes,
    pub(crate) server_attributes: Attributes,
    pub(crate) proto_path: String,
    pub(crate) compile_well_known_types: bool,
    pub(crate) extended_rust_types: bool,
    pub(crate) disable_comments: HashSet<String>,
    pub(crate) use_arc_self: bool,
    pub(crate) generate_default_stubs: bool,
}

/// Generates services, as prost asks for them.
pub(crate) struct Generator(pub(crate) Services);

impl prost_build::ServiceGenerator for Generator {
    fn generate(&mut self, service: prost_build::Service, code: &mut String) {
        let settings = &self.0;
        let service = Service::new(service, settings.extended_rust_types);
        let mut tonic = CodeGenBuilder::new();
        tonic
            .build_transport(settings.build_transport)
            .compile_well_known_types(settings.compile_well_known_types)
            .disable_comments(settings.disable_comments.clone())
            .use_arc_self(settings.use_arc_self)
            .generate_default_stubs(settings.generate_default_stubs);
        let mut items = Vec::new();
        if settings.build_client {
            tonic.attributes(settings.client_attributes.clone());
            let generated = tonic.generate_client(&service, &settings.proto_path);
            items.extend(change_module(generated, |module| client::change(module, &service)));
        }
        if settings.build_server {
            tonic.attributes(settings.server_attributes.clone());
            let generated = tonic.generate_server(&service, &settings.proto_path);
            items.extend(change_module(generated, |module| server::change(module, &service, settings)));
        }
        let file = syn::File { shebang: None, attrs: Vec::new(), items };
        code.push_str(&prettyplease::unparse(&file));
    }
}

/// Changes the module in what `tonic-build` has generated.
fn change_module(generated: TokenStream, change: impl FnOnce(&mut Vec<Item>)) -> Vec<Item> {
    let file: syn::File = syn::parse2(generated).expect("tonic-build generates Rust");
    let mut items = file.items;
    let content = items.iter_mut().find_map(|item| match item {
        Item::Mod(ItemMod { content: Some((_, content)), .. }) => Some(content),
        _ => None,
    });
    change(content.expect("tonic-build generates a module"));
    items
}
