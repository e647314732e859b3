//! A service whose codec refuses a certain reply. It is written by hand, for
//! generated services have one codec for all.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Code, Status};
use tower_service::Service;

use crate::codec::ChunkCodec;
use crate::pb::Chunk;

/// `/notnets.conformance.Unencodable/Unary` echoes;
/// `/notnets.conformance.Unencodable/Stream` gives two chunks, then the request.
#[derive(Clone, Copy, Debug)]
pub struct UnencodableServer;

impl NamedService for UnencodableServer {
    const NAME: &'static str = "notnets.conformance.Unencodable";
}

impl Service<Request<Body>> for UnencodableServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ChunkCodec);
            Ok(match request.uri().path().rsplit('/').next() {
                Some("Unary") => grpc.unary(Echo, request).await,
                Some("Stream") => grpc.server_streaming(EchoThird, request).await,
                _ => Status::new(Code::Unimplemented, "").into_http(),
            })
        })
    }
}

struct Echo;

impl UnaryService<Chunk> for Echo {
    type Response = Chunk;
    type Future = BoxFuture<tonic::Response<Chunk>, Status>;

    fn call(&mut self, request: tonic::Request<Chunk>) -> Self::Future {
        Box::pin(async move { Ok(tonic::Response::new(request.into_inner())) })
    }
}

struct EchoThird;

impl ServerStreamingService<Chunk> for EchoThird {
    type Response = Chunk;
    type ResponseStream = tokio_stream::Iter<std::array::IntoIter<Result<Chunk, Status>, 3>>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<Chunk>) -> Self::Future {
        let chunk = |index| Ok(Chunk { index, body: vec![7; 100] });
        let third = Ok(request.into_inner());
        let chunks = tokio_stream::iter([chunk(0), chunk(1), third]);
        Box::pin(async move { Ok(tonic::Response::new(chunks)) })
    }
}
