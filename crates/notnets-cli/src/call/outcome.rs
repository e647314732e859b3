//! The text about a status that is not OK.

use http::header;
use notnets_core::text::shown;
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use prost_types::Any;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::failure::{Failure, code_name};
use crate::metadata;
use crate::schema::Schema;
use crate::target::Target;

/// The conventional content of `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// The sentence on a call that ended with `status`, with its details and
/// trailing metadata on the lines below; and the same in JSON.
pub async fn failure(
    status: &Status,
    method: &MethodDescriptor,
    server: &Target,
    largest_sent: usize,
    schema: &mut Schema,
) -> Failure {
    let code = status.code();
    let path = format!("{}/{}", method.parent_service().full_name(), method.name());
    let mut text = format!("{path} at {server} ended with {} ({})", code_name(code), code as i32);
    if !status.message().is_empty() {
        let lines: Vec<_> = status.message().split('\n').map(shown).collect();
        text += &format!(": {}", lines.join("\n"));
    }
    if code == Code::OutOfRange
        && let Some(length) = too_large(status.message())
    {
        text += if length == largest_sent {
            "; that is the request, and the limit is the server's"
        } else {
            "; --max-message-size raises the limit"
        };
    }
    let details = details(status, schema).await;
    for detail in &details {
        text += &format!("\n  detail {}", detail.text);
    }
    // A trailers-only reply brings HTTP's headers along with the metadata.
    let mut metadata = status.metadata().clone().into_headers();
    for header in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::DATE] {
        metadata.remove(header);
    }
    for (key, value) in &metadata {
        text += &format!("\n  metadata {key}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    Failure::of_call(code, text).with_json(json!({
        "server": server.to_string(),
        "method": path,
        "code": code as i32,
        "status": code_name(code),
        "message": status.message(),
        "details": details.into_iter().map(|detail| detail.json).collect::<Vec<_>>(),
        "metadata": metadata::to_json(&metadata),
    }))
}

/// The length of the message that was too large, in tonic's words.
fn too_large(message: &str) -> Option<usize> {
    let (_, length) = message.split_once("message length too large: found ")?;
    length.split_once(' ')?.0.parse().ok()
}

/// One of the details of a status.
struct Detail {
    text: String,
    /// With `@type`; where that is not known, with the bytes in base64.
    json: Value,
}

async fn details(status: &Status, schema: &mut Schema) -> Vec<Detail> {
    let bytes = status.details();
    if bytes.is_empty() {
        return Vec::new();
    }
    let rich = RichStatus::decode(bytes).ok().filter(|rich| !rich.details.is_empty());
    let Some(rich) = rich else {
        let text = format!("of {} bytes: {}", bytes.len(), bytes.escape_ascii());
        return vec![Detail { text, json: json!({"value": base64(bytes)}) }];
    };
    let mut details = Vec::new();
    for any in rich.details {
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        let message = schema.message(name).await.and_then(|descriptor| {
            let message = DynamicMessage::decode(descriptor, any.value.as_slice()).ok()?;
            serde_json::to_value(&message).ok()
        });
        let text = match &message {
            Some(json) => format!("{name}: {json}"),
            None => format!("{name} of {} bytes: {}", any.value.len(), any.value.escape_ascii()),
        };
        let mut json = match message {
            Some(fields @ Value::Object(_)) => fields,
            Some(other) => json!({"value": other}),
            None => json!({"value": base64(&any.value)}),
        };
        json["@type"] = any.type_url.into();
        details.push(Detail { text, json });
    }
    details
}

fn base64(bytes: &[u8]) -> String {
    let value = tonic::metadata::BinaryMetadataValue::from_bytes(bytes);
    String::from_utf8_lossy(value.as_encoded_bytes()).into_owned()
}
