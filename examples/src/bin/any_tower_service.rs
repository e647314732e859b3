//! Any tower service can be served and called: here plain HTTP, with no gRPC and no routing.

use std::convert::Infallible;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use notnets::{Channel, Server};
use notnets_examples::{Result, two_processes};
use tonic::body::Body;
use tower::{ServiceExt, service_fn};

async fn answer(request: Request<Body>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut response = Response::new(Full::from(format!("{} bytes for {}", body.len(), parts.uri.path())));
    if parts.method != Method::PUT {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    }
    response.headers_mut().insert("content-type", "text/plain".parse().expect("a value"));
    Ok(response)
}

async fn server() -> Result {
    Ok(Server::builder().serve("notnets:///shelf", service_fn(answer)).await?)
}

async fn client() -> Result {
    let channel = Channel::connect("notnets:///shelf").await?;
    for (method, bytes) in [(Method::PUT, 100_000), (Method::POST, 3)] {
        let body = Body::new(Full::from(vec![7; bytes]));
        let request = Request::builder().method(&method).uri("/books/sicp").body(body)?;
        let response = channel.clone().oneshot(request).await?;
        let (status, kind) = (response.status(), response.headers()["content-type"].clone());
        let text = response.into_body().collect().await?.to_bytes();
        println!("{method} {status}, {}: {}", kind.to_str()?, str::from_utf8(&text)?);
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    two_processes(server(), client())
}
