//! A client's module: what `tonic-build` has generated, but its calls are made by `notnets::stub::Client`.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::{Block, Fields, ImplItem, Item, ItemImpl, parse_quote};
use tonic_build::{Method as _, Service as _};

use crate::service::{Method, Service};

/// Changes the items of a client's module.
pub(crate) fn change(items: &mut [Item], service: &Service) {
    for item in items {
        match item {
            Item::Struct(client) => {
                if let Fields::Named(fields) = &mut client.fields {
                    for field in &mut fields.named {
                        field.ty = parse_quote!(::notnets::stub::Client<T>);
                    }
                }
            }
            // The other one is that of `connect`, for tonic's own channel.
            Item::Impl(methods) if !methods.generics.params.is_empty() => change_methods(methods, service),
            _ => {}
        }
    }
}

fn change_methods(methods: &mut ItemImpl, service: &Service) {
    let client = format_ident!("{}Client", service.name());
    for item in &mut methods.items {
        let ImplItem::Fn(function) = item else { continue };
        let name = function.sig.ident.to_string();
        let method = service.methods().iter().find(|method| method.name() == name);
        let body: Option<Block> = match (&*name, method) {
            (_, Some(method)) if function.sig.asyncness.is_some() => Some(call(service, method)),
            ("new", _) => Some(parse_quote!({ Self { inner: ::notnets::stub::Client::new(inner) } })),
            ("with_origin", _) => {
                Some(parse_quote!({ Self { inner: ::notnets::stub::Client::with_origin(inner, origin) } }))
            }
            ("with_interceptor", _) => Some(parse_quote!({
                #client { inner: ::notnets::stub::Client::with_interceptor(inner, interceptor) }
            })),
            _ => None,
        };
        if let Some(body) = body {
            function.block = body;
        }
    }
}

/// The body of the function that calls a method.
fn call(service: &Service, method: &Method) -> Block {
    let path = path(service, method);
    let (package, name) = (service_name(service), method.identifier());
    let method_const = quote! {
        const { ::notnets::stub::Method::new(#path, #package, #name) }
    };
    let request = if method.client_streaming() {
        quote!(request.into_streaming_request())
    } else {
        quote!(request.into_request())
    };
    let kind: TokenStream = match (method.client_streaming(), method.server_streaming()) {
        (false, false) => quote!(unary),
        (false, true) => quote!(server_streaming),
        (true, false) => quote!(client_streaming),
        (true, true) => quote!(streaming),
    };
    let call = quote!({ self.inner.#kind(#request, #method_const).await });
    syn::parse2(call.into_token_stream()).expect("a block")
}

/// A service's name with its package.
pub(crate) fn service_name(service: &Service) -> String {
    match service.package() {
        "" => service.identifier().to_owned(),
        package => format!("{package}.{}", service.identifier()),
    }
}

pub(crate) fn path(service: &Service, method: &Method) -> String {
    format!("/{}/{}", service_name(service), method.identifier())
}
