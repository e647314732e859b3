//! `notnets proxy`: how it starts, what it does when others die, how it ends.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::support::probe::pb::{Chunk, EchoRequest};
use crate::support::{ANY, World, handler, http2_server, in_time, key, started};

/// Where a proxy can listen, and the file that shows that it does.
fn listens(world: &World) -> [(String, std::path::PathBuf); 2] {
    [
        (world.unix("proxy.sock"), world.path("proxy.sock")),
        ("notnets:///proxy".to_owned(), world.names().join("proxy")),
    ]
}

#[tokio::test]
async fn a_server_that_dies_and_comes_back() {
    let world = World::new();
    let server = http2_server().await;
    for (meeting, words) in [
        (world.unix("server.sock"), ["is its server running?"; 2]),
        // Whether it has been looked for anew or not.
        ("notnets:///server".to_owned(), ["its server has ended", "no server of `server`"]),
    ] {
        // The inner proxy plays the server: a process that can be killed.
        let inner = world.proxy(&meeting, &server).await;
        let outer = world.proxy(ANY, &meeting).await;
        let mut client = world.client(&outer.address).await;

        let mut stream =
            in_time(client.wait_stream(handler(&key("dies")))).await.expect("a stream").into_inner();
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
        assert!(words.iter().any(|words| status.message().contains(words)), "{status}");

        // The killed process left its socket, which must not be in the way.
        let _inner = world.proxy(&meeting, &server).await;
        comes_back(&mut client).await;
    }
}

#[tokio::test]
async fn a_server_may_start_later() {
    let world = World::new();
    let server = http2_server().await;
    for late in [world.unix("late.sock"), "notnets:///late".to_owned()] {
        let outer = world.proxy(ANY, &late).await;
        let mut client = world.client(&outer.address).await;
        let status = in_time(client.echo(EchoRequest::default())).await.expect_err("nobody listens");
        assert_eq!(status.code(), Code::Unavailable);
        let _inner = world.proxy(&late, &server).await;
        comes_back(&mut client).await;
        outer.signal(Signal::TERM);
        let (_, said) = outer.ended().await;
        assert!(said.contains("calls will fail until the server is there"), "{said}");
    }
}

/// After a failed attempt the next ones are not made at once.
async fn comes_back(client: &mut crate::support::Probe) {
    in_time(async {
        while let Err(status) = client.echo(EchoRequest::default()).await {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
        }
    })
    .await;
}

#[tokio::test]
async fn at_the_first_signal_open_calls_may_end() {
    let world = World::new();
    for (listen, file) in listens(&world) {
        for signal in [Signal::TERM, Signal::INT] {
            let proxy = world.proxy(&listen, &http2_server().await).await;
            let mut client = world.client(&proxy.address).await;
            let (send, requests) = tokio::sync::mpsc::channel::<Chunk>(1);
            let mut replies =
                in_time(client.chat(ReceiverStream::new(requests))).await.expect("a stream").into_inner();
            proxy.signal(signal);
            in_time(async {
                while file.exists() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            send.send(Chunk { data: vec![1] }).await.expect("the call is open");
            let reply = in_time(replies.message()).await.expect("no error").expect("a chunk");
            assert_eq!(reply.data, [1]);
            drop(send);
            assert!(in_time(replies.message()).await.expect("no error").is_none());
            let (status, said) = proxy.ended().await;
            assert!(status.success(), "{status}: {said}");
            let status = in_time(client.echo(EchoRequest::default())).await.expect_err("it has ended");
            assert_eq!(status.code(), Code::Unavailable, "{status}");
        }
    }
    assert!(!world.path("proxy.sock").exists());
    assert_eq!(std::fs::read_dir(world.names()).expect("a directory").count(), 0);
}

#[tokio::test]
async fn at_the_second_signal_it_ends() {
    let world = World::new();
    for (listen, file) in listens(&world) {
        let proxy = world.proxy(&listen, &http2_server().await).await;
        let mut client = world.client(&proxy.address).await;
        let mut stream =
            in_time(client.wait_stream(handler(&key("cut")))).await.expect("a stream").into_inner();
        assert!(in_time(stream.message()).await.expect("no error").is_some());
        proxy.signal(Signal::TERM);
        in_time(async {
            while file.exists() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.ended().await.0.code(), Some(1));
        in_time(stream.message()).await.expect_err("the call was cut off");
    }
}

#[tokio::test]
async fn when_the_grace_is_over_calls_are_cut_off() {
    let world = World::new();
    let server = http2_server().await;
    for (listen, _) in listens(&world) {
        let arguments = ["proxy", "--listen", &listen, "--to", &server, "--grace", "1ms"];
        let proxy = world.proxy_of(arguments).await;
        let mut client = world.client(&proxy.address).await;
        let mut stream =
            in_time(client.wait_stream(handler(&key("cut")))).await.expect("a stream").into_inner();
        assert!(in_time(stream.message()).await.expect("no error").is_some());
        proxy.signal(Signal::TERM);
        in_time(stream.message()).await.expect_err("the call was cut off");
        let (status, said) = proxy.ended().await;
        assert!(status.success(), "{status}");
        assert!(said.contains("calls were still open after 1ms and have been cut off"), "{listen}: {said}");
    }
}

#[tokio::test]
async fn what_stands_in_the_way_is_said() {
    let world = World::new();
    let server = http2_server().await;
    let file = world.path("file");
    std::fs::write(&file, "precious").expect("writable");
    let taken = world.unix("taken.sock");
    let _holder = world.proxy(&taken, &server).await;
    let nowhere = world.unix("no/such/directory");
    let long = format!("unix:/{}", "x".repeat(200));
    let file_address = world.unix("file");
    for (listen, words) in [
        (file_address.as_str(), "not a socket"),
        (&taken, "another process is listening there"),
        (&nowhere, "No such file or directory"),
        (&long, "a Unix socket's may have 107"),
        (&server, "Address already in use"),
    ] {
        let ended = world.run(["proxy", "--listen", listen, "--to", &server]).await;
        assert_eq!(ended.code(), Some(1), "{listen}");
        assert_eq!(ended.out(), "", "{listen}");
        assert!(ended.err().contains("cannot listen on "), "{}", ended.err());
        assert!(ended.err().contains(&format!("{listen}: ")), "{}", ended.err());
        assert!(ended.err().contains(words), "{listen}: {}", ended.err());
    }
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "precious");
    let kind = std::fs::symlink_metadata(world.path("taken.sock")).expect("still there").file_type();
    assert!(kind.is_socket());
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_name_is_said() {
    let world = World::new();
    let server = http2_server().await;
    std::fs::write(world.names().join("file"), "precious").expect("writable");
    let holder = world.proxy("notnets:///taken", &server).await;
    let by_whom = format!("in use by the process with pid {}", holder.pid());
    for (listen, words) in [
        ("notnets:///taken", by_whom.as_str()),
        ("notnets:///file", "not a socket of NotNets, so it is left alone"),
        ("notnets://pod0/x", "start one with `notnets agent"),
        ("notnets:///two/parts", "two/parts"),
    ] {
        let ended = world.run(["proxy", "--listen", listen, "--to", &server]).await;
        assert_eq!((ended.code(), ended.out()), (Some(1), ""), "{listen}");
        assert!(ended.err().contains(words), "{listen}: {}", ended.err());
    }
    let file = std::fs::read_to_string(world.names().join("file"));
    assert_eq!(file.expect("still there"), "precious");
}
