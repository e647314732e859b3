//! `notnets proxy`: how it starts, what it does when others die, how it ends.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::support::probe::pb::{Chunk, EchoRequest};
use crate::support::{Proxy, client, handler, in_time, key, run, server, started};

const ANY: &str = "127.0.0.1:0";

#[tokio::test]
async fn a_server_that_dies_and_comes_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = format!("unix:{}", directory.path().join("server.sock").display());
    let server = server().await;
    // The inner proxy plays the server: a process that can be killed.
    let inner = Proxy::start(&socket, &server).await;
    let outer = Proxy::start(ANY, &socket).await;
    let mut client = client(&outer.address).await;

    let mut stream = in_time(client.wait_stream(handler(&key("dies")))).await.expect("a stream").into_inner();
    assert!(in_time(stream.message()).await.expect("no error").is_some());
    let unary = key("dies");
    let request = handler(&unary);
    let mut waiting = client.clone();
    let call = tokio::spawn(async move { waiting.wait(request).await });
    started(&mut client, &unary).await;

    inner.signal(Signal::KILL);
    assert_eq!(inner.ended().await.0.signal(), Some(Signal::KILL.as_raw()));
    let status = in_time(stream.message()).await.expect_err("a status");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let status = in_time(call).await.expect("not aborted").expect_err("a status");
    assert_eq!(status.code(), Code::Unavailable, "{status}");

    let status = in_time(client.echo(EchoRequest::default())).await.expect_err("nobody listens");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("is its server running?"), "{status}");

    // The killed process left its socket, which must not be in the way.
    let _inner = Proxy::start(&socket, &server).await;
    in_time(client.echo(EchoRequest::default())).await.expect("it is back");
}

#[tokio::test]
async fn a_server_may_start_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = format!("unix:{}", directory.path().join("late.sock").display());
    let outer = Proxy::start(ANY, &socket).await;
    let mut client = client(&outer.address).await;
    let status = in_time(client.echo(EchoRequest::default())).await.expect_err("nobody listens");
    assert_eq!(status.code(), Code::Unavailable);
    let _inner = Proxy::start(&socket, &server().await).await;
    in_time(client.echo(EchoRequest::default())).await.expect("it is there");
}

#[tokio::test]
async fn at_the_first_signal_open_calls_may_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("proxy.sock");
    for signal in [Signal::TERM, Signal::INT] {
        let proxy = Proxy::start(&format!("unix:{}", path.display()), &server().await).await;
        let mut client = client(&proxy.address).await;
        let (send, requests) = tokio::sync::mpsc::channel::<Chunk>(1);
        let mut replies =
            in_time(client.chat(ReceiverStream::new(requests))).await.expect("a stream").into_inner();
        proxy.signal(signal);
        in_time(async {
            while path.exists() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        send.send(Chunk { data: vec![1] }).await.expect("the call is open");
        let reply = in_time(replies.message()).await.expect("no error").expect("a chunk");
        assert_eq!(reply.data, [1]);
        drop(send);
        assert!(in_time(replies.message()).await.expect("no error").is_none());
        let (status, _) = proxy.ended().await;
        assert!(status.success(), "{status}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0);
}

#[tokio::test]
async fn at_the_second_signal_it_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("proxy.sock");
    let proxy = Proxy::start(&format!("unix:{}", path.display()), &server().await).await;
    let mut client = client(&proxy.address).await;
    let mut stream = in_time(client.wait_stream(handler(&key("cut")))).await.expect("a stream").into_inner();
    assert!(in_time(stream.message()).await.expect("no error").is_some());
    proxy.signal(Signal::TERM);
    in_time(async {
        while path.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().await.0.code(), Some(1));
    in_time(stream.message()).await.expect_err("the call was cut off");
}

#[tokio::test]
async fn what_stands_in_the_way_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server().await;
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").expect("writable");
    let taken = format!("unix:{}", directory.path().join("taken.sock").display());
    let _holder = Proxy::start(&taken, &server).await;
    let nowhere = format!("unix:{}", directory.path().join("no/such/directory").display());
    let long = format!("unix:/{}", "x".repeat(200));
    let file_address = format!("unix:{}", file.display());
    for (listen, words) in [
        (file_address.as_str(), "not a socket"),
        (&taken, "another process is listening there"),
        (&nowhere, "No such file or directory"),
        (&long, "a Unix socket's may have 107"),
        (&server, "Address already in use"),
    ] {
        let ended = run(["proxy", "--listen", listen, "--to", &server]).await;
        assert_eq!(ended.code(), Some(1), "{listen}");
        assert_eq!(ended.out(), "", "{listen}");
        assert!(ended.err().contains(&format!("cannot listen on {listen}: ")), "{}", ended.err());
        assert!(ended.err().contains(words), "{listen}: {}", ended.err());
    }
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "precious");
    let kind =
        std::fs::symlink_metadata(directory.path().join("taken.sock")).expect("still there").file_type();
    assert!(kind.is_socket());
}
