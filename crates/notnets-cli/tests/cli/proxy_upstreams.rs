//! `notnets proxy` and servers that go silent, away, or want nothing more.

use std::time::Duration;

use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;

use crate::frames::{Connection, DATA, END_STREAM, Frame, GOAWAY, HEADERS, REFUSED_STREAM, RESET, Server};
use crate::support::probe::pb::{Chunk, EchoRequest};
use crate::support::{ANY, Probe, Proxy, World, dropped, handler, http2_server, in_time, key, unix_server};

const SOON: Duration = Duration::from_secs(20);

/// Proxies that are reached over HTTP/2 and through shared memory, with little patience.
async fn impatient(world: &World, server: &str) -> [Proxy; 2] {
    let name = format!("notnets:///{}", key("proxy"));
    let proxy = async |listen: &str| {
        let to = ["proxy", "--listen", listen, "--to", server];
        let patience =
            ["--connect-timeout", "1s", "--keepalive-interval", "200ms", "--keepalive-timeout", "1s"];
        world.proxy_of(to.into_iter().chain(patience)).await
    };
    [proxy(ANY).await, proxy(&name).await]
}

async fn echo(client: &mut Probe) -> Result<(), tonic::Status> {
    in_time(client.echo(EchoRequest::default())).await.map(drop)
}

/// Lets the real server take all further connections: what the proxy sends is passed on.
async fn pass_on(server: Server, real: String) {
    loop {
        let mut from = server.silent().await;
        let mut to = tokio::net::TcpStream::connect(&real).await.expect("a server");
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
    }
}

/// The next connection on which a call is made, after a frame of this kind on it. On others the proxy only
/// looks for the server.
async fn called(server: &Server, kind: u8) -> (Connection, Frame) {
    loop {
        let mut connection = in_time(server.accept()).await;
        while let Some(frame) = in_time(connection.next()).await {
            if frame.kind == kind {
                return (connection, frame);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_of_no_requests_ends_with_an_empty_frame_of_data() {
    let world = World::new();
    let server = Server::new().await;
    for proxy in impatient(&world, &server.address).await {
        let mut client = world.client(&proxy.address).await;
        let none = tokio_stream::empty::<Chunk>();
        let call = tokio::spawn(async move { client.collect(none).await });
        let (mut connection, headers) = called(&server, HEADERS).await;
        assert_eq!((headers.kind, headers.flags & END_STREAM), (HEADERS, 0));
        assert_eq!(in_time(connection.next_of(1)).await, Frame::new(DATA, END_STREAM, 1, &[]));
        call.abort();
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_an_error_soon() {
    let world = World::new();
    let server = Server::new().await;
    for proxy in impatient(&world, &server.address).await {
        let mut client = world.client(&proxy.address).await;
        let status =
            tokio::time::timeout(SOON, echo(&mut client)).await.expect("soon").expect_err("no server");
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("no answer within 1s"), "{status}");
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_replaced() {
    let world = World::new();
    let real = http2_server().await;
    for listen in 0..2 {
        let server = Server::new().await;
        let proxy = &impatient(&world, &server.address).await[listen];
        let mut client = world.client(&proxy.address).await;
        let call = tokio::spawn(async move { (echo(&mut client).await, client) });
        let (mut silent, _) = called(&server, HEADERS).await;
        let (answer, mut client) = tokio::time::timeout(SOON, call).await.expect("soon").expect("no panic");
        let status = answer.expect_err("no answer");
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("did not answer within 1s"), "{status}");
        tokio::spawn(pass_on(server, real.clone()));
        echo(&mut client).await.expect("another connection is made");
        while in_time(silent.next()).await.is_some() {}
    }
}

#[tokio::test]
async fn a_silent_call_of_a_living_server_goes_on() {
    let world = World::new();
    let server = unix_server(&world.path("probe.sock")).await;
    for proxy in impatient(&world, &server).await {
        let mut client = world.client(&proxy.address).await;
        let request = handler(&key("waits"));
        let mut stream = in_time(client.wait_stream(request)).await.expect("a stream").into_inner();
        assert!(in_time(stream.message()).await.expect("no error").is_some());
        // Several times as long as a silent server has.
        let ended = tokio::time::timeout(Duration::from_secs(3), stream.message()).await;
        assert!(ended.is_err(), "{ended:?}");
    }
}

#[tokio::test]
async fn calls_that_a_server_did_not_process_are_made_again_once() {
    let world = World::new();
    let real = http2_server().await;
    let goaway = Frame::new(GOAWAY, 0, 0, &[0; 8]);
    let refusal = Frame::new(RESET, 0, 1, &REFUSED_STREAM.to_be_bytes());
    for (unprocessed, times) in [(&goaway, 1), (&refusal, 1), (&goaway, 2)] {
        let server = Server::new().await;
        let proxy = world.proxy(ANY, &server.address).await;
        let mut client = world.client(&proxy.address).await;
        let payload = vec![5; 100_000];
        let request = EchoRequest { payload: payload.clone(), ..EchoRequest::default() };
        let call = tokio::spawn(async move { client.echo(request).await });
        let mut kept = Vec::new();
        for _ in 0..times {
            let (mut connection, _) = called(&server, DATA).await;
            connection.send(unprocessed.clone()).await;
            kept.push(connection);
        }
        if times > 1 {
            let status = in_time(call).await.expect("no panic").expect_err("once is enough");
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            continue;
        }
        // After a refusal the connection is as good as before.
        if unprocessed.kind == RESET {
            assert_eq!(in_time(kept[0].next_of(3)).await.kind, HEADERS);
            call.abort();
            continue;
        }
        tokio::spawn(pass_on(server, real.clone()));
        let reply = in_time(call).await.expect("no panic").expect("it is made again").into_inner();
        assert!(reply.request.expect("an echo").payload == payload);
    }
}

#[tokio::test]
async fn an_ageing_server_loses_no_calls() {
    let world = World::new();
    let listener = tokio::net::TcpListener::bind(ANY).await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let incoming = TcpListenerStream::new(listener);
    let ageing = tonic::transport::Server::builder().max_connection_age(Duration::from_millis(30));
    let routes = crate::support::services().await;
    tokio::spawn(ageing.serve_with_incoming(routes, incoming));
    for proxy in impatient(&world, &address).await {
        let client = world.client(&proxy.address).await;
        let calls = (0..8).map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let begin = std::time::Instant::now();
                let mut count = 0;
                while begin.elapsed() < Duration::from_secs(1) {
                    match echo(&mut client).await {
                        Ok(()) => count += 1,
                        // It is asked a second time and no third. On a busy machine both may come too late.
                        Err(status) if status.message().contains("went away before it processed") => {}
                        Err(status) => panic!("call {count}: {status}"),
                    }
                }
                count
            })
        });
        for call in calls.collect::<Vec<_>>() {
            assert!(in_time(call).await.expect("no call fails") > 0);
        }
    }
}

#[tokio::test]
async fn the_handler_of_a_client_that_has_gone_without_a_word_is_dropped() {
    let world = World::new();
    for server in world.servers().await {
        let [proxy, _] = impatient(&world, &server).await;
        let mut direct = world.client(&server).await;
        let mut silent = Connection::connect(&proxy.address).await;
        let key = key("silent");
        let block = crate::frames::call("/notnets.probe.Probe/Wait", &proxy.address);
        silent.send(Frame::new(HEADERS, crate::frames::END_HEADERS, 1, &block)).await;
        let request = prost::Message::encode_to_vec(&handler(&key));
        let data = crate::frames::message(&request);
        silent.send(Frame::new(DATA, END_STREAM, 1, &data)).await;
        crate::support::started(&mut direct, &key).await;
        // It never answers a ping.
        dropped(&mut direct, &key).await;
    }
}
