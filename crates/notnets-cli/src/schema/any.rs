//! Messages within messages: `google.protobuf.Any`, whose types are known by name only.

use std::collections::BTreeSet;

use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use serde_json::Value as Json;

use super::Schema;

/// Fetches the types that a request in JSON names.
pub async fn fetch_for_request(json: &str, schema: &mut Schema) {
    let values = serde_json::Deserializer::from_str(json).into_iter::<Json>();
    let mut names = BTreeSet::new();
    // What is not JSON is an error of the request's own.
    for value in values.map_while(Result::ok) {
        named_in_json(&value, &mut names);
    }
    for name in names {
        // The type that is not there is named when the request is read.
        let _ = schema.message(&name).await;
    }
}

fn named_in_json(value: &Json, names: &mut BTreeSet<String>) {
    match value {
        Json::Array(values) => values.iter().for_each(|value| named_in_json(value, names)),
        Json::Object(fields) => {
            if let Some(Json::String(url)) = fields.get("@type") {
                names.insert(type_name(url).to_owned());
            }
            fields.values().for_each(|value| named_in_json(value, names));
        }
        _ => {}
    }
}

/// Makes the message one of which all types are known. Returns it, and the types that the server does not
/// describe: these are shown without their content.
pub async fn with_known_types(
    mut message: DynamicMessage,
    schema: &mut Schema,
) -> (DynamicMessage, Vec<String>) {
    let mut unknown = Vec::new();
    loop {
        let mut names = BTreeSet::new();
        named_in(&message, &mut names);
        names.retain(|name| message.descriptor().parent_pool().get_message_by_name(name).is_none());
        if names.is_empty() {
            return (message, unknown);
        }
        for name in names {
            if schema.message(&name).await.is_none() {
                if !schema.stand_in(&name) {
                    return (message, unknown);
                }
                unknown.push(name);
            }
        }
        let known = schema.message(message.descriptor().full_name()).await;
        let again = known.and_then(|known| DynamicMessage::decode(known, &*message.encode_to_vec()).ok());
        let Some(again) = again else { return (message, unknown) };
        message = again;
    }
}

fn named_in(message: &DynamicMessage, names: &mut BTreeSet<String>) {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        if let Some(url) = message.get_field_by_name("type_url").as_deref().and_then(Value::as_str)
            && !url.is_empty()
        {
            let name = type_name(url);
            names.insert(name.to_owned());
            let inner = message.descriptor().parent_pool().get_message_by_name(name);
            let bytes = message.get_field_by_name("value");
            let bytes = bytes.as_deref().and_then(Value::as_bytes);
            if let Some(Ok(inner)) =
                inner.zip(bytes).map(|(it, bytes)| DynamicMessage::decode(it, bytes.clone()))
            {
                named_in(&inner, names);
            }
        }
        return;
    }
    for (_, value) in message.fields() {
        named_in_value(value, names);
    }
}

fn named_in_value(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Message(message) => named_in(message, names),
        Value::List(values) => values.iter().for_each(|value| named_in_value(value, names)),
        Value::Map(entries) => entries.values().for_each(|value| named_in_value(value, names)),
        _ => {}
    }
}

fn type_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}
