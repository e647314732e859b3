//! Descriptions without what is not described.
//!
//! A file that is missing takes with it what uses its types, and nothing else: methods and fields.

use std::collections::{BTreeMap, HashSet};

use prost_reflect::DescriptorPool;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};

/// Files by their names.
pub type Files = BTreeMap<String, FileDescriptorProto>;

/// Removes an import that is missing, and returns the methods that went with it, as
/// `package.Service/Method`.
pub fn remove(import: &str, files: &mut Files, pool: &DescriptorPool) -> Vec<String> {
    for file in files.values_mut() {
        remove_dependency(import, file);
    }
    let mut gone = Vec::new();
    loop {
        let before = gone.len();
        let known = Known::of(files, pool);
        let mut is_changed = false;
        for file in files.values_mut() {
            let package = file.package().to_owned();
            for service in &mut file.service {
                let name = qualified(&package, service.name());
                service.method.retain(|method| {
                    let is_known = known.has(method.input_type()) && known.has(method.output_type());
                    if !is_known {
                        gone.push(format!("{name}/{}", method.name()));
                    }
                    is_known
                });
            }
            is_changed |= retain_known(&mut file.extension, &known);
            for message in &mut file.message_type {
                is_changed |= prune_message(message, &known);
            }
        }
        // A map without its values' type is a type that is not known either.
        if !is_changed && gone.len() == before {
            return gone;
        }
    }
}

fn remove_dependency(import: &str, file: &mut FileDescriptorProto) {
    let Some(index) = file.dependency.iter().position(|name| name == import) else { return };
    file.dependency.remove(index);
    let index = index as i32;
    for indices in [&mut file.public_dependency, &mut file.weak_dependency] {
        indices.retain(|other| *other != index);
        for other in indices.iter_mut().filter(|other| **other > index) {
            *other -= 1;
        }
    }
}

fn prune_message(message: &mut DescriptorProto, known: &Known<'_>) -> bool {
    let mut is_changed =
        retain_known(&mut message.field, known) | retain_known(&mut message.extension, known);
    for nested in &mut message.nested_type {
        is_changed |= prune_message(nested, known);
    }
    let before = message.nested_type.len();
    message.nested_type.retain(|nested| {
        let is_map = nested.options.as_ref().is_some_and(|options| options.map_entry());
        !is_map || nested.field.len() == 2
    });
    is_changed | (before != message.nested_type.len())
}

fn retain_known(fields: &mut Vec<FieldDescriptorProto>, known: &Known<'_>) -> bool {
    let before = fields.len();
    fields.retain(|field| {
        [&field.type_name, &field.extendee].into_iter().flatten().all(|name| known.has(name))
    });
    before != fields.len()
}

/// The names of all types that are described.
struct Known<'a> {
    names: HashSet<String>,
    pool: &'a DescriptorPool,
}

impl<'a> Known<'a> {
    fn of(files: &Files, pool: &'a DescriptorPool) -> Self {
        let mut names = HashSet::new();
        for file in files.values() {
            for message in &file.message_type {
                add(message, file.package(), &mut names);
            }
            names.extend(file.enum_type.iter().map(|it| qualified(file.package(), it.name())));
        }
        Self { names, pool }
    }

    /// Of a name as descriptions write it, with a dot in front.
    fn has(&self, name: &str) -> bool {
        let Some(name) = name.strip_prefix('.') else { return true };
        self.names.contains(name)
            || self.pool.get_message_by_name(name).is_some()
            || self.pool.get_enum_by_name(name).is_some()
    }
}

fn add(message: &DescriptorProto, within: &str, names: &mut HashSet<String>) {
    let name = qualified(within, message.name());
    for nested in &message.nested_type {
        add(nested, &name, names);
    }
    names.extend(message.enum_type.iter().map(|it| qualified(&name, it.name())));
    names.insert(name);
}

fn qualified(within: &str, name: &str) -> String {
    if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") }
}

#[cfg(test)]
mod tests {
    use prost_types::{MessageOptions, MethodDescriptorProto, ServiceDescriptorProto};

    use super::*;

    fn field(name: &str, number: i32, kind: &str) -> FieldDescriptorProto {
        FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            label: Some(1),
            r#type: Some(if kind.is_empty() { 9 } else { 11 }),
            type_name: (!kind.is_empty()).then(|| kind.to_owned()),
            ..FieldDescriptorProto::default()
        }
    }

    fn method(name: &str, input: &str, output: &str) -> MethodDescriptorProto {
        MethodDescriptorProto {
            name: Some(name.to_owned()),
            input_type: Some(input.to_owned()),
            output_type: Some(output.to_owned()),
            ..MethodDescriptorProto::default()
        }
    }

    #[test]
    fn what_is_not_described_goes_and_the_rest_stays() {
        let entry = DescriptorProto {
            name: Some("MapEntry".to_owned()),
            field: vec![field("key", 1, ""), field("value", 2, ".gone.Type")],
            options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
            ..DescriptorProto::default()
        };
        let mut map = field("map", 4, ".a.Message.MapEntry");
        map.label = Some(3);
        let message = DescriptorProto {
            name: Some("Message".to_owned()),
            field: vec![
                field("text", 1, ""),
                field("gone", 2, ".gone.Type"),
                field("own", 3, ".a.Message"),
                map,
                field("stamp", 5, ".google.protobuf.Timestamp"),
            ],
            nested_type: vec![entry],
            ..DescriptorProto::default()
        };
        let service = ServiceDescriptorProto {
            name: Some("Service".to_owned()),
            method: vec![
                method("Stays", ".a.Message", ".a.Message"),
                method("Goes", ".a.Message", ".gone.Type"),
            ],
            ..ServiceDescriptorProto::default()
        };
        let imports = ["first.proto", "gone.proto", "google/protobuf/timestamp.proto"];
        let file = FileDescriptorProto {
            name: Some("a.proto".to_owned()),
            package: Some("a".to_owned()),
            syntax: Some("proto3".to_owned()),
            dependency: imports.map(str::to_owned).to_vec(),
            public_dependency: vec![1, 2],
            message_type: vec![message],
            service: vec![service],
            ..FileDescriptorProto::default()
        };
        let first =
            FileDescriptorProto { name: Some("first.proto".to_owned()), ..FileDescriptorProto::default() };
        let mut files = Files::from([("a.proto".to_owned(), file), ("first.proto".to_owned(), first)]);
        let mut pool = DescriptorPool::global();
        assert_eq!(remove("gone.proto", &mut files, &pool), ["a.Service/Goes"]);
        assert_eq!(files["a.proto"].public_dependency, [1]);
        pool.add_file_descriptor_protos(files.into_values()).expect("consistent");
        let message = pool.get_message_by_name("a.Message").expect("described");
        let fields: Vec<_> = message.fields().map(|field| field.name().to_owned()).collect();
        assert_eq!(fields, ["text", "own", "stamp"]);
        let service = pool.get_service_by_name("a.Service").expect("described");
        assert_eq!(service.methods().len(), 1);
    }
}
