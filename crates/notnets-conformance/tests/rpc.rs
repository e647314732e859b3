//! Calls in gRPC's own terms on one side, tonic's stubs on the other: they can't tell.

use std::time::Duration;

use bytes::Bytes;
use notnets::rpc::{self, Handler, Metadata, Method, ServerCall};
use notnets::{Channel, Routes, Server};
use notnets_conformance::pb::test_client::TestClient;
use notnets_conformance::pb::{
    Chunk, DuplexRequest, Nothing, Outcome, OutputRequest, Summary, UnaryReply, UnaryRequest,
};
use notnets_conformance::server;
use prost::Message;
use tokio_stream::StreamExt;

struct Host {
    channel: Channel,
    task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn host(serve: impl FnOnce(Server) -> notnets::Router) -> Host {
    let directory = tempfile::tempdir().unwrap();
    let router = serve(Server::builder().directory(directory.path()));
    let bound = router.bind_blocking("notnets:///test").unwrap();
    let task = tokio::spawn(async move { bound.serve().await.unwrap() });
    let endpoint = notnets::Endpoint::from_static("notnets:///test").directory(directory.path());
    Host { channel: endpoint.connect().await.unwrap(), task, _directory: directory }
}

/// Nothing here takes long, unless it hangs.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it hangs")
}

fn test(name: &str) -> rpc::Request {
    rpc::Request::new(Method::new(format!("/notnets.conformance.Test/{name}")).unwrap())
}

fn decode<M: Message + Default>(payload: rpc::Payload) -> M {
    M::decode(payload).unwrap()
}

#[tokio::test]
async fn a_tonic_server_answers_calls_of_all_kinds() {
    let routes = server::register(Routes::default()).await;
    let host = host(|server| server.add_routes(routes)).await;
    let channel = &host.channel;

    let mut metadata = Metadata::new();
    metadata.append("x-copy-text", "a value").unwrap();
    metadata.append_bin("x-copy-bytes-bin", [0, 1, 255]).unwrap();
    for size in [0, 10, 64, 100_000] {
        let message = UnaryRequest { body: vec![7; size], reply_size: size as u32, outcome: None };
        let call = channel.unary_call(test("Unary").metadata(metadata.clone()), message.encode_to_vec());
        let reply = within(call).await.unwrap();
        assert_eq!(reply.metadata.get("x-copy-text"), Some("a value"));
        assert_eq!(reply.metadata.get_bin("x-copy-bytes-bin"), Some(vec![0, 1, 255]));
        assert_eq!(decode::<UnaryReply>(reply.message).body.len(), size);
    }

    let outcome = Outcome { code: 9, message: "100 % ünwilling".into(), details: b"why".to_vec() };
    let message = UnaryRequest { outcome: Some(outcome.clone()), ..UnaryRequest::default() };
    let call = channel.unary_call(test("Unary").metadata(metadata.clone()), message.encode_to_vec());
    let status = within(call).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (rpc::Code(9), "100 % ünwilling"));
    assert_eq!(status.details().as_deref(), Some(&b"why"[..]));
    assert_eq!(status.metadata().get_bin("x-copy-bytes-bin"), Some(vec![0, 1, 255]));

    let message = OutputRequest { sizes: vec![1, 100, 0, 200_000], interval_ms: 0, outcome: Some(outcome) };
    let call = channel.server_streaming_call(test("Output").metadata(metadata), message.encode_to_vec());
    let mut receiver = within(call).await.unwrap();
    assert_eq!(receiver.head().await.unwrap().get("x-copy-text"), Some("a value"));
    for size in [1, 100, 0, 200_000] {
        let chunk = within(receiver.message()).await.unwrap().unwrap();
        assert_eq!(decode::<Chunk>(chunk).body.len(), size);
    }
    assert_eq!(within(receiver.message()).await.unwrap_err().code(), rpc::Code(9));

    let (mut sender, mut receiver) = channel.streaming_call(test("Input")).await.unwrap();
    for index in 0..20 {
        let chunk = Chunk { index, body: vec![1; 10_000] };
        within(sender.send(chunk.encode_to_vec())).await.unwrap();
    }
    within(sender.finish()).await.unwrap();
    let summary: Summary = decode(within(receiver.message()).await.unwrap().unwrap());
    assert_eq!((summary.messages, summary.bytes), (20, 200_000));
    assert!(within(receiver.message()).await.unwrap().is_none());

    let (mut sender, mut receiver) = channel.streaming_call(test("Duplex")).await.unwrap();
    for size in [1, 50_000] {
        let request = DuplexRequest { sizes: vec![size, size], ..DuplexRequest::default() };
        within(sender.send(request.encode_to_vec())).await.unwrap();
        for _ in 0..2 {
            let chunk: Chunk = decode(within(receiver.message()).await.unwrap().unwrap());
            assert_eq!(chunk.body.len(), size as usize);
        }
    }
    within(sender.finish()).await.unwrap();
    assert!(within(receiver.message()).await.unwrap().is_none());

    let sleep = Method::from_static("/notnets.conformance.Faults/Sleep");
    let sleep = rpc::Request::new(sleep).timeout(Duration::from_millis(50));
    let status = within(channel.unary_call(sleep, "")).await.unwrap_err();
    assert_eq!(status.code(), rpc::Code::DEADLINE_EXCEEDED);
    let status = within(channel.unary_call(test("Nothing"), "")).await.unwrap_err();
    assert_eq!(status.code(), rpc::Code::UNIMPLEMENTED);
}

struct Test;

impl Handler for Test {
    async fn call(&self, call: &mut ServerCall) -> Result<(), rpc::Status> {
        if let Some(head) = call.responses.metadata() {
            if let Some(text) = call.metadata.get("x-copy-text") {
                head.append("x-copy-text", text.to_owned()).unwrap();
            }
            if let Some(bytes) = call.metadata.get_bin("x-copy-bytes-bin") {
                head.append_bin("x-copy-bytes-bin", bytes).unwrap();
            }
        }
        match call.method.name() {
            "Unary" => {
                let UnaryRequest { body, outcome, .. } = decode(call.requests.only_message().await?);
                if let Some(Outcome { code, message, .. }) = outcome {
                    return Err(rpc::Status::new(rpc::Code(code as u32), message));
                }
                let reply = UnaryReply { body, ..UnaryReply::default() };
                call.responses.send_last(reply.encode_to_vec()).await
            }
            "Output" => {
                let OutputRequest { sizes, .. } = decode(call.requests.only_message().await?);
                for size in sizes {
                    let chunk = Chunk { index: 0, body: vec![1; size as usize] };
                    call.responses.send(chunk.encode_to_vec()).await?;
                }
                call.responses.trailers().append("x-end", "reached").unwrap();
                Ok(())
            }
            "Input" => {
                let mut summary = Summary::default();
                while let Some(message) = call.requests.message().await? {
                    summary.add(&decode(message));
                }
                call.responses.send_last(summary.encode_to_vec()).await
            }
            "Duplex" => {
                call.responses.send_head().await?;
                while let Some(message) = call.requests.message().await? {
                    let DuplexRequest { sizes, .. } = decode(message);
                    for size in sizes {
                        let chunk = Chunk { index: 0, body: vec![1; size as usize] };
                        call.responses.send(chunk.encode_to_vec()).await?;
                    }
                }
                Ok(())
            }
            "Empty" => std::future::pending().await,
            _ => Err(rpc::Status::unknown_method(&call.method)),
        }
    }
}

#[tokio::test]
async fn a_tonic_client_calls_handlers_of_all_kinds() {
    let host = host(|server| server.add_rpc_service("notnets.conformance.Test", Test)).await;
    let mut client = TestClient::new(host.channel.clone());

    for size in [0, 10, 64, 100_000] {
        let mut request =
            tonic::Request::new(UnaryRequest { body: vec![7; size], ..UnaryRequest::default() });
        request.metadata_mut().insert("x-copy-text", "a value".parse().unwrap());
        let bytes = tonic::metadata::MetadataValue::from_bytes(&[0, 1, 255]);
        request.metadata_mut().insert_bin("x-copy-bytes-bin", bytes);
        let reply = within(client.unary(request)).await.unwrap();
        assert_eq!(reply.metadata().get("x-copy-text").unwrap(), "a value");
        let bytes = reply.metadata().get_bin("x-copy-bytes-bin").unwrap().to_bytes().unwrap();
        assert_eq!(bytes, Bytes::from_static(&[0, 1, 255]));
        assert_eq!(reply.get_ref().body, vec![7; size]);
    }

    let outcome = Outcome { code: 9, message: "100 % ünwilling".into(), details: Vec::new() };
    let request = UnaryRequest { outcome: Some(outcome), ..UnaryRequest::default() };
    let status = within(client.unary(request)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::FailedPrecondition, "100 % ünwilling"));

    let request = OutputRequest { sizes: vec![1, 100, 0, 200_000], ..OutputRequest::default() };
    let mut replies = within(client.output(request)).await.unwrap().into_inner();
    for size in [1, 100, 0, 200_000] {
        assert_eq!(within(replies.next()).await.unwrap().unwrap().body.len(), size);
    }
    assert!(within(replies.next()).await.is_none());
    let trailers = within(replies.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers.get("x-end").unwrap(), "reached");

    let chunks = (0..20).map(|index| Chunk { index, body: vec![1; 10_000] });
    let summary = within(client.input(tokio_stream::iter(chunks))).await.unwrap().into_inner();
    assert_eq!((summary.messages, summary.bytes), (20, 200_000));

    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut replies = within(client.duplex(requests)).await.unwrap().into_inner();
    for size in [1, 50_000] {
        sender.send(DuplexRequest { sizes: vec![size, size], ..DuplexRequest::default() }).await.unwrap();
        for _ in 0..2 {
            assert_eq!(within(replies.next()).await.unwrap().unwrap().body.len(), size as usize);
        }
    }
    drop(sender);
    assert!(within(replies.next()).await.is_none());

    let mut request = tonic::Request::new(Nothing {});
    request.set_timeout(Duration::from_millis(50));
    let status = within(client.empty(request)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    let status = within(client.unimplemented(Nothing {})).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn services_of_all_kinds_share_a_server() {
    let tonics_own = server::register(tonic::service::RoutesBuilder::default()).await.routes();
    let host =
        host(|server| server.add_rpc_service("notnets.conformance.Test", Test).fallback_service(tonics_own))
            .await;
    let mut client = TestClient::new(host.channel.clone());
    let request = UnaryRequest { body: vec![7], ..UnaryRequest::default() };
    assert_eq!(within(client.unary(request)).await.unwrap().into_inner().body, [7]);
    let mut bulk = notnets_conformance::pb::bulk_client::BulkClient::new(host.channel.clone());
    let chunk = Chunk { index: 3, body: vec![7] };
    assert_eq!(within(bulk.echo(chunk.clone())).await.unwrap().into_inner(), chunk);
    let mut health = tonic_health::pb::health_client::HealthClient::new(host.channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: "notnets.conformance.Test".into() };
    assert!(within(health.check(request)).await.is_ok());
}
