//! A server's module: what `tonic-build` has generated, and beside it how a `notnets::Server` serves the same
//! service without HTTP.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Block, FnArg, ImplItem, ImplItemFn, Item, ItemImpl, Pat, Type, parse_quote};
use tonic_build::{Method as _, Service as _};

use crate::client::path;
use crate::generator::Services;
use crate::service::{Method, Service};

/// Changes the items of a server's module.
pub(crate) fn change(items: &mut Vec<Item>, service: &Service, settings: &Services) {
    for item in items.iter_mut() {
        if let Item::Impl(methods) = item
            && let Some((_, of, _)) = &methods.trait_
            && of.segments.last().is_some_and(|segment| segment.ident == "Service")
        {
            change_service(methods);
        }
    }
    items.push(direct(service, settings));
}

/// Lets the tower service answer what it is: then it need not be called by HTTP.
fn change_service(service: &mut ItemImpl) {
    for item in &mut service.items {
        match item {
            ImplItem::Type(future) if future.ident == "Future" => {
                future.ty = parse_quote!(::notnets::stub::Responding);
            }
            ImplItem::Fn(function) if function.sig.ident == "call" => change_call(function),
            _ => {}
        }
    }
}

fn change_call(function: &mut ImplItemFn) {
    let request = function.sig.inputs.iter().find_map(|input| match input {
        FnArg::Typed(argument) => match &*argument.pat {
            Pat::Ident(name) => Some(name.ident.clone()),
            _ => None,
        },
        FnArg::Receiver(_) => None,
    });
    let request = request.expect("a service is called with a request");
    let by_http: &Block = &function.block;
    let body: Block = parse_quote!({
        let mut #request = #request;
        if let Some(answered) = ::notnets::stub::answer(&mut #request, self) {
            return answered;
        }
        let responding: BoxFuture<Self::Response, Self::Error> = #by_http;
        ::notnets::stub::Responding::new(responding)
    });
    function.block = body;
}

/// How the service is served without HTTP.
fn direct(service: &Service, settings: &Services) -> Item {
    let server = format_ident!("{}Server", service.name());
    let of = format_ident!("{}", service.name());
    let arms = service.methods().iter().map(|method| arm(service, method, &of, settings));
    parse_quote! {
        impl<T: #of> ::notnets::stub::Service for #server<T> {
            fn serve(&self, call: ::notnets::stub::Call) -> ::notnets::stub::Serving {
                let settings = ::notnets::stub::Settings::new(
                    self.max_decoding_message_size,
                    self.max_encoding_message_size,
                );
                match call.path() {
                    #(#arms)*
                    _ => call.unimplemented(),
                }
            }
        }
    }
}

/// Serves the calls of one method.
fn arm(service: &Service, method: &Method, of: &syn::Ident, settings: &Services) -> TokenStream {
    let path = path(service, method);
    let function = format_ident!("{}", method.name());
    let kind = match (method.client_streaming(), method.server_streaming()) {
        (false, false) => quote!(unary),
        (false, true) => quote!(server_streaming),
        (true, false) => quote!(client_streaming),
        (true, true) => quote!(streaming),
    };
    let (request, _) = tonic_build::Method::request_response_name(
        method,
        &settings.proto_path,
        settings.compile_well_known_types,
    );
    let request: Type = if method.client_streaming() {
        parse_quote!(tonic::Streaming<#request>)
    } else {
        syn::parse2(request).expect("a type")
    };
    let inner = if settings.use_arc_self { quote!(inner) } else { quote!(&inner) };
    quote! {
        #path => {
            let inner = Arc::clone(&self.inner);
            call.#kind(settings, move |request: tonic::Request<#request>| async move {
                <T as #of>::#function(#inner, request).await
            })
        }
    }
}
