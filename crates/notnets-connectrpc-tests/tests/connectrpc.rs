//! connectrpc's clients and services over a channel and a server of ours: in its own protocol, whose bodies
//! are not gRPC's, and in gRPC's.

use std::sync::Arc;
use std::time::Duration;

use buffa::Message as _;
use connectrpc::client::{CallOptions, ClientConfig, ServiceTransport};
use connectrpc::{
    ConnectError, ConnectRpcService, Encodable, ErrorCode, InboundStream, Protocol, RequestContext, Response,
    Router, ServiceRequest, ServiceResult, ServiceStream,
};
use notnets::rpc::{self, Handler, Method, ServerCall};
use notnets::{Channel, Server};
use notnets_connectrpc_tests::pb::notnets::connect::{Echo, EchoClient, EchoExt as _, Message};
use tokio_stream::StreamExt as _;

type Client = EchoClient<ServiceTransport<Channel>>;

const PROTOCOLS: [Protocol; 3] = [Protocol::Connect, Protocol::Grpc, Protocol::GrpcWeb];

struct Service;

impl Echo for Service {
    async fn unary<'a>(
        &'a self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, Message>,
    ) -> ServiceResult<impl Encodable<Message> + Send + use<'a>> {
        Response::ok(request.to_owned_message())
    }

    async fn expand(
        &self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, Message>,
    ) -> ServiceResult<ServiceStream<impl Encodable<Message> + Send + use<>>> {
        let replies: Vec<_> = request.body.iter().map(|byte| Ok(message(vec![*byte; 1000]))).collect();
        Ok(Response::stream(tokio_stream::iter(replies)))
    }

    async fn collect<'a>(
        &'a self,
        _ctx: RequestContext,
        mut requests: InboundStream<Message>,
    ) -> ServiceResult<impl Encodable<Message> + Send + use<'a>> {
        let mut all = Vec::new();
        while let Some(request) = requests.next().await {
            all.extend_from_slice(&request?.to_owned_message().body);
        }
        Response::ok(message(all))
    }

    async fn duplex(
        &self,
        _ctx: RequestContext,
        requests: InboundStream<Message>,
    ) -> ServiceResult<ServiceStream<impl Encodable<Message> + Send + use<>>> {
        Ok(Response::stream(requests.map(|request| request.map(|request| request.to_owned_message()))))
    }

    async fn fail<'a>(
        &'a self,
        _ctx: RequestContext,
        request: ServiceRequest<'_, Message>,
    ) -> ServiceResult<impl Encodable<Message> + Send + use<'a>> {
        Err::<Response<Message>, _>(ConnectError::not_found(request.text.to_owned()))
    }

    async fn hang<'a>(
        &'a self,
        _ctx: RequestContext,
        _request: ServiceRequest<'_, Message>,
    ) -> ServiceResult<impl Encodable<Message> + Send + use<'a>> {
        std::future::pending::<ServiceResult<Message>>().await
    }
}

fn message(body: Vec<u8>) -> Message {
    Message { body, ..Message::default() }
}

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

impl Host {
    async fn serve(serve: impl FnOnce(Server) -> notnets::Router) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bound =
            serve(Server::builder().directory(directory.path())).bind_blocking("notnets:///test").unwrap();
        let task = tokio::spawn(async move { bound.serve().await.unwrap() });
        let endpoint = notnets::Endpoint::from_static("notnets:///test").directory(directory.path());
        Self { channel: endpoint.connect().await.unwrap(), task, _directory: directory }
    }

    /// connectrpc's service: it has no name, and gets all that no other service does.
    async fn connectrpc() -> Self {
        let router = Arc::new(Service).register(Router::new());
        Self::serve(|server| server.fallback_service(ConnectRpcService::new(router))).await
    }

    fn client(&self, protocol: Protocol) -> Client {
        let config = ClientConfig::new("http://test".parse().unwrap()).with_protocol(protocol);
        EchoClient::new(ServiceTransport::new(self.channel.clone()), config)
    }
}

/// Nothing here takes long, unless it hangs.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it hangs")
}

#[tokio::test]
async fn unary_calls_of_all_protocols() {
    let host = Host::connectrpc().await;
    for protocol in PROTOCOLS {
        let client = host.client(protocol);
        for size in [0, 1, 64, 100_000] {
            let reply = within(client.unary(message(vec![7; size]))).await.unwrap();
            assert_eq!(reply.view().body, vec![7; size], "{protocol:?}");
        }
        let failing = Message { text: "no such thing".into(), ..Message::default() };
        let error = within(client.fail(failing)).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound, "{protocol:?}");
        assert_eq!(error.message.as_deref(), Some("no such thing"), "{protocol:?}");
    }
}

#[tokio::test]
async fn streams_of_all_protocols() {
    let host = Host::connectrpc().await;
    for protocol in PROTOCOLS {
        let client = host.client(protocol);
        let mut replies = within(client.expand(message(vec![1, 2, 3]))).await.unwrap();
        for byte in 1..=3 {
            let reply = within(replies.message::<Message>()).await.unwrap().unwrap();
            assert_eq!(reply.view().body, vec![byte; 1000], "{protocol:?}");
        }
        assert!(within(replies.message::<Message>()).await.unwrap().is_none(), "{protocol:?}");

        let requests = tokio_stream::iter((0..10).map(|byte| message(vec![byte; 10_000])));
        let reply = within(client.collect(requests)).await.unwrap();
        assert_eq!(reply.view().body.len(), 100_000, "{protocol:?}");

        let mut both = within(client.duplex()).await.unwrap();
        for byte in 0..5 {
            within(both.send(message(vec![byte; 10_000]))).await.unwrap();
            let reply = within(both.message::<Message>()).await.unwrap().unwrap();
            assert_eq!(reply.view().body, vec![byte; 10_000], "{protocol:?}");
        }
        both.close_send();
        assert!(within(both.message::<Message>()).await.unwrap().is_none(), "{protocol:?}");
    }
}

#[tokio::test]
async fn deadlines_hold() {
    let host = Host::connectrpc().await;
    for protocol in PROTOCOLS {
        let options = CallOptions::default().with_timeout(Duration::from_millis(100));
        let error =
            within(host.client(protocol).hang_with_options(message(vec![]), options)).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::DeadlineExceeded, "{protocol:?}");
    }
}

struct Unary;

impl Handler for Unary {
    async fn call(&self, call: &mut ServerCall) -> Result<(), rpc::Status> {
        let message = call.requests.only_message().await?;
        call.responses.send_last(message).await
    }
}

#[tokio::test]
async fn a_handler_of_ours_answers_its_grpc_and_refuses_the_rest() {
    let host = Host::serve(|server| server.add_rpc_service("notnets.connect.Echo", Unary)).await;
    let reply = within(host.client(Protocol::Grpc).unary(message(vec![7; 100]))).await.unwrap();
    assert_eq!(reply.view().body, vec![7; 100]);
    for other in [Protocol::Connect, Protocol::GrpcWeb] {
        assert!(within(host.client(other).unary(message(vec![7]))).await.is_err(), "{other:?}");
    }
}

#[tokio::test]
async fn a_client_of_ours_calls_its_service() {
    let host = Host::connectrpc().await;
    let request =
        |name: &str| rpc::Request::new(Method::new(format!("/notnets.connect.Echo/{name}")).unwrap());
    let call = host.channel.unary_call(request("Unary"), message(vec![7; 100]).encode_to_vec());
    let reply = within(call).await.unwrap();
    let reply = Message::decode_from_slice(&reply.message.into_bytes()).unwrap();
    assert_eq!(reply.body, vec![7; 100]);
    let failing = Message { text: "no such thing".into(), ..Message::default() };
    let call = host.channel.unary_call(request("Fail"), failing.encode_to_vec());
    let status = within(call).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (rpc::Code::NOT_FOUND, "no such thing"));
}
