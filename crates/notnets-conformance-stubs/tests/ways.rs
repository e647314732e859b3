//! Which way calls go that generated clients make and generated servers serve, and what is seen of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use notnets::rpc::{self, Method, Payload};
use notnets_conformance_stubs::pb::bulk_client::BulkClient;
use notnets_conformance_stubs::pb::bulk_server::{Bulk, BulkServer};
use notnets_conformance_stubs::pb::faults_client::FaultsClient;
use notnets_conformance_stubs::pb::{Chunk, Nothing};
use prost::Message;
use tempfile::TempDir;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{GrpcMethod, InterceptedService, Service, StdError};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::{Code, Request, Response, Status};

const NAME: &str = "notnets:///ways";
const ECHO: Method = Method::from_static("/notnets.conformance.Bulk/Echo");

/// Echoes, with what it has seen of the request's head as metadata.
struct Echo;

#[tonic::async_trait]
impl Bulk for Echo {
    async fn echo(&self, request: Request<Chunk>) -> Result<Response<Chunk>, Status> {
        if request.metadata().contains_key("x-wait") {
            std::future::pending::<()>().await;
        }
        assert!(request.extensions().get::<notnets::PeerInfo>().is_some());
        let marks = request.metadata().get_all("x-mark").iter().count();
        let mut response = Response::new(request.into_inner());
        if marks > 0 {
            response.metadata_mut().insert("x-marks", marks.to_string().parse().expect("metadata"));
        }
        Ok(response)
    }
}

/// A server that runs until it is dropped.
struct Running {
    directory: TempDir,
    task: tokio::task::JoinHandle<Result<(), notnets::Error>>,
}

impl Running {
    async fn start(make: impl FnOnce(notnets::Server) -> notnets::Router) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let router = make(notnets::Server::builder().directory(directory.path()));
        let bound = router.bind(NAME).await.expect("a free name");
        Self { directory, task: tokio::spawn(bound.serve()) }
    }

    async fn echo() -> Self {
        Self::start(|server| server.add_service(BulkServer::new(Echo))).await
    }

    async fn channel(&self) -> notnets::Channel {
        let endpoint = notnets::Endpoint::from_static(NAME).directory(self.directory.path());
        endpoint.connect().await.expect("a link")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn chunk(bytes: usize) -> Chunk {
    Chunk { index: 7, body: vec![1; bytes] }
}

/// HTTP puts its own type of content into each response.
fn went_by_http<T>(response: &Response<T>) -> bool {
    response.metadata().contains_key("content-type")
}

/// Code that is written for tonic's clients, with tonic's bounds.
fn client_over<T>(service: T) -> BulkClient<T>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: tonic::codegen::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<StdError> + Send,
{
    BulkClient::new(service)
}

/// The same for interceptors.
fn intercepted<F: Interceptor>(
    channel: notnets::Channel,
    interceptor: F,
) -> BulkClient<InterceptedService<notnets::Channel, F>> {
    BulkClient::with_interceptor(channel, interceptor)
}

#[tokio::test]
async fn calls_on_a_channel_go_without_http() {
    let server = Running::echo().await;
    let mut client = client_over(server.channel().await);
    for bytes in [0, 64, 120, 300, 100_000, 3_000_000] {
        let response = client.clone().echo(chunk(bytes)).await.expect("a reply");
        assert!(!went_by_http(&response), "{bytes}");
        assert_eq!(response.into_inner(), chunk(bytes));
    }
    // A client that borrows its channel knows nothing of it.
    let mut channel = server.channel().await;
    let response = client_over(&mut channel).echo(chunk(1)).await.expect("a reply");
    assert!(went_by_http(&response));
    let response = client.echo(chunk(1)).await.expect("a reply");
    assert!(!went_by_http(&response));
}

#[tokio::test]
async fn origins_compression_and_handles_of_cancellation_are_left_to_tonic() {
    let server = Running::start(|server| {
        let service = BulkServer::new(Echo).accept_compressed(tonic::codec::CompressionEncoding::Gzip);
        server.add_service(service.send_compressed(tonic::codec::CompressionEncoding::Gzip))
    })
    .await;
    let channel = server.channel().await;
    let client = BulkClient::new(channel.clone()).send_compressed(tonic::codec::CompressionEncoding::Gzip);
    let mut client = client.accept_compressed(tonic::codec::CompressionEncoding::Gzip);
    let response = client.echo(chunk(10_000)).await.expect("a reply");
    assert_eq!(response.metadata().get("grpc-encoding").expect("it is compressed"), "gzip");
    assert_eq!(response.into_inner(), chunk(10_000));

    let origin = http::Uri::from_static("http://somewhere/prefix");
    let status = BulkClient::with_origin(channel.clone(), origin).echo(chunk(1)).await;
    assert_eq!(status.expect_err("there is no such service").code(), Code::Unimplemented);
    let origin = http::Uri::from_static("http://somewhere");
    let response = BulkClient::with_origin(channel.clone(), origin).echo(chunk(1)).await;
    assert!(went_by_http(&response.expect("a reply")));

    let mut request = Request::new(chunk(1));
    let _handle = request.cancellation_handle();
    let response = BulkClient::new(channel).echo(request).await.expect("a reply");
    assert!(went_by_http(&response));
}

#[tokio::test]
async fn an_interceptor_of_a_client_sees_and_changes_heads() {
    let server = Running::echo().await;
    let seen = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&seen);
    let mut client = intercepted(server.channel().await, move |mut request: Request<()>| {
        counted.fetch_add(1, Ordering::Relaxed);
        let method = request.extensions().get::<GrpcMethod<'static>>().expect("the method");
        assert_eq!((method.service(), method.method()), ("notnets.conformance.Bulk", "Echo"));
        if request.metadata().contains_key("x-reject") {
            let mut status = Status::permission_denied("not you");
            status.metadata_mut().insert("x-why", MetadataValue::from_static("because"));
            return Err(status);
        }
        request.metadata_mut().append("x-mark", MetadataValue::from_static("it was here"));
        Ok(request)
    });
    let mut request = Request::new(chunk(64));
    request.metadata_mut().append("x-mark", MetadataValue::from_static("the caller's"));
    let response = client.echo(request).await.expect("a reply");
    assert_eq!(response.metadata().get("x-marks").expect("it came back"), "2");
    assert!(!went_by_http(&response));

    let mut request = Request::new(chunk(64));
    request.metadata_mut().append("x-reject", MetadataValue::from_static("please"));
    let status = client.echo(request).await.expect_err("it is refused");
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "not you"));
    assert_eq!(status.metadata().get("x-why").expect("its metadata"), "because");
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_interceptor_of_a_server_sees_and_changes_heads() {
    let seen = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&seen);
    let interceptor = move |mut request: Request<()>| {
        counted.fetch_add(1, Ordering::Relaxed);
        assert!(request.extensions().get::<notnets::PeerInfo>().is_some());
        if request.metadata().contains_key("x-reject") {
            return Err(Status::unauthenticated("who are you?"));
        }
        request.metadata_mut().append("x-mark", MetadataValue::from_static("it was here"));
        Ok(request)
    };
    let server =
        Running::start(|server| server.add_service(BulkServer::with_interceptor(Echo, interceptor))).await;
    assert_eq!(seen.load(Ordering::Relaxed), 0, "it sees calls only");
    let mut client = BulkClient::new(server.channel().await);
    let response = client.echo(chunk(64)).await.expect("a reply");
    assert_eq!(response.metadata().get("x-marks").expect("it came back"), "1");

    let mut request = Request::new(chunk(64));
    request.metadata_mut().append("x-reject", MetadataValue::from_static("please"));
    let status = client.echo(request).await.expect_err("it is refused");
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "who are you?"));
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

/// Marks requests, and returns what the service within returns.
#[derive(Clone)]
struct Marking<S>(S);

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Marking<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> S::Future {
        request.headers_mut().append("x-mark", http::HeaderValue::from_static("it was here"));
        self.0.call(request)
    }
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for Marking<S> {
    const NAME: &'static str = S::NAME;
}

#[tokio::test]
async fn a_layer_around_a_service_is_not_passed_by() {
    for is_intercepted in [false, true] {
        let server = Running::start(|server| {
            if is_intercepted {
                server.add_service(Marking(BulkServer::with_interceptor(Echo, Ok)))
            } else {
                server.add_service(Marking(BulkServer::new(Echo)))
            }
        })
        .await;
        let mut client = BulkClient::new(server.channel().await);
        let response = client.echo(chunk(64)).await.expect("a reply");
        assert_eq!(response.metadata().get("x-marks").expect("it came back"), "1");
    }
}

#[tokio::test]
async fn limits_of_messages_are_tonics() {
    let server = Running::start(|server| {
        let service = BulkServer::new(Echo).max_decoding_message_size(1000);
        server.add_service(service.max_encoding_message_size(500))
    })
    .await;
    let client = BulkClient::new(server.channel().await);
    let code_and_text = |result: Result<Response<Chunk>, Status>| {
        let status = result.expect_err("over a limit");
        (status.code(), status.message().to_owned())
    };
    let len = chunk(2000).encoded_len();
    let out_of_range = |text: String| (Code::OutOfRange, text);
    assert_eq!(
        code_and_text(client.clone().echo(chunk(2000)).await),
        out_of_range(format!(
            "Error, decoded message length too large: found {len} bytes, the limit is: 1000 bytes"
        ))
    );
    let short = chunk(700).encoded_len();
    assert_eq!(
        code_and_text(client.clone().echo(chunk(700)).await),
        out_of_range(format!(
            "Error, encoded message length too large: found {short} bytes, the limit is: 500 bytes"
        ))
    );
    let mut limited = client.clone().max_encoding_message_size(100);
    assert_eq!(
        code_and_text(limited.echo(chunk(700)).await),
        out_of_range(format!(
            "Error, encoded message length too large: found {short} bytes, the limit is: 100 bytes"
        ))
    );
    let shorter = chunk(300).encoded_len();
    let mut limited = client.max_decoding_message_size(100);
    assert_eq!(
        code_and_text(limited.echo(chunk(300)).await),
        out_of_range(format!(
            "Error, decoded message length too large: found {shorter} bytes, the limit is: 100 bytes"
        ))
    );
}

#[tokio::test]
async fn calls_end_at_their_deadlines_and_when_they_are_dropped() {
    let server =
        Running::start(|server| server.timeout(Duration::from_secs(60)).add_service(BulkServer::new(Echo)))
            .await;
    let mut client = BulkClient::new(server.channel().await);
    let waiting = || {
        let mut request = Request::new(chunk(64));
        request.metadata_mut().insert("x-wait", MetadataValue::from_static("for ever"));
        request
    };
    let mut request = waiting();
    request.set_timeout(Duration::from_millis(20));
    let status = client.echo(request).await.expect_err("it waits for ever");
    assert_eq!(status.code(), Code::DeadlineExceeded);

    let call = client.clone();
    let call = tokio::spawn(async move { { call }.echo(waiting()).await });
    tokio::task::yield_now().await;
    call.abort();
    assert!(call.await.expect_err("it is dropped").is_cancelled());
    assert!(client.echo(chunk(1)).await.is_ok());
}

#[tokio::test]
async fn requests_that_are_none_are_refused() {
    let server = Running::echo().await;
    let channel = server.channel().await;
    let refused = async |messages: Vec<Payload>| {
        let (mut sender, mut receiver) =
            channel.streaming_call(rpc::Request::new(ECHO)).await.expect("a call");
        for message in messages {
            sender.send(message).await.expect("it is sent");
        }
        // The server may have ended it.
        let _ = sender.finish().await;
        let status = match receiver.message().await {
            Ok(Some(_)) => receiver.message().await.err(),
            other => other.err(),
        };
        status.map(|status| (status.code(), status.message().to_owned()))
    };
    let none = (rpc::Code::INTERNAL, "Missing request message.".to_owned());
    assert_eq!(refused(vec![]).await, Some(none));
    assert_eq!(refused(vec![chunk(64).encode_to_vec().into(); 2]).await, None, "further ones are dropped");
    let (code, text) = refused(vec![Payload::from("\u{7}none")]).await.expect("it can't be decoded");
    assert!(code == rpc::Code::INTERNAL && text.contains("failed to decode"), "{text}");
    let (code, text) = refused(vec![Payload::compressed("compressed")]).await.expect("it says not how");
    assert!(code == rpc::Code::INTERNAL && text.contains("no grpc-encoding was specified"), "{text}");
}

/// Answers by the request's index, as no generated server does.
struct Odd;

impl rpc::Handler for Odd {
    async fn call(&self, call: &mut rpc::ServerCall) -> Result<(), rpc::Status> {
        let request = call.requests.only_message().await?;
        let index = Chunk::decode(request).expect("a chunk").index;
        let reply = Payload::from(chunk(64).encode_to_vec());
        match index {
            0 => Ok(()),
            1 => {
                call.responses.send(reply.clone()).await?;
                call.responses.send_last(reply).await
            }
            2 => call.responses.send_last("\u{7}none").await,
            3 => call.responses.send_last(Payload::compressed("compressed")).await,
            4 => {
                if let Some(metadata) = call.responses.metadata() {
                    metadata.append("grpc-encoding", "snappy").expect("a key");
                }
                call.responses.send_last(Payload::compressed("compressed")).await
            }
            5 => {
                let mut metadata = rpc::Metadata::new();
                metadata.append_bin("grpc-status-details-bin", [1, 2, 3]).expect("a key");
                Err(rpc::Status::new(rpc::Code::ABORTED, "see there").with_metadata(metadata))
            }
            6 => {
                call.responses.trailers().append("x-trailer", "last").expect("a key");
                call.responses.send_last(reply).await
            }
            _ => {
                call.responses.send(reply).await?;
                Err(rpc::Status::new(rpc::Code::ABORTED, "after all"))
            }
        }
    }
}

#[tokio::test]
async fn answers_of_others_are_read_as_tonic_reads_them() {
    let server = Running::start(|server| server.add_rpc_service("notnets.conformance.Bulk", Odd)).await;
    let mut client = BulkClient::new(server.channel().await);
    let mut echo = async |index: u64| client.echo(Chunk { index, body: Vec::new() }).await;

    let status = echo(0).await.expect_err("no message");
    assert_eq!((status.code(), status.message()), (Code::Internal, "Missing response message."));
    assert_eq!(echo(1).await.expect("the first of two").into_inner(), chunk(64));
    let status = echo(2).await.expect_err("no message of protobuf's");
    assert!(status.code() == Code::Internal && status.message().contains("failed to decode"), "{status}");
    let status = echo(3).await.expect_err("it says not how it is compressed");
    assert!(status.message().contains("no grpc-encoding was specified"), "{status}");
    let status = echo(4).await.expect_err("that is not accepted");
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.message(), "Content is compressed with `snappy` which isn't supported");
    let status = echo(5).await.expect_err("it is aborted");
    assert_eq!((status.code(), status.message()), (Code::Aborted, "see there"));
    assert_eq!(status.details(), [1, 2, 3]);
    let response = echo(6).await.expect("a message");
    assert_eq!(response.metadata().get("x-trailer").expect("the trailer"), "last");
    assert!(!response.metadata().contains_key("grpc-status"));
    let status = echo(7).await.expect_err("it is aborted");
    assert_eq!((status.code(), status.message()), (Code::Aborted, "after all"));
}

#[tokio::test]
async fn what_is_not_there_is_unimplemented() {
    let server = Running::echo().await;
    let channel = server.channel().await;
    let status = FaultsClient::new(channel.clone()).panic(Nothing {}).await.expect_err("no such service");
    assert_eq!(status.code(), Code::Unimplemented);
    let none = Method::from_static("/notnets.conformance.Bulk/None");
    let status = channel.unary_call(rpc::Request::new(none), "").await.expect_err("no such method");
    assert_eq!(status.code(), rpc::Code::UNIMPLEMENTED);
}
