//! Calls in gRPC's own terms, between two ends of ours.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::within;
use notnets::rpc::{Code, Deadline, Handler, Metadata, Method, Payload, Reply, Request, ServerCall, Status};
use notnets::{Channel, Server};
use tokio::sync::Notify;

/// A server that is dropped, with all its links, when this is.
struct Host {
    _directory: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
    seen: Arc<Seen>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Seen {
    begun: Notify,
    dropped: Notify,
    calls: AtomicUsize,
}

/// Tells when a handler is dropped.
struct Dropped(Arc<Seen>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.notify_one();
    }
}

struct Test(Arc<Seen>);

impl Handler for Test {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        match call.method.name() {
            "Echo" => {
                let message = call.requests.only_message().await?;
                call.responses.send_last(message).await
            }
            "FailWithoutText" => Err(Status::new(Code::ABORTED, "")),
            "EchoAll" => {
                while let Some(message) = call.requests.message().await? {
                    call.responses.send(message).await?;
                }
                Ok(())
            }
            "Count" => {
                let mut bytes = 0u64;
                while let Some(message) = call.requests.message().await? {
                    bytes += message.len() as u64;
                }
                call.responses.send_last(bytes.to_be_bytes().to_vec()).await
            }
            "Metadata" => {
                *call.responses.metadata().unwrap() = call.metadata.clone();
                *call.responses.trailers() = call.metadata.clone();
                assert_eq!(call.peer.pid, Some(std::process::id()));
                call.responses.send_last(Payload::new()).await
            }
            "Fail" => Err(Status::new(Code::NOT_FOUND, "no such thing: 100 %")
                .with_metadata(std::mem::take(&mut call.metadata))),
            "FailLate" => {
                call.responses.send("one").await?;
                Err(Status::new(Code::ABORTED, "late"))
            }
            "FailLarge" => Err(large_status()),
            "FailLateLarge" => {
                for message in ["one", "two", "three"] {
                    call.responses.send(message).await?;
                }
                Err(large_status())
            }
            "TrailersLarge" => {
                call.responses.send("one").await?;
                *call.responses.trailers() = large_status().metadata().clone();
                Ok(())
            }
            "Small" => {
                call.requests.set_max_message_size(10);
                while call.requests.message().await?.is_some() {}
                Ok(())
            }
            "Compressed" => {
                let message = call.requests.only_message().await?;
                assert!(message.is_compressed());
                call.responses.send_last(Payload::compressed(message.into_bytes())).await
            }
            "Deadline" => {
                let left = call.deadline.map_or(0, |deadline| deadline.time_left().as_secs());
                call.responses.send_last(left.to_be_bytes().to_vec()).await
            }
            "Hang" => {
                let _dropped = Dropped(Arc::clone(&self.0));
                self.0.begun.notify_one();
                std::future::pending().await
            }
            "Flood" => {
                while is_done_at_once(call.responses.send("a message")).await {}
                self.0.begun.notify_one();
                std::future::pending().await
            }
            "GivenUp" => {
                call.responses.metadata().unwrap().append("a-key", "a value").unwrap();
                self.0.begun.notified().await;
                assert!(!is_done_at_once(call.responses.send_head()).await);
                assert!(!is_done_at_once(call.responses.send("one")).await);
                self.0.dropped.notify_one();
                call.responses.send("two").await
            }
            "Panic" => panic!("the test's handler panics"),
            _ => Err(Status::unknown_method(&call.method)),
        }
    }
}

/// An error of which each part is larger than what a client accepts.
fn large_status() -> Status {
    let mut metadata = Metadata::new();
    metadata.append("why", "y".repeat(20_000)).unwrap();
    Status::new(Code::INVALID_ARGUMENT, "m".repeat(20_000)).with_metadata(metadata)
}

/// Polls once, and gives up then.
async fn is_done_at_once(future: impl Future<Output = Result<(), Status>>) -> bool {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

fn request(name: &str) -> Request {
    Request::new(Method::new(format!("/test.Test/{name}")).unwrap())
}

async fn serve(builder: Server) -> (Host, Channel) {
    let (directory, seen) = (tempfile::tempdir().unwrap(), Arc::new(Seen::default()));
    let server = builder.directory(directory.path()).add_rpc_service("test.Test", Test(Arc::clone(&seen)));
    let bound = server.bind_blocking("notnets:///test").unwrap();
    let task = tokio::spawn(async move { bound.serve().await.unwrap() });
    let endpoint = notnets::Endpoint::from_static("notnets:///test").directory(directory.path());
    let channel = within("connecting", endpoint.connect()).await.unwrap();
    (Host { _directory: directory, task, seen }, channel)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 7) as u8).collect()
}

#[tokio::test]
async fn unary_messages_of_all_sizes_come_back() {
    let (_host, channel) = serve(Server::builder()).await;
    for len in [0, 1, 27, 28, 32, 33, 64, 1000, 70_000, 4 << 20] {
        let message = pattern(len);
        let reply = within("a reply", channel.unary_call(request("Echo"), message.clone())).await.unwrap();
        assert!(reply.message == message[..], "of {len} bytes");
        assert!(reply.metadata.is_empty() && reply.trailers.is_empty());
    }
}

#[tokio::test]
async fn streams_go_both_ways_at_once() {
    let (_host, channel) = serve(Server::builder()).await;
    let (mut sender, mut receiver) = channel.streaming_call(request("EchoAll")).await.unwrap();
    for len in [0, 5, 40, 100_000] {
        within("sending", sender.send(pattern(len))).await.unwrap();
        let message = within("its echo", receiver.message()).await.unwrap().unwrap();
        assert!(message == pattern(len)[..]);
    }
    // More than the windows hold, with nobody reading meanwhile.
    let sending = tokio::spawn(async move {
        for n in 0..300u32 {
            sender.send(pattern(n as usize * 100)).await.unwrap();
        }
        sender.finish().await.unwrap();
    });
    for n in 0..300u32 {
        let message = within("an echo", receiver.message()).await.unwrap().unwrap();
        assert!(message == pattern(n as usize * 100)[..]);
    }
    assert!(within("the end", receiver.message()).await.unwrap().is_none());
    assert!(receiver.message().await.unwrap().is_none());
    within("the sender", sending).await.unwrap();
}

#[tokio::test]
async fn one_message_may_be_answered_by_many_and_many_by_one() {
    let (_host, channel) = serve(Server::builder()).await;
    let mut receiver = channel.server_streaming_call(request("EchoAll"), "one").await.unwrap();
    assert!(receiver.message().await.unwrap().unwrap() == b"one"[..]);
    assert!(receiver.message().await.unwrap().is_none());

    let (mut sender, mut receiver) = channel.streaming_call(request("Count")).await.unwrap();
    for _ in 0..10 {
        sender.send(pattern(1000)).await.unwrap();
    }
    sender.finish().await.unwrap();
    assert!(within("the sum", receiver.message()).await.unwrap().unwrap() == 10_000u64.to_be_bytes()[..]);
    assert!(receiver.message().await.unwrap().is_none());
}

#[tokio::test]
async fn metadata_travel_in_head_and_trailers() {
    let (_host, channel) = serve(Server::builder()).await;
    let mut metadata = Metadata::new();
    metadata.append("a-key", "a value").unwrap();
    metadata.append("a-key", "another").unwrap();
    metadata.append_bin("b-bin", [0, 255]).unwrap();
    let reply = channel.unary_call(request("Metadata").metadata(metadata.clone()), "").await.unwrap();
    assert_eq!((&reply.metadata, &reply.trailers), (&metadata, &metadata));

    let error = channel.unary_call(request("Fail").metadata(metadata.clone()), "").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NOT_FOUND, "no such thing: 100 %"));
    assert_eq!(error.metadata(), &metadata);
    assert!(!error.is_retry_safe());
}

#[tokio::test]
async fn a_call_that_fails_late_gives_its_messages_first() {
    let (_host, channel) = serve(Server::builder()).await;
    let mut receiver = channel.server_streaming_call(request("FailLate"), "").await.unwrap();
    assert!(receiver.message().await.unwrap().unwrap() == b"one"[..]);
    assert_eq!(receiver.message().await.unwrap_err().code(), Code::ABORTED);
    assert!(receiver.message().await.unwrap().is_none());
}

#[tokio::test]
async fn an_end_that_is_too_large_keeps_its_code_and_takes_no_messages_away() {
    let (_host, channel) = serve(Server::builder()).await;
    let large = |status: &Status| {
        assert_eq!(status.code(), Code::INVALID_ARGUMENT);
        assert!(status.message().starts_with("mmm") && status.message().len() > 10_000);
    };
    large(&channel.unary_call(request("FailLarge"), "").await.unwrap_err());
    let mut receiver = channel.server_streaming_call(request("FailLateLarge"), "").await.unwrap();
    for message in ["one", "two", "three"] {
        assert!(receiver.message().await.unwrap().unwrap() == message.as_bytes()[..]);
    }
    large(&receiver.message().await.unwrap_err());
    // One that ended well is not told so without its trailers.
    let mut receiver = channel.server_streaming_call(request("TrailersLarge"), "").await.unwrap();
    assert!(receiver.message().await.unwrap().unwrap() == b"one"[..]);
    let status = receiver.message().await.unwrap_err();
    assert_eq!(status.code(), Code::RESOURCE_EXHAUSTED);
    assert!(status.message().contains("trailers could not be sent"), "{status}");
}

#[tokio::test]
async fn what_is_not_there_is_unimplemented() {
    let (_host, channel) = serve(Server::builder()).await;
    let error = channel.unary_call(request("Nothing"), "").await.unwrap_err();
    assert_eq!(error.code(), Code::UNIMPLEMENTED);
    let other = Request::new(Method::from_static("/other.Service/Method"));
    let error = channel.unary_call(other, "").await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::UNIMPLEMENTED, "this server has no service other.Service")
    );
    let no_method = Request::new(Method::from_static("/Method"));
    let error = channel.unary_call(no_method, "").await.unwrap_err();
    assert!(error.message().starts_with("/Method is not the path of a method"), "{error}");

    let response = common::call(&channel, "/other.Service/Method", tonic::body::Body::empty()).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "12");
    assert_eq!(response.headers()["grpc-message"], "this server has no service other.Service");
    let fails = http::Request::post("/test.Test/FailWithoutText").header("content-type", "application/grpc");
    let fails = fails.body(tonic::body::Body::empty()).unwrap();
    let response = tower_service::Service::call(&mut channel.clone(), fails).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "10");
    assert!(!response.headers().contains_key("grpc-message"), "an empty one is not sent");
}

#[tokio::test]
async fn messages_over_a_limit_are_refused_on_both_sides() {
    let (_host, channel) = serve(Server::builder()).await;
    let error = within("a refusal", channel.unary_call(request("Small"), pattern(11))).await.unwrap_err();
    assert_eq!(error.code(), Code::RESOURCE_EXHAUSTED, "{error}");
    let limited = request("Echo").max_message_size(10);
    assert!(channel.unary_call(limited.clone(), pattern(10)).await.is_ok());
    let error = within("a refusal", channel.unary_call(limited, pattern(11))).await.unwrap_err();
    assert_eq!(error.code(), Code::RESOURCE_EXHAUSTED, "{error}");
    assert!(error.message().ends_with("raise max_message_size on the client"), "{error}");
    let too_large = pattern((4 << 20) + 1);
    let error = within("a refusal", channel.unary_call(request("Echo"), too_large)).await.unwrap_err();
    assert_eq!(error.code(), Code::RESOURCE_EXHAUSTED, "{error}");
    assert!(error.message().ends_with("raise max_message_size on the server"), "{error}");
}

#[tokio::test]
async fn messages_may_be_compressed() {
    let (_host, channel) = serve(Server::builder()).await;
    for len in [10, 1000] {
        let message = Payload::compressed(pattern(len));
        let reply = channel.unary_call(request("Compressed"), message).await.unwrap();
        assert!(reply.message.is_compressed() && reply.message == pattern(len)[..]);
    }
}

#[tokio::test]
async fn deadlines_hold_for_the_whole_call_on_both_sides() {
    let (host, channel) = serve(Server::builder()).await;
    let reply = channel.unary_call(request("Deadline").timeout(Duration::from_secs(100)), "").await.unwrap();
    let left = u64::from_be_bytes((&*reply.message.into_bytes()).try_into().unwrap());
    assert!((90..100).contains(&left), "{left} s");

    let short = request("Hang").timeout(Duration::from_millis(50));
    let error = within("the deadline", channel.unary_call(short, "")).await.unwrap_err();
    assert_eq!(error.code(), Code::DEADLINE_EXCEEDED);
    within("the handler's end", host.seen.dropped.notified()).await;

    let stream = request("EchoAll").deadline(Deadline::after(Duration::from_millis(100)));
    let (mut sender, mut receiver) = channel.streaming_call(stream).await.unwrap();
    sender.send("one").await.unwrap();
    assert!(receiver.message().await.unwrap().is_some());
    let error = within("the deadline", receiver.message()).await.unwrap_err();
    assert_eq!(error.code(), Code::DEADLINE_EXCEEDED);
    within("the sender hears of it", sender.stopped()).await;
    assert!(sender.send("two").await.is_err());
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_handler() {
    let (host, channel) = serve(Server::builder()).await;
    let calling = channel.clone();
    let call = tokio::spawn(async move { calling.unary_call(request("Hang"), "").await.map(drop) });
    within("the handler", host.seen.begun.notified()).await;
    call.abort();
    within("the handler's end", host.seen.dropped.notified()).await;

    let (sender, receiver) = channel.streaming_call(request("Hang")).await.unwrap();
    within("the handler", host.seen.begun.notified()).await;
    drop(receiver);
    within("the handler's end", host.seen.dropped.notified()).await;
    drop(sender);
}

#[tokio::test]
async fn messages_that_are_cut_off_are_no_good_end() {
    let (_host, channel) = serve(Server::builder()).await;
    let (mut sender, mut receiver) = channel.streaming_call(request("Count")).await.unwrap();
    sender.send("one").await.unwrap();
    drop(sender);
    let error = within("the failure", receiver.message()).await.unwrap_err();
    assert_eq!(error.code(), Code::CANCELLED);
}

#[tokio::test]
async fn a_send_that_is_given_up_loses_nothing() {
    let (_host, channel) = serve(Server::builder()).await;
    let (mut sender, mut receiver) = channel.streaming_call(request("EchoAll")).await.unwrap();
    // It can't go at once: the windows are smaller.
    let long = pattern(3 << 20);
    {
        let mut sending = std::pin::pin!(sender.send(long.clone()));
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(sending.as_mut().poll(cx))).await.is_pending()
        );
    }
    let rest = tokio::spawn(async move {
        sender.send("after").await.unwrap();
        sender.finish().await.unwrap();
    });
    assert!(within("the long one", receiver.message()).await.unwrap().unwrap() == long[..]);
    assert!(within("the next", receiver.message()).await.unwrap().unwrap() == b"after"[..]);
    assert!(receiver.message().await.unwrap().is_none());
    rest.await.unwrap();
}

#[tokio::test]
async fn a_head_that_is_given_up_is_sent_before_the_next_message() {
    let (directory, seen) = (tempfile::tempdir().unwrap(), Arc::new(Seen::default()));
    let server = Server::builder().directory(directory.path());
    let server = server.add_rpc_service("test.Test", Test(Arc::clone(&seen)));
    let bound = server.bind("notnets:///test").await.unwrap();
    let task = tokio::spawn(async move { bound.serve().await.unwrap() });
    let endpoint = notnets::Endpoint::from_static("notnets:///test").directory(directory.path());
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let client = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let calls = runtime.block_on(async {
            let channel = endpoint.connect().await.unwrap();
            let waiting = channel.streaming_call(request("GivenUp")).await.unwrap();
            (waiting, channel.streaming_call(request("Flood")).await.unwrap())
        });
        // Meanwhile nothing of it takes what the server sends.
        gone.recv().unwrap();
        let ((_sender, mut receiver), _flood) = calls;
        runtime.block_on(async {
            let head = within("the head", receiver.head()).await.unwrap();
            assert_eq!(head.get("a-key"), Some("a value"));
            assert!(within("the first", receiver.message()).await.unwrap().unwrap() == b"one"[..]);
            assert!(within("the next", receiver.message()).await.unwrap().unwrap() == b"two"[..]);
            assert!(within("the end", receiver.message()).await.unwrap().is_none());
        });
    });
    within("giving up", seen.dropped.notified()).await;
    go.send(()).unwrap();
    within("the client", tokio::task::spawn_blocking(|| client.join())).await.unwrap().unwrap();
    task.abort();
}

#[tokio::test]
async fn a_handler_that_panics_hangs_nobody() {
    let (_host, channel) = serve(Server::builder()).await;
    let error = within("an answer", channel.unary_call(request("Panic"), "")).await.unwrap_err();
    assert_eq!(error.code(), Code::INTERNAL);
    assert!(channel.unary_call(request("Echo"), "x").await.is_ok());
}

#[tokio::test]
async fn handlers_over_the_limit_wait_or_are_refused() {
    let (host, channel) = serve(Server::builder().concurrency_limit_per_connection(1)).await;
    let hanging = channel.streaming_call(request("Hang")).await.unwrap();
    within("the handler", host.seen.begun.notified()).await;
    let calling = channel.clone();
    let waiting = tokio::spawn(async move { calling.unary_call(request("Echo"), "x").await });
    assert_eq!(host.seen.calls.load(Ordering::Relaxed), 1);
    drop(hanging);
    assert!(within("its turn", waiting).await.unwrap().is_ok());

    let shedding = Server::builder().concurrency_limit_per_connection(1).load_shed(true);
    let (host, channel) = serve(shedding).await;
    let _hanging = channel.streaming_call(request("Hang")).await.unwrap();
    within("the handler", host.seen.begun.notified()).await;
    let error = within("a refusal", channel.unary_call(request("Echo"), "x")).await.unwrap_err();
    assert_eq!(error.code(), Code::RESOURCE_EXHAUSTED);
}

#[tokio::test]
async fn without_a_server_a_call_may_safely_be_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = notnets::Endpoint::from_static("notnets:///nobody").directory(directory.path());
    let error =
        within("an answer", endpoint.connect_lazy().unary_call(request("Echo"), "")).await.unwrap_err();
    assert_eq!(error.code(), Code::UNAVAILABLE);
    assert!(error.is_retry_safe() && error.channel_error().is_some());
}

#[tokio::test]
async fn functions_serve_unary_calls() {
    let directory = tempfile::tempdir().unwrap();
    let handler = notnets::rpc::unary(|request: Request, message: Payload| async move {
        assert_eq!(request.method.service(), "test.Test");
        Ok(notnets::rpc::Reply::new(message))
    });
    let server = Server::builder().directory(directory.path()).add_rpc_service("test.Test", handler);
    let bound = server.bind_blocking("notnets:///test").unwrap();
    let task = tokio::spawn(async move { bound.serve().await.unwrap() });
    let endpoint = notnets::Endpoint::from_static("notnets:///test").directory(directory.path());
    let channel = endpoint.connect().await.unwrap();
    let reply = channel.unary_call(request("Echo"), "hello").await.unwrap();
    assert_eq!(reply.message.into_bytes(), "hello");
    let (mut sender, mut receiver) = channel.streaming_call(request("Echo")).await.unwrap();
    sender.send("one").await.unwrap();
    sender.send("two").await.unwrap();
    assert_eq!(within("a refusal", receiver.message()).await.unwrap_err().code(), Code::UNIMPLEMENTED);
    task.abort();
}

#[tokio::test]
async fn a_unary_handler_can_take_larger_messages() {
    let directory = tempfile::tempdir().unwrap();
    let length = || {
        notnets::rpc::unary(async |_: Request, message: Payload| Ok(Reply::new(message.len().to_string())))
    };
    let bound = Server::builder()
        .directory(directory.path())
        .add_rpc_service("test.Small", length())
        .add_rpc_service("test.Large", length().max_message_size(5 << 20))
        .bind_blocking("notnets:///test")
        .unwrap();
    let serving = tokio::spawn(bound.serve());
    let channel =
        notnets::Endpoint::from_static("notnets:///test").directory(directory.path()).connect_lazy();
    let call = |path| channel.unary_call(Request::new(Method::from_static(path)), pattern(5 << 20));
    let reply = within("a reply", call("/test.Large/Length")).await.unwrap();
    assert_eq!(reply.message, b"5242880"[..]);
    let error = within("a refusal", call("/test.Small/Length")).await.unwrap_err();
    assert_eq!(error.code(), Code::RESOURCE_EXHAUSTED, "{error}");
    serving.abort();
}

#[test]
fn a_status_that_is_unwrapped_says_its_sentence_first() {
    let status = Status::new(Code::NOT_FOUND, "no such book");
    assert!(format!("{status:#?}").starts_with(r#"Status(NOT_FOUND: "no such book", "#), "{status:#?}");
}

#[test]
fn methods_and_metadata_that_can_not_be_say_so_when_unwrapped() {
    let method = Method::new("calc.Calc/Add").unwrap_err();
    assert_eq!(format!("{method:?}"), format!("InvalidMethod({:?})", method.to_string()));
    let key = Metadata::new().append("A key", "value").unwrap_err();
    assert!(format!("{key:?}").contains("is not a metadata key: lower-case letters"), "{key:?}");
}
