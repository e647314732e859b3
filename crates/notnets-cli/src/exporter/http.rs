//! A server of one page.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ALLOW, CONTENT_TYPE};
use ::http::{HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};

/// Connections at once; more wait in the backlog.
const CONNECTIONS: usize = 64;
/// How long a client may take for the head of a request, and may be idle.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing is accepted after that has failed, for want of descriptors perhaps.
const PAUSE: Duration = Duration::from_millis(100);

const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers with what `scrape` returns, for ever. It runs on a thread where it may block, once at a time.
pub async fn serve(listener: TcpListener, scrape: fn() -> String) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let page = Arc::new(Page { scrape, one_at_a_time: Mutex::new(()) });
    loop {
        let permit = Arc::clone(&connections).acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let page = Arc::clone(&page);
                tokio::spawn(async move {
                    answer(stream, page).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, page: Arc<Page>) {
    let service = service_fn(|request: Request<Incoming>| {
        let page = Arc::clone(&page);
        async move { Ok::<_, Infallible>(page.respond(request.method(), request.uri().path()).await) }
    });
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("a connection of a scraper failed: {error}");
    }
}

struct Page {
    scrape: fn() -> String,
    /// Scrapers that come too often wait for each other, rather than take all cores.
    one_at_a_time: Mutex<()>,
}

impl Page {
    async fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/metrics" => self.metrics().await,
            "/" => page(StatusCode::OK, TEXT, "notnets exporter: see /metrics\n".to_owned()),
            _ => page(StatusCode::NOT_FOUND, TEXT, "not found: see /metrics\n".to_owned()),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let _turn = self.one_at_a_time.lock().await;
        match tokio::task::spawn_blocking(self.scrape).await {
            Ok(text) => page(StatusCode::OK, METRICS, text),
            Err(error) => {
                page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("the look failed: {error}\n"))
            }
        }
    }
}

fn page(status: StatusCode, content: HeaderValue, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}
