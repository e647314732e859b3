//! A server's services, written as in a `.proto` file.

use std::collections::HashSet;
use std::fmt::Write;

use prost_reflect::{
    EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor,
};
use tonic::Code;

use super::{Error, Listed, Schema};

/// All services with their methods.
///
/// # Errors
/// When the server does not answer.
pub async fn services(schema: &mut Schema) -> Result<String, Error> {
    let mut text = String::new();
    for Listed { name, description } in schema.services().await? {
        match description {
            Ok(found) => service(&mut text, &found, schema),
            Err(reason) => writeln_to(&mut text, format_args!("{name}\n  // {reason}")),
        }
    }
    Ok(text)
}

fn service(text: &mut String, service: &ServiceDescriptor, schema: &Schema) {
    writeln_to(text, format_args!("{}", service.full_name()));
    for method in service.methods() {
        writeln_to(text, format_args!("  {}", signature(&method)));
    }
    for (method, file) in schema.undescribed(service.full_name()) {
        writeln_to(text, format_args!("  // {method}: `{file}` is missing"));
    }
}

/// A method, a service, a message or an enum.
///
/// # Errors
/// When there is none of that name, and when the server does not answer.
pub async fn symbol(name: &str, schema: &mut Schema) -> Result<String, Error> {
    let name = name.trim_start_matches('/');
    let mut text = String::new();
    if !name.contains('/') {
        match schema.service(name).await {
            Ok(found) => {
                service(&mut text, &found, schema);
                return Ok(text);
            }
            Err(Error::Status(status)) if status.code() != Code::NotFound => return Err(status.into()),
            Err(_) => {}
        }
        let mut types = Types::default();
        if let Some(message) = schema.message(name).await {
            types.add_message(&message);
        } else if let Some(enumeration) = schema.enumeration(name) {
            types.add_enum(&enumeration);
        }
        if !types.definitions.is_empty() {
            return Ok(types.definitions.join("\n"));
        }
    }
    schema.method(name).await.map(|found| method(&found))
}

/// A method with all messages and enums that it leads to, those with the
/// meaning of their own in JSON (timestamps and the like) left out.
pub fn method(method: &MethodDescriptor) -> String {
    let service = method.parent_service();
    let mut text = format!("{}/{}\n  {}\n", service.full_name(), method.name(), signature(method));
    let mut types = Types::default();
    types.add_message(&method.input());
    types.add_message(&method.output());
    for definition in types.definitions {
        text.push('\n');
        text += &definition;
    }
    text
}

fn signature(method: &MethodDescriptor) -> String {
    let stream = |streaming| if streaming { "stream " } else { "" };
    format!(
        "rpc {}({}{}) returns ({}{})",
        method.name(),
        stream(method.is_client_streaming()),
        method.input().full_name(),
        stream(method.is_server_streaming()),
        method.output().full_name()
    )
}

/// The types met so far and their definitions, in the order of their use.
#[derive(Default)]
struct Types {
    seen: HashSet<String>,
    definitions: Vec<String>,
}

impl Types {
    fn add(&mut self, kind: &Kind) {
        match kind {
            Kind::Message(message) => self.add_message(message),
            Kind::Enum(enumeration) => self.add_enum(enumeration),
            _ => {}
        }
    }

    fn add_message(&mut self, message: &MessageDescriptor) {
        if message.package_name() == "google.protobuf" || !self.seen.insert(message.full_name().to_owned()) {
            return;
        }
        let mut text = String::new();
        writeln_to(&mut text, format_args!("message {} {{", message.full_name()));
        for field in message.fields() {
            writeln_to(&mut text, format_args!("  {};{}", declaration(&field), note(&field)));
        }
        text.push_str("}\n");
        self.definitions.push(text);
        for field in message.fields() {
            self.add(&value_kind(&field));
        }
    }

    fn add_enum(&mut self, enumeration: &EnumDescriptor) {
        if !self.seen.insert(enumeration.full_name().to_owned()) {
            return;
        }
        let mut text = String::new();
        writeln_to(&mut text, format_args!("enum {} {{", enumeration.full_name()));
        for value in enumeration.values() {
            writeln_to(&mut text, format_args!("  {} = {};", value.name(), value.number()));
        }
        text.push_str("}\n");
        self.definitions.push(text);
    }
}

fn declaration(field: &FieldDescriptor) -> String {
    let name = field.name();
    let number = field.number();
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let key = entry.map_entry_key_field();
            let value = entry.map_entry_value_field();
            format!("map<{}, {}> {name} = {number}", type_name(&key.kind()), type_name(&value.kind()))
        }
        kind if field.is_list() => format!("repeated {} {name} = {number}", type_name(&kind)),
        kind => format!("{} {name} = {number}", type_name(&kind)),
    }
}

/// The parts that a definition does not show otherwise.
fn note(field: &FieldDescriptor) -> String {
    match field.containing_oneof() {
        Some(choice) if choice.is_synthetic() => "  // optional".to_owned(),
        Some(choice) => format!("  // oneof {}", choice.name()),
        None if matches!(field.kind(), Kind::Bytes) => "  // base64 in JSON".to_owned(),
        None => String::new(),
    }
}

/// The type of a field's values; of a map's, not that of its entries.
fn value_kind(field: &FieldDescriptor) -> Kind {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    }
}

fn type_name(kind: &Kind) -> String {
    // Its debug form is its name in a `.proto` file.
    format!("{kind:?}")
}

fn writeln_to(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}
