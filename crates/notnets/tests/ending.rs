//! How links end of old age, and what their calls end with when the server goes away.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Handler, Host, call, ok, within};
use http::Request;
use notnets::{Endpoint, Server};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tonic::Status;
use tonic::body::Body;

#[tokio::test]
async fn ages_without_end_do_not_overflow() {
    let old = Server::builder().max_connection_age(Duration::MAX);
    let host = Host::serve(old.max_connection_age_grace(Duration::MAX), |_: Request<Body>| async { ok() });
    let channel = host.connect().await;
    within("a call", call(&channel, "/x", Body::empty())).await.unwrap();
}

#[tokio::test]
async fn calls_move_from_old_links_to_new_ones() {
    let young = Server::builder().max_connection_age(Duration::from_millis(5));
    let host = Host::serve(young, |_: Request<Body>| async { ok() });
    let channel = host.connect().await;
    let begin = Instant::now();
    // Across many links, and none fails.
    while begin.elapsed() < Duration::from_millis(500) {
        within("a call", call(&channel, "/x", Body::empty())).await.unwrap();
    }
}

/// Serves a name as soon as it is free. Returns what stops it when sent to, and its number of calls.
async fn serve_once_free(directory: &Path) -> (oneshot::Sender<()>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = {
        let calls = Arc::clone(&calls);
        move |_: Request<Body>| {
            calls.fetch_add(1, Ordering::Relaxed);
            async { ok() }
        }
    };
    let bound = loop {
        let server = Server::builder().directory(directory);
        match server.bind_service_blocking("notnets:///test", Handler(handler.clone())) {
            Ok(bound) => break bound,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(bound.serve_with_shutdown(async { drop(stopped.await) }));
    (stop, calls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_made_once_a_successor_has_the_name_is_the_successors() {
    let directory = tempfile::tempdir().unwrap();
    let (mut stop, _) = serve_once_free(directory.path()).await;
    let endpoint = Endpoint::from_static("notnets:///test").directory(directory.path());
    let channel = within("connecting", endpoint.connect()).await.unwrap();
    within("a call", call(&channel, "/x", Body::empty())).await.unwrap();
    for restart in 0..100 {
        stop.send(()).unwrap();
        let (next, calls) = within("a successor", serve_once_free(directory.path())).await;
        within("a call", call(&channel, "/x", Body::empty())).await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1, "restart {restart}");
        stop = next;
    }
}

/// A server in a runtime of its own, whose handlers never answer, and its calls that have begun.
fn serve_in(runtime: &Runtime) -> (Host, Arc<Semaphore>) {
    let begun = Arc::new(Semaphore::new(0));
    let handler = {
        let begun = Arc::clone(&begun);
        move |_: Request<Body>| {
            let begun = Arc::clone(&begun);
            async move {
                begun.add_permits(1);
                std::future::pending().await
            }
        }
    };
    let _inside = runtime.enter();
    (Host::serve(Server::builder(), handler), begun)
}

/// A caller may try another server then, as when the server's process has ended.
#[tokio::test]
async fn calls_of_a_server_whose_runtime_ends_are_unavailable() {
    let current = || Builder::new_current_thread().enable_all().build().unwrap();
    let multi = || Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for round in 0..20 {
        let runtime = if round % 2 == 0 { multi() } else { current() };
        let (host, begun) = serve_in(&runtime);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = std::thread::spawn(move || {
            runtime.block_on(async { stopped.await.unwrap() });
            runtime.shutdown_background();
        });
        let channel = host.connect().await;
        let calls: Vec<_> = (0..3).map(|_| tokio::spawn(call(&channel, "/x", Body::empty()))).collect();
        let _begun = within("the calls", begun.acquire_many(3)).await.unwrap();
        stop.send(()).unwrap();
        serving.join().unwrap();
        for call in calls {
            let response = within("the end of a call", call).await.unwrap();
            let status = match response {
                Ok(response) => Status::from_header_map(response.headers()).expect("a call that failed"),
                Err(status) => status,
            };
            assert_eq!(status.code(), tonic::Code::Unavailable, "{round}: {status:?}");
        }
    }
}
