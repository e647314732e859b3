//! Limits of messages and metadata.

use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use crate::payload::pattern;
use crate::pb::{Chunk, OutputRequest, UnaryRequest};
use crate::rpc::{assert_alive, bulk, test};
use crate::{Observation, Rpc};

/// gRPC's default for a message that is received.
const DEFAULT: usize = 4 << 20;

/// A request that the server does not take.
pub async fn request_over_limit<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let request = UnaryRequest { body: vec![1; DEFAULT], ..Default::default() };
    let status = test(&channel).unary(request).await.expect_err("a little over the limit");
    seen.note_status("unary", &status);

    let chunk = Chunk { index: 0, body: vec![1; DEFAULT] };
    let status = test(&channel).input(tokio_stream::once(chunk)).await.expect_err("a little over the limit");
    seen.note_status("stream", &status);

    // Just within, with room for the fields around the body.
    let request = UnaryRequest { body: vec![1; DEFAULT - 16], ..Default::default() };
    test(&channel).unary(request).await.expect("a little under the limit");
    assert_alive(&channel).await;
    seen
}

/// A reply that the client does not take, by default and by its own limit.
pub async fn reply_over_limit<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let ask = |reply_size| UnaryRequest { reply_size, ..Default::default() };
    let status = test(&channel).unary(ask(DEFAULT as u32)).await.expect_err("a little over the default");
    seen.note_status("default", &status);

    let mut client = test(&channel).max_decoding_message_size(1_000);
    let status = client.unary(ask(1_000)).await.expect_err("a little over the client's limit");
    seen.note_status("own", &status);

    let request = OutputRequest { sizes: vec![10, 1_000], ..Default::default() };
    let mut stream = client.output(request).await.expect("a stream").into_inner();
    stream.message().await.expect("no error yet").expect("the small one");
    let status = stream.message().await.expect_err("the large one");
    seen.note_status("stream", &status);

    let mut client = test(&channel).max_encoding_message_size(1_000);
    let request = UnaryRequest { body: vec![1; 1_000], ..Default::default() };
    let status = client.unary(request).await.expect_err("more than the client will send");
    seen.note("sending", status.code());
    assert_alive(&channel).await;
    seen
}

/// Messages over gRPC's default, where both sides raised it.
pub async fn raised_limit<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    for size in [DEFAULT, 8 << 20, (24 << 20) + 1] {
        let body = pattern(size as u64, size);
        let mut client = bulk(&channel).max_decoding_message_size(crate::server::RAISED_MESSAGE_SIZE);
        let reply = client.echo(Chunk { index: 1, body: body.clone() }).await.expect("within the limit");
        assert!(reply.get_ref().body == body, "{size} bytes came back as they were");
        seen.note(format!("{size}"), reply.into_inner().index);
    }
    let reply = bulk(&channel).echo(Chunk { index: 1, body: vec![0; 40 << 20] }).await;
    seen.note_status("over the raised limit", &reply.expect_err("over the raised limit"));
    assert_alive(&channel).await;
    seen
}

/// Metadata that just fits, both ways, initial and trailing.
pub async fn metadata_near_limit<C: Rpc>(channel: C) -> Observation {
    let mut request = Request::new(UnaryRequest::default());
    let metadata = request.metadata_mut();
    for _ in 0..20 {
        metadata.append("x-copy-text", "t".repeat(200).parse().expect("valid metadata"));
        metadata.append_bin("x-echo-trailing-bin", MetadataValue::from_bytes(&[0xfe; 150]));
    }
    let reply = test(&channel).unary(request).await.expect("a call with much metadata");
    assert_eq!(reply.metadata().get_all("x-copy-text").iter().count(), 20);
    assert_eq!(reply.metadata().get_all_bin("x-echo-trailing-bin").iter().count(), 20);
    let mut seen = Observation::new();
    seen.note_metadata("metadata", reply.metadata());

    let mut request = Request::new(UnaryRequest::default());
    let text = "t".repeat(12_000);
    request.metadata_mut().insert("x-copy-text", text.parse().expect("valid metadata"));
    let reply = test(&channel).unary(request).await.expect("a call with a long value");
    assert_eq!(reply.metadata().get("x-copy-text").expect("it came back"), text.as_str());
    seen
}

/// Metadata over the 16 KiB that both transports take fails its call only.
pub async fn metadata_over_limit<C: Rpc>(channel: C) -> Observation {
    let mut request = Request::new(UnaryRequest::default());
    let text = "t".repeat(24_000);
    request.metadata_mut().insert("x-copy-text", text.parse().expect("valid metadata"));
    let status = test(&channel).unary(request).await.expect_err("over the limit");
    assert!(matches!(status.code(), Code::ResourceExhausted | Code::Unknown), "{status:?}");
    let mut seen = Observation::new();
    seen.note("code", status.code());
    assert_alive(&channel).await;
    seen
}
