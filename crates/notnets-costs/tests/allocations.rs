//! Allocations of a unary call, on both sides together.

use std::convert::Infallible;

use allocation_counter::measure;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use notnets::{Endpoint, Server, Wait};
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Method, Request, Response, Uri};
use tower::ServiceExt as _;

/// What a link adds to tonic's own. On the client: the response's head and its trailers (two maps, of two
/// allocations each), its body, and the copy of its message out of the peer's memory. On the server: the
/// request's head (a map), its body, the copy of its message, the peer's identity among its extensions
/// (three), and the future that turns the service's errors into responses.
const BY_THE_LINK: f64 = 14.0;
const CALLS: usize = 1_000;

#[test]
fn of_a_unary_call() {
    let (nothing, link) = (notnets_costs::over_nothing(64), notnets_costs::over_a_link(64));
    let tonic = measure(|| nothing.calls(CALLS)).count_total as f64 / CALLS as f64;
    let notnets = measure(|| link.calls(CALLS)).count_total as f64 / CALLS as f64;
    println!("{tonic} by tonic itself, {notnets} over a link");
    assert!(notnets - tonic <= BY_THE_LINK, "a link adds {} allocations", notnets - tonic);
}

/// Of the bodies of HTTP requests and responses, which tonic's stubs have. A link copies each byte of them
/// twice in each direction: into a block of the sender's, which is there already, and out of it. So what is
/// allocated is the payload, once in each direction.
#[test]
fn of_a_large_body() {
    const PAYLOAD: usize = 1 << 20;
    const FEW: usize = 50;
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let channel = runtime.block_on(async {
        let gives_back = tower::service_fn(|request: Request<Body>| async {
            let mut response = Response::new(request.into_body());
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", grpc);
            Ok::<_, Infallible>(response)
        });
        let server = Server::builder().directory(directory.path()).wait(Wait::Park);
        let bound = server.bind_service("notnets:///costs", gives_back).await.unwrap();
        tokio::spawn(bound.serve());
        let endpoint = Endpoint::from_static("notnets:///costs").directory(directory.path());
        endpoint.wait(Wait::Park).connect().await.unwrap()
    });
    let body = Bytes::from(vec![7; PAYLOAD]);
    let calls = |n: usize| {
        for _ in 0..n {
            let mut request = Request::new(Body::new(Full::new(body.clone())));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = Uri::from_static("/costs/Body");
            runtime.block_on(async {
                let mut response = channel.clone().oneshot(request).await.unwrap().into_body();
                let mut received = 0;
                while let Some(frame) = response.frame().await {
                    received += frame.unwrap().data_ref().map_or(0, Bytes::len);
                }
                assert_eq!(received, PAYLOAD);
            });
        }
    };
    // The blocks are there then.
    calls(FEW);
    let allocated = measure(|| calls(FEW)).bytes_total as f64 / (FEW * PAYLOAD) as f64;
    println!("{allocated} payloads for a body and its echo");
    assert!((1.9..=2.0 + 0.05).contains(&allocated), "{allocated} payloads");
}

/// By our stubs. On the client: the payload, the copy of the response out of the peer's memory, and the
/// payload decoded from that. On the server likewise two, the futures that serve the call and run its
/// handler, and the request's extensions with the peer's identity (three).
const BY_OUR_STUBS: f64 = 10.0;

#[test]
fn of_a_unary_call_by_our_stubs() {
    let bed = notnets_costs::stubs_over_a_link(64);
    let counted = measure(|| bed.calls(CALLS)).count_total as f64 / CALLS as f64;
    println!("{counted} by our stubs");
    // A table of the link's may grow once in a while.
    assert!(counted <= BY_OUR_STUBS + 0.1, "{counted} allocations");
}

/// Of a call in gRPC's own terms: on both sides the copy of its message out of the peer's memory, and on the
/// server the future that serves it.
const BY_THE_CALL: f64 = 3.0;

#[test]
fn of_a_unary_call_without_stubs() {
    for payload in [16, 64] {
        let bed = notnets_costs::rpc_over_a_link(payload);
        let counted = measure(|| bed.calls(CALLS)).count_total as f64 / CALLS as f64;
        println!("{counted} for {payload} bytes in gRPC's own terms");
        assert!(counted <= BY_THE_CALL, "{counted} allocations");
    }
}
