//! The one place that knows how the benchmark's processes reach each other.
//!
//! Everything above is generic over [`Channel`], not behind a pointer: nothing is allocated between a
//! stub and the transport that is measured.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tower::{BoxError, service_fn};

use super::case::{Api, Transport};
use super::control::{Serve, Setup};
use super::process::PATIENCE;
use crate::Result;
use crate::serving::{Listen, http2_endpoint, serve_over};
use crate::trust::trust_peer_memory;

/// How often a name that is not there yet is looked up again: in a pod it takes a while to spread.
pub const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A channel that generated clients can be made with.
pub trait Channel:
    Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// Connects to the address that a server has announced.
    fn connect(address: &str, setup: &Setup) -> impl Future<Output = Result<Self>> + Send;
}

impl Channel for tonic::transport::Channel {
    async fn connect(address: &str, _: &Setup) -> Result<Self> {
        Ok(http2_endpoint(address)?.connect().await?)
    }
}

impl Channel for notnets::Channel {
    async fn connect(address: &str, setup: &Setup) -> Result<Self> {
        let (directory, wait) = (setup.names().to_owned(), setup.wait.into());
        if setup.by_name {
            let named = notnets::Channel::named("bench").local(address);
            let named = named.settings(move |endpoint| endpoint.directory(directory).wait(wait));
            return Ok(named.connect().await?);
        }
        let endpoint = notnets::Endpoint::new(address)?.directory(directory).wait(wait);
        let until = Instant::now() + PATIENCE;
        loop {
            match endpoint.connect().await {
                Err(error) if error.kind() == notnets::ErrorKind::NotFound && Instant::now() < until => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                connected => return Ok(connected?),
            }
        }
    }
}

/// tonic's channel over a byte stream of ours.
#[derive(Clone)]
pub struct OverStreams(tonic::transport::Channel);

impl Channel for OverStreams {
    async fn connect(address: &str, setup: &Setup) -> Result<Self> {
        let below = <notnets::Channel as Channel>::connect(address, setup).await?;
        let connect = service_fn(move |_| {
            let below = below.clone();
            async move { below.byte_stream().await.map(TokioIo::new) }
        });
        Ok(Self(http2_endpoint("http://streams")?.connect_with_connector(connect).await?))
    }
}

impl Service<Request<Body>> for OverStreams {
    type Response = <tonic::transport::Channel as Service<Request<Body>>>::Response;
    type Error = <tonic::transport::Channel as Service<Request<Body>>>::Error;
    type Future = <tonic::transport::Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

/// A channel whose stubs don't know what it is: their calls go by HTTP, as those of tonic's stubs do.
#[derive(Clone)]
pub struct ByHttp(notnets::Channel);

impl Service<Request<Body>> for ByHttp {
    type Response = <notnets::Channel as Service<Request<Body>>>::Response;
    type Error = <notnets::Channel as Service<Request<Body>>>::Error;
    type Future = <notnets::Channel as Service<Request<Body>>>::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.0, cx)
    }

    #[inline]
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

impl Channel for ByHttp {
    async fn connect(address: &str, setup: &Setup) -> Result<Self> {
        Ok(Self(<notnets::Channel as Channel>::connect(address, setup).await?))
    }
}

/// A service that a server does not know to be generated: it is called by HTTP, as those are that tonic
/// generates.
#[derive(Clone)]
struct Unknown<S>(S);

impl<S: NamedService> NamedService for Unknown<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Unknown<S>
where
    S: Service<Request<Body>, Future: Unpin>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Answer(self.0.call(request))
    }
}

/// The future of an unknown service.
struct Answer<F>(F);

impl<F: Future + Unpin> Future for Answer<F> {
    type Output = F::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Serves for as long as the process lives. `ready` is called with the address once clients can connect to
/// it.
pub async fn serve<S>(order: &Serve, service: S, ready: impl FnOnce(String)) -> Result
where
    S: NamedService + Clone + Send + Sync + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + Unpin + 'static,
{
    let listen = match order.setup.transport {
        Transport::Tcp => Listen::Tcp,
        Transport::Uds => Listen::Uds(order.setup.directory.join(&order.name)),
        Transport::Streams => {
            let server =
                notnets::Server::builder().directory(order.setup.names()).wait(order.setup.wait.into());
            Listen::Streams { server: Box::new(server), address: order.address() }
        }
        Transport::NotNets => {
            let server =
                notnets::Server::builder().directory(order.setup.names()).wait(order.setup.wait.into());
            let server = server.replica(order.setup.by_name);
            let server =
                if order.setup.trusted { server.trust_peer_memory(trust_peer_memory()) } else { server };
            Listen::NotNets { server: Box::new(server), address: order.address() }
        }
        transport @ (Transport::Floor | Transport::Iceoryx2 | Transport::Iceoryx2Event | Transport::Null) => {
            return Err(format!("{transport} serves no stubs").into());
        }
    };
    match order.setup.api {
        Api::Stubs => serve_over(listen, service, ready).await,
        _ => serve_over(listen, Unknown(service), ready).await,
    }
}
