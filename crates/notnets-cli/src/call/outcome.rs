//! The text about a status that is not OK.

use http::header;
use notnets_core::text::shown;
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use prost_types::Any;
use tonic::{Code, Status};

use super::reflection::Reflection;
use crate::failure::{Failure, code_name};
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
/// trailing metadata on the lines below.
pub async fn failure(
    status: &Status,
    method: &MethodDescriptor,
    server: &Target,
    largest_sent: usize,
    reflection: &mut Reflection,
) -> Failure {
    let code = status.code();
    let mut text = format!(
        "{}/{} at {server} ended with {} ({})",
        method.parent_service().full_name(),
        method.name(),
        code_name(code),
        code as i32
    );
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
    for detail in details(status, reflection).await {
        text += &format!("\n  detail {detail}");
    }
    // A trailers-only reply brings HTTP's headers along with the metadata.
    let mut metadata = status.metadata().clone().into_headers();
    for header in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::DATE] {
        metadata.remove(header);
    }
    for (key, value) in &metadata {
        text += &format!("\n  metadata {key}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    Failure::of_call(code, text)
}

/// The length of the message that was too large, in tonic's words.
fn too_large(message: &str) -> Option<usize> {
    let (_, length) = message.split_once("message length too large: found ")?;
    length.split_once(' ')?.0.parse().ok()
}

async fn details(status: &Status, reflection: &mut Reflection) -> Vec<String> {
    let bytes = status.details();
    if bytes.is_empty() {
        return Vec::new();
    }
    let rich = RichStatus::decode(bytes).ok().filter(|rich| !rich.details.is_empty());
    let Some(rich) = rich else {
        return vec![format!("of {} bytes: {}", bytes.len(), bytes.escape_ascii())];
    };
    let mut lines = Vec::new();
    for any in rich.details {
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        let descriptor = reflection.message(name).await;
        let json = descriptor
            .and_then(|descriptor| DynamicMessage::decode(descriptor, any.value.as_slice()).ok())
            .and_then(|message| serde_json::to_string(&message).ok());
        lines.push(match json {
            Some(json) => format!("{name}: {json}"),
            None => format!("{name} of {} bytes: {}", any.value.len(), any.value.escape_ascii()),
        });
    }
    lines
}
