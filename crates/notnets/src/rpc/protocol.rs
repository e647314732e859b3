//! Entries among the metadata of a head that are not the application's: a type that is not gRPC's own, and an
//! HTTP status that is not 200. A link sends neither where it is as usual.

use bytes::Bytes;
use notnets_core::metadata::Metadata;

use super::Code;

const CONTENT_TYPE: &str = "content-type";
const GRPC: &[u8] = b"application/grpc";
/// How the HTTP layer sends what is not a header.
const HTTP_STATUS: &str = ":status";
const HTTP_METHOD: &str = ":method";

/// Takes out the content type, and gives back one that is not gRPC's. One that was not there at all is empty.
pub(super) fn take_other_type(metadata: &mut Metadata) -> Option<Bytes> {
    let mut other = None;
    if metadata.is_empty() {
        return other;
    }
    metadata.retain(|(key, value)| {
        if &**key == CONTENT_TYPE && !is_grpc(value) {
            other = Some(value.clone());
        }
        &**key != CONTENT_TYPE && &**key != HTTP_METHOD
    });
    other
}

/// gRPC's, in whatever encoding of messages; but not that of gRPC-Web.
fn is_grpc(content_type: &[u8]) -> bool {
    content_type.strip_prefix(GRPC).is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Takes out the HTTP status. Gives back what it means for a call whose response has no status of gRPC's.
pub(super) fn take_http_status(metadata: &mut Metadata) -> Option<(Code, String)> {
    if metadata.is_empty() {
        return None;
    }
    let mut found = None;
    metadata.retain(|(key, value)| {
        if &**key == HTTP_STATUS {
            found = Some(value.clone());
        }
        &**key != HTTP_STATUS
    });
    let status = found?;
    // <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
    let code = match &*status {
        b"400" => Code::INTERNAL,
        b"401" => Code::UNAUTHENTICATED,
        b"403" => Code::PERMISSION_DENIED,
        b"404" => Code::UNIMPLEMENTED,
        b"429" | b"502" | b"503" | b"504" => Code::UNAVAILABLE,
        _ => Code::UNKNOWN,
    };
    Some((code, format!("the server answered with the HTTP status {}", String::from_utf8_lossy(&status))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(entries: &[(&str, &'static str)]) -> Metadata {
        entries.iter().map(|(key, value)| ((*key).into(), Bytes::from(*value))).collect()
    }

    #[test]
    fn only_a_type_that_is_not_grpcs_is_told() {
        for (content_type, is_other) in [
            ("application/grpc", false),
            ("application/grpc+proto", false),
            ("application/grpc;charset=x", false),
            ("application/grpc-web", true),
            ("application/proto", true),
            ("", true),
        ] {
            let mut metadata = metadata(&[(":method", "POST"), ("content-type", content_type), ("a", "b")]);
            assert_eq!(take_other_type(&mut metadata).is_some(), is_other, "{content_type}");
            assert_eq!(metadata.len(), 1);
        }
        assert_eq!(take_other_type(&mut Metadata::new()), None);
    }

    #[test]
    fn http_statuses_have_codes() {
        let mut metadata = metadata(&[(":status", "404"), ("a", "b")]);
        assert_eq!(take_http_status(&mut metadata).unwrap().0, Code::UNIMPLEMENTED);
        assert_eq!((metadata.len(), take_http_status(&mut metadata)), (1, None));
    }
}
