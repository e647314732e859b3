//! Requests whose bodies and deadlines are out of the ordinary.

mod common;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use common::{Frames, Host, call, data, ok, poll_once, within};
use http::{Request, Response};
use http_body::Frame;
use notnets::Server;
use tonic::Code;
use tonic::body::Body;
use tower_service::Service;

/// Reads the whole request and says how many bytes it had.
async fn count(request: Request<Body>) -> Response<Body> {
    let mut body = request.into_body();
    let mut total = 0;
    while let Some(Ok(data)) = data(&mut body).await {
        total += data.len();
    }
    let mut response = ok();
    response.headers_mut().insert("total", total.into());
    response
}

#[tokio::test]
async fn a_deadline_also_ends_the_wait_for_the_concurrency_limit() {
    let host = Host::serve(Server::builder(), |_: Request<Body>| pending());
    let channel = host.endpoint().concurrency_limit(1).connect().await.unwrap();
    let mut first = call(&channel, "/x", Body::empty());
    assert!(poll_once(&mut first).await.is_pending());
    let second = Request::builder().uri("/x").header("grpc-timeout", "20m").body(Body::empty()).unwrap();
    let status = within("the deadline", channel.clone().call(second)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

#[tokio::test]
async fn a_body_that_panics_ends_its_call() {
    let host = Host::serve(Server::builder(), count);
    let channel = host.connect().await;
    let mut polls = 0;
    let panics = Frames(move |cx: &mut Context<'_>| {
        polls += 1;
        assert!(polls < 3, "a body that panics");
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    let status = within("the call", call(&channel, "/x", Body::new(panics))).await.unwrap_err();
    assert_eq!(status.code(), Code::Cancelled, "{status:?}");
    within("another", call(&channel, "/x", Body::empty())).await.unwrap();
}

/// Bodies made of streams may panic when they are asked once more after their end.
#[tokio::test]
async fn a_body_is_not_polled_after_its_end() {
    const LARGE: usize = 3 << 20;
    let host = Host::serve(Server::builder(), count);
    let channel = host.connect().await;
    let mut polls = 0;
    let body = Frames(move |_: &mut Context<'_>| {
        polls += 1;
        Poll::Ready(match polls {
            1 => Some(Ok(Frame::data(Bytes::from(vec![1; LARGE])))),
            2 => None,
            _ => panic!("asked once more"),
        })
    });
    let response = within("the call", call(&channel, "/x", Body::new(body))).await.unwrap();
    assert_eq!(response.headers()["total"], LARGE.to_string());
}

/// Generated clients keep a response's body until its stream is dropped, which may be much later.
#[tokio::test]
async fn a_call_that_has_ended_counts_no_more_though_its_body_is_held() {
    let host = Host::serve(Server::builder().max_concurrent_streams(1), |_: Request<Body>| async {
        let mut frames = 0;
        let slowly = Frames(move |cx: &mut Context<'_>| {
            frames += 1;
            match frames {
                1 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"some"))))),
                // Not with the head: the end is to come later.
                2 | 3 => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                _ => Poll::Ready(None),
            }
        });
        Response::new(Body::new(slowly))
    });
    let channel = host.endpoint().concurrency_limit(1).connect().await.unwrap();
    let mut held = within("the first call", call(&channel, "/x", Body::empty())).await.unwrap();
    while within("its body", data(held.body_mut())).await.is_some() {}
    within("the next call", call(&channel, "/x", Body::empty())).await.unwrap();
    drop(held);
}

/// What a caller does with a future that has given its result is nobody's business.
#[tokio::test]
async fn a_call_that_could_not_be_made_counts_no_more_though_its_future_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = notnets::Endpoint::from_static("notnets:///nobody").directory(directory.path());
    let channel = endpoint.concurrency_limit(1).connect_lazy();
    let mut held = call(&channel, "/x", Body::empty());
    within("the first call", &mut held).await.unwrap_err();
    within("the next call", call(&channel, "/x", Body::empty())).await.unwrap_err();
    drop(held);
}

/// A status of which each part is larger than what a client accepts.
fn large_status() -> tonic::Status {
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("why", "y".repeat(20_000).parse().unwrap());
    let (code, message) = (Code::InvalidArgument, "m".repeat(20_000));
    tonic::Status::with_details_and_metadata(code, message, vec![b'd'; 20_000].into(), metadata)
}

/// Three pieces of data, and then that status; or the status alone.
async fn end_at_large(request: Request<Body>) -> Response<Body> {
    if request.uri().path() == "/alone" {
        return large_status().into_http();
    }
    let mut left = 3;
    Response::new(Body::new(Frames(move |_: &mut Context<'_>| {
        left -= 1;
        Poll::Ready(match left {
            0.. => Some(Ok(Frame::data(Bytes::from_static(b"data")))),
            -1 => Some(Ok(Frame::trailers(large_status().into_http::<Body>().into_parts().0.headers))),
            _ => None,
        })
    })))
}

#[tokio::test]
async fn an_end_that_is_too_large_keeps_its_code_and_takes_no_data_away() {
    let host = Host::serve(Server::builder(), end_at_large);
    let channel = host.connect().await;
    let large = |headers: &http::HeaderMap| {
        let status = tonic::Status::from_header_map(headers).unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("mmm") && status.message().len() > 10_000);
    };
    let alone = within("the status", call(&channel, "/alone", Body::empty())).await.unwrap();
    large(alone.headers());
    let mut body = within("the head", call(&channel, "/late", Body::empty())).await.unwrap().into_body();
    let mut total = 0;
    loop {
        let next = std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx));
        let frame = within("a frame", next).await.unwrap().unwrap();
        match frame.into_data() {
            Ok(data) => total += data.len(),
            Err(frame) => break large(&frame.into_trailers().unwrap()),
        }
    }
    assert_eq!(total, 3 * b"data".len());
}

#[tokio::test]
async fn an_authority_is_carried() {
    let host = Host::serve(Server::builder(), |request: Request<Body>| async move {
        let authority = request.uri().authority().map_or("none", |authority| authority.as_str()).to_owned();
        let mut response = ok();
        response.headers_mut().insert("authority", authority.parse().unwrap());
        response
    });
    let channel = host.connect().await;
    for (uri, expected) in [("http://shop.example:8080/x", "shop.example:8080"), ("/x", "none")] {
        let response = within("the call", call(&channel, uri, Body::empty())).await.unwrap();
        assert_eq!(response.headers()["authority"], expected);
    }
}

/// Each link has a service of its own, which is dropped with it.
#[tokio::test]
async fn a_service_for_each_link() {
    let directory = tempfile::tempdir().unwrap();
    let alive = Arc::new(());
    let counted = Arc::clone(&alive);
    let make = move |peer: &notnets::PeerInfo| {
        assert_eq!(peer.pid, Some(std::process::id()));
        let (link, calls) = (Arc::clone(&counted), Arc::new(AtomicU32::new(0)));
        let handler = move |_: Request<Body>| {
            let _its_own = Arc::strong_count(&link);
            let number = calls.fetch_add(1, Ordering::Relaxed);
            let mut response = ok();
            response.headers_mut().insert("number", number.into());
            async move { response }
        };
        common::Handler(handler)
    };
    let server = Server::builder().directory(directory.path());
    let bound = server.bind_make_service("notnets:///each", make).await.unwrap();
    let task = tokio::spawn(bound.serve());
    let endpoint = notnets::Endpoint::from_static("notnets:///each").directory(directory.path());
    let before = Arc::strong_count(&alive);
    for _ in 0..2 {
        let channel = endpoint.connect().await.unwrap();
        for number in 0..3 {
            let answer = call(&channel, "/a/b", Body::empty()).await.unwrap();
            assert_eq!(answer.headers()["number"], number.to_string());
        }
    }
    within("the services are dropped", async {
        while Arc::strong_count(&alive) > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    task.abort();
}
