//! The server under test, the same over every transport.
//!
//! [`register`] adds its services to whatever routes calls, [`TraceLayer`] is
//! the tower layer around them all, and the constants are the limits that each
//! transport's builder is to be given.

mod faults;
mod intercept;
mod layer;
mod probe;
mod test_service;
mod unencodable;
mod watched;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use tonic::body::Body;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::codegen::StdError;
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic_health::server::HealthReporter;
use tower_service::Service;

use crate::pb::bulk_server::BulkServer;
use crate::pb::faults_server::FaultsServer;
use crate::pb::probe_server::ProbeServer;
use crate::pb::test_server::TestServer;
use crate::pb::{Chunk, DESCRIPTORS};

pub use layer::TraceLayer;

/// More calls than any case has open at once.
pub const MAX_CONCURRENT_STREAMS: u32 = 16_384;

/// The largest message that the service with raised limits takes; a transport
/// with a limit of its own needs at least this.
pub const RAISED_MESSAGE_SIZE: usize = 32 << 20;

/// The windows for HTTP/2, whose default for a connection is that of a single
/// stream: with it, one stalled stream stops all others.
pub const STREAM_WINDOW: u32 = 256 << 10;
/// See [`STREAM_WINDOW`].
pub const CONNECTION_WINDOW: u32 = 4 << 20;

/// What services are added to: a transport's router.
pub trait Register: Sized {
    /// Adds one service under its name. Interceptors have bodies of their own
    /// type, so this takes any.
    fn add<S, B>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<StdError>> + Send + 'static;
}

impl Register for tonic::service::RoutesBuilder {
    fn add<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<StdError>> + Send + 'static,
    {
        self.add_service(service);
        self
    }
}

impl Register for notnets::Routes {
    fn add<S, B>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<StdError>> + Send + 'static,
    {
        self.add_service(service)
    }
}

/// Adds all services, with their interceptor, compression and limits.
pub async fn register<R: Register>(routes: R) -> R {
    let probe = probe::Probe::default();
    let health = HealthReporter::new();
    health.set_serving::<TestServer<test_service::TestService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()
        .expect("the descriptors are those of the build script");

    let test = TestServer::new(test_service::TestService::new(probe.clone()))
        .accept_compressed(Gzip)
        .accept_compressed(Zstd)
        .send_compressed(Gzip)
        .send_compressed(Zstd);
    let health_service = tonic_health::server::HealthService::from_health_reporter(health.clone());
    routes
        .add(InterceptedService::new(test, intercept::intercept))
        .add(BulkServer::new(Bulk).max_decoding_message_size(RAISED_MESSAGE_SIZE))
        .add(FaultsServer::new(faults::FaultsService::new(probe.clone())))
        .add(ProbeServer::new(probe::ProbeService::new(probe, health)))
        .add(unencodable::UnencodableServer)
        .add(tonic_health::pb::health_server::HealthServer::new(health_service))
        .add(reflection)
}

/// The echo with raised limits.
struct Bulk;

#[tonic::async_trait]
impl crate::pb::bulk_server::Bulk for Bulk {
    async fn echo(&self, request: tonic::Request<Chunk>) -> Result<tonic::Response<Chunk>, tonic::Status> {
        Ok(tonic::Response::new(request.into_inner()))
    }
}
