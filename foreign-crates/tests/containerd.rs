//! containerd's client, which insists on tonic's channel.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use containerd_client::Client;
use containerd_client::services::v1::{ListNamespacesRequest, VersionResponse};
use notnets_foreign_crates::{Bed, within};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

/// containerd's crate has no code for servers: this serves one method of it.
#[derive(Clone)]
struct Version;

impl NamedService for Version {
    const NAME: &'static str = "containerd.services.version.v1.Version";
}

impl UnaryService<()> for Version {
    type Response = VersionResponse;
    type Future = std::future::Ready<Result<Response<VersionResponse>, Status>>;

    fn call(&mut self, _: tonic::Request<()>) -> Self::Future {
        let response = VersionResponse { version: "2.0.0".to_owned(), revision: "of memory".to_owned() };
        std::future::ready(Ok(Response::new(response)))
    }
}

impl Service<http::Request<Body>> for Version {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let codec = ProstCodec::<VersionResponse, ()>::default();
        Box::pin(async move { Ok(Grpc::new(codec).unary(Version, request).await) })
    }
}

#[tokio::test]
async fn containerd_is_called_over_a_link() {
    let server = tonic::transport::Server::builder().add_service(Version);
    let (_bed, channel) = Bed::over_streams(server).await;
    let client = Client::from(channel);
    for _ in 0..100 {
        let version = within(client.version().version(())).await.expect("a version").into_inner();
        assert_eq!((&*version.version, &*version.revision), ("2.0.0", "of memory"));
    }
    let missing = within(client.namespaces().list(ListNamespacesRequest::default()))
        .await
        .expect_err("it is not served");
    assert_eq!(missing.code(), Code::Unimplemented);
}
