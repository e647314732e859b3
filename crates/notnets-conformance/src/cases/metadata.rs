//! Metadata in both directions, initial and trailing.

use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::pb::{DuplexRequest, Nothing, OutputRequest, UnaryReply, UnaryRequest};
use crate::rpc::test;
use crate::{Observation, Rpc};

/// As in the interoperability tests, for a unary and for a streaming call.
pub async fn custom_metadata<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let reply = test(&channel).unary(marked(UnaryRequest::default())).await.expect("a call");
    assert_marks(reply.metadata(), reply.metadata());
    seen.note_metadata("unary", reply.metadata());

    let request = DuplexRequest { sizes: vec![10], ..Default::default() };
    let reply = test(&channel).duplex(marked(tokio_stream::once(request))).await.expect("a stream");
    let initial = reply.metadata().clone();
    let mut stream = reply.into_inner();
    while stream.message().await.expect("no error").is_some() {}
    let trailers = stream.trailers().await.expect("trailers").expect("there are some");
    assert_marks(&initial, &trailers);
    assert!(initial.get_bin("x-echo-trailing-bin").is_none(), "trailers do not come first");
    seen.note_metadata("initial", &initial);
    seen.note_metadata("trailing", &trailers);
    seen
}

/// A key may be repeated; the order of its values is kept.
pub async fn repeated_keys<C: Rpc>(channel: C) -> Observation {
    let mut request = Request::new(OutputRequest::default());
    let metadata = request.metadata_mut();
    for value in ["third", "first", "second", "first"] {
        metadata.append("x-copy-repeated", value.parse().expect("valid metadata"));
        metadata.append("x-echo-trailing-repeated", value.parse().expect("valid metadata"));
        metadata.append_bin("x-copy-repeated-bin", MetadataValue::from_bytes(value.as_bytes()));
    }
    let reply = test(&channel).output(request).await.expect("a stream");
    let mut seen = Observation::new();
    seen.note_metadata("initial", reply.metadata());
    let copied: Vec<_> = reply.metadata().get_all("x-copy-repeated").iter().collect();
    assert_eq!(copied, ["third", "first", "second", "first"]);
    let copied: Vec<_> = reply.metadata().get_all_bin("x-copy-repeated-bin").iter().collect();
    assert_eq!(copied.len(), 4);

    let mut stream = reply.into_inner();
    assert_eq!(stream.message().await.expect("a good end"), None);
    let trailers = stream.trailers().await.expect("trailers").expect("there are some");
    let echoed: Vec<_> = trailers.get_all("x-echo-trailing-repeated").iter().collect();
    assert_eq!(echoed, ["third", "first", "second", "first"]);
    seen.note_metadata("trailing", &trailers);
    seen
}

/// Binary values of every length around base64's padding, with every byte.
pub async fn binary_metadata<C: Rpc>(channel: C) -> Observation {
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut request = Request::new(Nothing {});
    for length in [0, 1, 2, 3, 4, 255, 256] {
        let value = MetadataValue::from_bytes(&every_byte[..length]);
        request.metadata_mut().append_bin("x-copy-bytes-bin", value.clone());
        request.metadata_mut().append_bin("x-echo-trailing-bytes-bin", value);
    }
    let reply = test(&channel).empty(request).await.expect("a call");
    for key in ["x-copy-bytes-bin", "x-echo-trailing-bytes-bin"] {
        let values: Vec<Vec<u8>> = (reply.metadata().get_all_bin(key).iter())
            .map(|value| value.to_bytes().expect("valid base64").to_vec())
            .collect();
        let expected = [0, 1, 2, 3, 4, 255, 256].map(|length| every_byte[..length].to_vec());
        assert_eq!(values, expected, "{key}");
    }
    let mut seen = Observation::new();
    seen.note_metadata("metadata", reply.metadata());
    seen
}

/// What a handler finds in its request's metadata.
pub async fn request_metadata<C: Rpc>(channel: C) -> Observation {
    let mut request = marked(UnaryRequest::default());
    let metadata = request.metadata_mut();
    metadata.insert("authorization", "Bearer of good news".parse().expect("valid metadata"));
    metadata.insert("x-empty", "".parse().expect("valid metadata"));
    metadata.insert("x-spaces-and-commas", "a, b,  c".parse().expect("valid metadata"));
    let UnaryReply { metadata, .. } = test(&channel).unary(request).await.expect("a call").into_inner();
    let found = |key: &str| metadata.iter().find(|entry| entry.key == key).map(|entry| &entry.value[..]);
    assert_eq!(found("authorization"), Some(&b"Bearer of good news"[..]));
    assert_eq!(found("x-empty"), Some(&b""[..]));
    assert_eq!(found("x-spaces-and-commas"), Some(&b"a, b,  c"[..]));
    let mut seen = Observation::new();
    for entry in &metadata {
        seen.note(&entry.key, entry.value.escape_ascii().to_string());
    }
    seen
}

fn marked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("x-copy-initial", "test_initial_metadata_value".parse().expect("valid metadata"));
    metadata.insert_bin("x-echo-trailing-bin", MetadataValue::from_bytes(&[0xab, 0xab, 0xab]));
    request
}

fn assert_marks(initial: &MetadataMap, trailing: &MetadataMap) {
    assert_eq!(initial.get("x-copy-initial").expect("it came back"), "test_initial_metadata_value");
    let binary = trailing.get_bin("x-echo-trailing-bin").expect("it came back in the trailers");
    assert_eq!(&binary.to_bytes().expect("valid base64")[..], [0xab, 0xab, 0xab]);
}
