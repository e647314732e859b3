//! Interceptors and tower layers, on the client and on the server.

use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Status};
use tower::{Layer, ServiceExt};

use crate::pb::test_client::TestClient;
use crate::pb::{Nothing, OutputRequest, UnaryReply, UnaryRequest};
use crate::rpc::{assert_alive, counters, keyed, test};
use crate::server::TraceLayer;
use crate::{Observation, Rpc};

pub async fn client_interceptor<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let mut client = TestClient::with_interceptor(channel.clone(), |mut request: Request<()>| {
        request.metadata_mut().insert("x-copy-by", "the client's interceptor".parse().expect("valid"));
        Ok(request)
    });
    let reply = client.unary(UnaryRequest::default()).await.expect("a call");
    assert_eq!(reply.metadata().get("x-copy-by").expect("it came back"), "the client's interceptor");
    seen.note_metadata("metadata", reply.metadata());

    let refuse = |_: Request<()>| Err::<Request<()>, _>(Status::unauthenticated("not from here"));
    let mut client = TestClient::new(InterceptedService::new(channel.clone(), refuse));
    let status = client.empty(keyed("refused", Nothing {})).await.expect_err("the interceptor refuses");
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "not from here"));
    seen.note_status("status", &status);
    assert_eq!(counters(&channel, "refused").await.started, 0, "it never left the client");
    seen
}

pub async fn server_interceptor<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let reply = test(&channel).unary(UnaryRequest::default()).await.expect("a call");
    let UnaryReply { metadata, .. } = reply.into_inner();
    let mark = metadata.iter().find(|entry| entry.key == "x-intercepted").expect("the handler sees it");
    assert_eq!(mark.value, b"by the server");

    let mut request = keyed("rejected", Nothing {});
    request.metadata_mut().insert("x-reject", "for a test".parse().expect("valid"));
    let status = test(&channel).empty(request).await.expect_err("the interceptor refuses");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(status.details(), b"rejected");
    assert_eq!(status.metadata().get("x-reason").expect("with its reason"), "for a test");
    seen.note_status("unary", &status);

    let mut request = keyed("rejected", tokio_stream::pending());
    request.metadata_mut().insert("x-reject", "for a test".parse().expect("valid"));
    let status = test(&channel).duplex(request).await.expect_err("the interceptor refuses");
    seen.note_status("stream", &status);
    assert_eq!(counters(&channel, "rejected").await.started, 0, "no handler ran");
    assert_alive(&channel).await;
    seen
}

/// Tower layers around the channel: one that changes the request, and one that
/// changes head and trailers of the response.
pub async fn client_layer<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let layered = channel.map_request(|mut request: http::Request<tonic::body::Body>| {
        let added = http::HeaderValue::from_static("a layer");
        request.headers_mut().insert("x-copy-by", added.clone());
        request.headers_mut().insert("x-echo-trailing-by", added);
        request
    });
    let mut client = TestClient::new(TraceLayer.layer(layered));
    let reply = client.output(OutputRequest { sizes: vec![3], ..Default::default() }).await.expect("a call");
    assert_eq!(reply.metadata().get("x-copy-by").expect("it came back"), "a layer");
    seen.note_metadata("initial", reply.metadata());
    let mut stream = reply.into_inner();
    stream.message().await.expect("no error").expect("one chunk");
    assert_eq!(stream.message().await.expect("a good end"), None);
    let trailers = stream.trailers().await.expect("trailers").expect("there are some");
    assert_eq!(trailers.get("x-echo-trailing-by").expect("it came back"), "a layer");
    seen.note_metadata("trailing", &trailers);
    seen
}

/// The server's own layer sees every call, also one that no service takes.
pub async fn server_layer<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let reply = test(&channel).empty(Nothing {}).await.expect("a call");
    let path = reply.metadata().get("x-layer-path").expect("the layer saw it");
    assert_eq!(path, "/notnets.conformance.Test/Empty");
    let status = test(&channel).unimplemented(Nothing {}).await.expect_err("unimplemented");
    seen.note_metadata("failed", status.metadata());
    let mut client = crate::pb::unserved_client::UnservedClient::new(channel);
    let status = client.call(Nothing {}).await.expect_err("nobody serves it");
    let path = status.metadata().get("x-layer-path").expect("the layer saw it");
    assert_eq!(path, "/notnets.conformance.Unserved/Call");
    seen.note_metadata("unserved", status.metadata());
    seen
}
