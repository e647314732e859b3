//! What a call costs in what can be counted exactly: instructions (`benches/`) and allocations (`tests/`).
//!
//! Time is too noisy to catch a regression of a few per cent; these counts hardly vary. Client and
//! server are in one thread here, so that a count is of both sides together, and parked while they
//! wait, so that none depends on how long that takes. (Where they poll, they do so in vain for as long as
//! Callgrind lets a microsecond take, which is one look at the clock.)
#![forbid(unsafe_code)]

use notnets::Wait;
use notnets::rpc::{self, Method, Request};
use pb::Message;
use pb::echo_client::EchoClient;
use pb::echo_server::{Echo, EchoServer};
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::StdError;

/// The generated service.
#[allow(missing_docs, clippy::all)]
pub mod pb {
    tonic::include_proto!("notnets.costs");
}

/// The same service, as `notnets-build` generates it.
#[allow(missing_docs, clippy::all)]
pub mod stubs {
    include!(concat!(env!("OUT_DIR"), "/stubs/notnets.costs.rs"));
}

/// A client, and a server for it in the same thread.
#[derive(Debug)]
pub struct Bed<C> {
    runtime: tokio::runtime::Runtime,
    client: EchoClient<C>,
    payload: usize,
    _directory: tempfile::TempDir,
}

/// Calls over a link, with messages of so many bytes.
///
/// # Panics
/// When there can be no link on this machine.
pub fn over_a_link(payload: usize) -> Bed<notnets::Channel> {
    Bed::new(payload, |runtime, directory| {
        let server = notnets::Server::builder().directory(directory).wait(Wait::Park);
        // Whatever slows them down that counts them.
        let server = server.in_place_limit(std::time::Duration::MAX);
        let server = server.add_service(EchoServer::new(Same));
        let bound = runtime.block_on(server.bind("notnets:///costs"));
        runtime.spawn(bound.expect("a free name").serve());
        let endpoint = notnets::Endpoint::from_static("notnets:///costs").directory(directory);
        runtime.block_on(endpoint.wait(Wait::Park).connect()).expect("a link")
    })
}

/// Calls in gRPC's own terms over a link, without stubs and HTTP, with messages of so many bytes.
///
/// # Panics
/// When there can be no link on this machine.
pub fn rpc_over_a_link(payload: usize) -> RpcBed {
    rpc_bed(payload, |runtime, directory| {
        let endpoint = notnets::Endpoint::from_static("notnets:///costs").directory(directory);
        runtime.block_on(endpoint.wait(Wait::Park).connect()).expect("a link")
    })
}

/// The same by a channel that has found its only server by a name.
///
/// # Panics
/// When there can be no link on this machine.
pub fn rpc_by_a_name(payload: usize) -> RpcBed {
    rpc_bed(payload, |runtime, directory| {
        let directory = directory.to_owned();
        let named = notnets::Channel::named("costs");
        let named = named.settings(|endpoint| endpoint.directory(directory).wait(Wait::Park));
        runtime.block_on(named.connect()).expect("a link")
    })
}

fn rpc_bed(
    payload: usize,
    connect: impl FnOnce(&tokio::runtime::Runtime, &std::path::Path) -> notnets::Channel,
) -> RpcBed {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = notnets::Server::builder().directory(directory.path()).wait(Wait::Park);
    let server = server.in_place_limit(std::time::Duration::MAX);
    let server = server.add_rpc_service("notnets.costs.Echo", Same);
    let bound = runtime.block_on(server.bind("notnets:///costs"));
    runtime.spawn(bound.expect("a free name").serve());
    let channel = connect(&runtime, directory.path());
    let bed = RpcBed { runtime, channel, message: vec![7; payload].into(), _directory: directory };
    // All is in place then that later calls find there; and the message's bytes are shared.
    bed.calls(300);
    bed
}

/// Calls by our stubs over a link, with messages of so many bytes.
///
/// # Panics
/// When there can be no link on this machine.
pub fn stubs_over_a_link(payload: usize) -> StubsBed {
    StubsBed::new(payload, Wait::Park)
}

/// Calls by our stubs over a link whose sides are both awake and poll.
///
/// # Panics
/// When there can be no link on this machine.
pub fn stubs_over_an_awake_link(payload: usize) -> StubsBed {
    StubsBed::new(payload, Wait::Spin)
}

/// A client of our stubs, and a server for it in the same thread.
#[derive(Debug)]
pub struct StubsBed {
    runtime: tokio::runtime::Runtime,
    client: stubs::echo_client::EchoClient<notnets::Channel>,
    payload: usize,
    _directory: tempfile::TempDir,
}

impl StubsBed {
    fn new(payload: usize, wait: Wait) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = notnets::Server::builder().directory(directory.path()).wait(wait);
        let server = server.in_place_limit(std::time::Duration::MAX);
        let server = server.add_service(stubs::echo_server::EchoServer::new(Same));
        let bound = runtime.block_on(server.bind("notnets:///costs"));
        runtime.spawn(bound.expect("a free name").serve());
        let endpoint = notnets::Endpoint::from_static("notnets:///costs").directory(directory.path());
        let channel = runtime.block_on(endpoint.wait(wait).connect()).expect("a link");
        let client = stubs::echo_client::EchoClient::new(channel);
        let bed = Self { runtime, client, payload, _directory: directory };
        // All is in place then that later calls find there.
        bed.calls(300);
        bed
    }

    /// Makes so many calls, one after the other.
    ///
    /// # Panics
    /// When one fails, or gives back something else.
    pub fn calls(&self, n: usize) {
        self.runtime.block_on(make_calls(self.client.clone(), self.payload, n));
    }

    /// Makes so many calls, one after the other, in a task that takes turns with the server's.
    ///
    /// # Panics
    /// When one fails, or gives back something else.
    pub fn calls_in_turns(&self, n: usize) {
        self.calls_at_once(1, n);
    }

    /// Makes so many calls at once, so often.
    ///
    /// # Panics
    /// When one fails, or gives back something else.
    pub fn calls_at_once(&self, open: usize, rounds: usize) {
        self.runtime.block_on(async {
            let mut callers = tokio::task::JoinSet::new();
            for _ in 0..open {
                callers.spawn(make_calls(self.client.clone(), self.payload, rounds));
            }
            while let Some(ended) = callers.join_next().await {
                ended.expect("no caller panics");
            }
        });
    }
}

async fn make_calls(mut client: stubs::echo_client::EchoClient<notnets::Channel>, payload: usize, n: usize) {
    for _ in 0..n {
        let message = stubs::Message { payload: vec![7; payload] };
        let reply = client.call(message).await.expect("a reply").into_inner();
        assert_eq!(reply.payload.len(), payload);
    }
}

#[tonic::async_trait]
impl stubs::echo_server::Echo for Same {
    async fn call(
        &self,
        request: tonic::Request<stubs::Message>,
    ) -> Result<tonic::Response<stubs::Message>, tonic::Status> {
        Ok(tonic::Response::new(request.into_inner()))
    }
}

/// A client in gRPC's own terms, and a server for it in the same thread.
#[derive(Debug)]
pub struct RpcBed {
    runtime: tokio::runtime::Runtime,
    channel: notnets::Channel,
    message: bytes::Bytes,
    _directory: tempfile::TempDir,
}

impl RpcBed {
    /// Makes so many calls, one after the other.
    ///
    /// # Panics
    /// When one fails, or gives back something else.
    pub fn calls(&self, n: usize) {
        const CALL: Method = Method::from_static("/notnets.costs.Echo/Call");
        self.runtime.block_on(async {
            for _ in 0..n {
                let call = self.channel.unary_call(Request::new(CALL), self.message.clone());
                let reply = call.await.expect("a reply");
                assert_eq!(reply.message.len(), self.message.len());
            }
        });
    }
}

impl rpc::Handler for Same {
    async fn call(&self, call: &mut rpc::ServerCall) -> Result<(), rpc::Status> {
        let message = call.requests.only_message().await?;
        call.responses.send_last(message).await
    }
}

/// Calls that the client gives to the service itself: what tonic's own code takes.
pub fn over_nothing(payload: usize) -> Bed<EchoServer<Same>> {
    Bed::new(payload, |_, _| EchoServer::new(Same))
}

impl<C> Bed<C>
where
    C: GrpcService<Body, ResponseBody: Send + 'static> + Clone,
    <C::ResponseBody as tonic::codegen::Body>::Error: Into<StdError> + Send,
    C::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes>,
{
    fn new(payload: usize, connect: impl FnOnce(&tokio::runtime::Runtime, &std::path::Path) -> C) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = EchoClient::new(connect(&runtime, directory.path()));
        let bed = Self { runtime, client, payload, _directory: directory };
        // All is in place then that later calls find there.
        bed.calls(300);
        bed
    }

    /// Makes so many calls, one after the other.
    ///
    /// # Panics
    /// When one fails, or gives back something else.
    pub fn calls(&self, n: usize) {
        let mut client = self.client.clone();
        self.runtime.block_on(async {
            for _ in 0..n {
                let message = Message { payload: vec![7; self.payload] };
                let reply = client.call(message).await.expect("a reply").into_inner();
                assert_eq!(reply.payload.len(), self.payload);
            }
        });
    }
}

impl Bed<notnets::Channel> {
    /// Makes so many calls at once, so often.
    ///
    /// # Panics
    /// When one fails, or gives back something else.
    pub fn calls_at_once(&self, open: usize, rounds: usize) {
        self.runtime.block_on(async {
            let mut callers = tokio::task::JoinSet::new();
            for _ in 0..open {
                let (mut client, payload) = (self.client.clone(), self.payload);
                callers.spawn(async move {
                    for _ in 0..rounds {
                        let message = Message { payload: vec![7; payload] };
                        let reply = client.call(message).await.expect("a reply").into_inner();
                        assert_eq!(reply.payload.len(), payload);
                    }
                });
            }
            while let Some(ended) = callers.join_next().await {
                ended.expect("no caller panics");
            }
        });
    }
}

/// Gives back what it is given.
#[derive(Debug)]
pub struct Same;

#[tonic::async_trait]
impl Echo for Same {
    async fn call(
        &self,
        request: tonic::Request<Message>,
    ) -> Result<tonic::Response<Message>, tonic::Status> {
        Ok(tonic::Response::new(request.into_inner()))
    }
}
