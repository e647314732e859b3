//! Bodies of any tower service: frames go through as they are, whoever reads them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use http_body_util::channel::Channel as Frames;
use notnets::{Endpoint, Server};
use tonic::body::Body;
use tower_service::Service;

/// Reads its request in a task that it starts before anything else, and answers with what it read.
#[derive(Clone)]
struct ReadsInAnotherTask;

impl Service<Request<Body>> for ReadsInAnotherTask {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            let reading = tokio::spawn(request.into_body().collect());
            let read = reading.await.unwrap().unwrap().to_bytes();
            let (mut frames, body) = Frames::<Bytes, tonic::Status>::new(1);
            tokio::spawn(async move {
                frames.send_data(read).await.unwrap();
                let status = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), 0.into())]);
                frames.send_trailers(status).await.unwrap();
            });
            Ok(Response::new(Body::new(body)))
        })
    }
}

#[tokio::test]
async fn a_body_can_be_read_by_a_task_that_the_handler_starts() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::builder().directory(directory.path());
    let bound = server.bind_service("notnets:///any", ReadsInAnotherTask).await.unwrap();
    tokio::spawn(bound.serve());
    let endpoint = Endpoint::from_static("notnets:///any").directory(directory.path());
    let mut channel = endpoint.connect().await.unwrap();
    let (mut frames, body) = Frames::<Bytes, tonic::Status>::new(1);
    let call = channel.call(Request::post("/a.B/C").body(Body::new(body)).unwrap());
    let writing = async {
        for i in 0..100u8 {
            frames.send_data(vec![i; 100].into()).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(frames);
    };
    let both = async { tokio::join!(call, writing).0 };
    let response = tokio::time::timeout(Duration::from_secs(20), both).await.expect("it hangs").unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    let expected: Vec<u8> = (0..100u8).flat_map(|i| vec![i; 100]).collect();
    assert_eq!(body.to_bytes(), expected);
}
