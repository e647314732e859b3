//! `notnets proxy` with several servers, with a file of routes, and as service managers see it.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::support::probe::pb::{Chunk, EchoRequest};
use crate::support::{ANY, Probe, Proxy, World, handler, http2_server, in_time, key, unbound};

async fn echo(client: &mut Probe) -> Result<(), tonic::Status> {
    in_time(client.echo(EchoRequest::default())).await.map(drop)
}

/// Writes the file of a proxy.
fn configure(world: &World, config: &serde_json::Value) -> PathBuf {
    let path = world.path("proxy.json");
    std::fs::write(&path, config.to_string()).expect("writable");
    path
}

/// Starts a proxy with a file.
async fn configured(world: &World, config: &serde_json::Value, further: &[&str]) -> Proxy {
    let path = configure(world, config);
    let arguments = ["proxy", "--config", path.to_str().expect("UTF-8")];
    world.proxy_of(arguments.into_iter().chain(further.iter().copied())).await
}

#[tokio::test]
async fn equally_near_servers_share_the_calls_and_one_that_goes_takes_none_along() {
    let world = World::new();
    let served = http2_server().await;
    for meeting in [[ANY, ANY], ["notnets:///near", ANY]] {
        // Inner proxies play the servers: processes that can be ended.
        let first = world.proxy(meeting[0], &served).await;
        let second = world.proxy(meeting[1], &served).await;
        let to = format!("{} {}", first.address, second.address);
        let proxy = world.proxy_of(["proxy", "--listen", ANY, "--to", &to, "--pick", "round_robin"]).await;
        let mut client = world.client(&proxy.address).await;
        // Both are connected once each has had its turn.
        for _ in 0..10 {
            echo(&mut client).await.expect("two servers");
        }
        first.signal(Signal::TERM);
        let mut ended = std::pin::pin!(first.ended());
        let status = loop {
            echo(&mut client).await.expect("no call fails");
            if let Ok((status, _)) = tokio::time::timeout(std::time::Duration::ZERO, ended.as_mut()).await {
                break status;
            }
        };
        assert!(status.success());
        echo(&mut client).await.expect("one is left");
    }
}

#[tokio::test]
async fn a_nearer_server_gets_the_calls_as_soon_as_it_is_there() {
    let world = World::new();
    let served = http2_server().await;
    let far = world.proxy(ANY, &served).await;
    let proxy = world.proxy(ANY, &format!("notnets:///near,{}", far.address)).await;
    let mut client = world.client(&proxy.address).await;
    echo(&mut client).await.expect("the far one");
    let _near = world.proxy("notnets:///near", &served).await;
    far.signal(Signal::KILL);
    far.ended().await;
    in_time(async {
        while let Err(status) = echo(&mut client).await {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
        }
    })
    .await;
}

#[tokio::test]
async fn calls_go_by_service_and_authority() {
    let world = World::new();
    let (served, nobody) = (http2_server().await, unbound().await);
    let here = world.unix("here.sock");
    let proxy = configured(
        &world,
        &json!({"listeners": [
            {"listen": ANY, "routes": [
                {"service": "notnets.probe.Probe", "authority": "127.0.0.1", "to": served},
                {"service": "grpc.health.v1.Health", "to": nobody},
            ]},
            {"listen": format!("{here},notnets:///here"), "routes": [
                {"authority": "elsewhere", "to": nobody},
                {"to": served},
            ]},
            {"listen": "notnets:///nowhere", "routes": [{"service": "shop.Cart", "to": served}]},
        ]}),
        &[],
    )
    .await;
    let addresses: Vec<_> = proxy.address.split(' ').collect();
    assert_eq!(addresses.len(), 4, "{}", proxy.address);
    for address in addresses {
        let answer = echo(&mut world.client(address).await).await;
        if address == "notnets:///nowhere" {
            let status = answer.expect_err("there is no route");
            assert_eq!(status.code(), Code::Unimplemented);
            assert_eq!(status.message(), "the proxy has no route for /notnets.probe.Probe/Echo");
        } else {
            answer.unwrap_or_else(|status| panic!("{address}: {status}"));
        }
        if address.starts_with("127.") {
            let ended = world.run(["health", address, "shop.Cart"]).await;
            assert!(ended.err().contains("is its server running?"), "{}", ended.err());
        }
    }
}

#[tokio::test]
async fn a_reload_moves_new_calls_and_leaves_open_ones() {
    let world = World::new();
    let served = http2_server().await;
    let (old, new) = (world.proxy(ANY, &served).await, world.proxy(ANY, &served).await);
    let config = |to: &str, listen: &[&str]| json!({"listeners": [{"listen": listen.join(","), "routes": [{"to": to}]}]});
    let (stays, goes, comes) = (world.unix("stays.sock"), world.unix("goes.sock"), world.unix("comes.sock"));
    let mut proxy = configured(&world, &config(&old.address, &[&stays, &goes]), &[]).await;
    let mut client = world.client(&stays).await;
    let mut leaving = world.client(&goes).await;
    let mut open = Vec::new();
    for client in [&mut client, &mut leaving] {
        let (send, requests) = tokio::sync::mpsc::channel::<Chunk>(1);
        let replies = in_time(client.chat(ReceiverStream::new(requests))).await.expect("a stream");
        open.push((send, replies.into_inner()));
    }

    let path = configure(&world, &config(&new.address, &[&stays, &comes]));
    proxy.signal(Signal::HUP);
    assert_eq!(proxy.line().await, format!("RELOADED {comes} {stays}"));
    for (send, replies) in &mut open {
        send.send(Chunk { data: vec![1] }).await.expect("the call is open");
        assert!(in_time(replies.message()).await.expect("no error").is_some());
    }
    drop(open);
    old.signal(Signal::KILL);
    old.ended().await;
    echo(&mut client).await.expect("it goes to the new server");
    echo(&mut world.client(&comes).await).await.expect("it listens there, too");
    in_time(async {
        while world.path("goes.sock").exists() {
            tokio::task::yield_now().await
        }
    })
    .await;

    for nonsense in [
        "{}".to_owned(),
        "nonsense".to_owned(),
        config("https//", &[&stays]).to_string(),
        config(&new.address, &[&stays, &world.unix("no/such/directory")]).to_string(),
    ] {
        std::fs::write(&path, &nonsense).expect("writable");
        proxy.signal(Signal::HUP);
        echo(&mut client).await.expect("all stays as it was");
    }
    // It has read the last of them before it reads this.
    configure(&world, &config(&new.address, &[&stays]));
    proxy.signal(Signal::HUP);
    assert_eq!(proxy.line().await, format!("RELOADED {stays}"));
    echo(&mut client).await.expect("all stays as it was");
    proxy.signal(Signal::TERM);
    let (status, said) = proxy.ended().await;
    assert!(status.success(), "{said}");
    assert!(said.contains("all stays as it was: "), "{said}");
}

#[tokio::test]
async fn a_file_can_be_checked() {
    let world = World::new();
    let check = async |config: serde_json::Value| {
        let path = configure(&world, &config);
        world.run(["proxy", "--check", "--config", path.to_str().expect("UTF-8")]).await
    };
    let right = check(json!({"listeners": [{"listen": ANY, "routes": [{"to": "shop"}]}]})).await;
    assert_eq!((right.code(), right.err()), (Some(0), ""));
    for (routes, words) in [
        (json!([]), "has no routes"),
        (json!([{"to": "notnets:///a/b"}]), "a/b"),
        (
            json!([{"to": "a", "service_config": {"methodConfig": [{"timeout": "soon"}]}}]),
            "the service config for",
        ),
    ] {
        let wrong = check(json!({"listeners": [{"listen": ANY, "routes": routes}]})).await;
        assert_eq!(wrong.code(), Some(1));
        assert!(wrong.err().contains(words), "{}", wrong.err());
    }
}

#[tokio::test]
async fn probes_learn_how_the_proxy_is() {
    let world = World::new();
    let (served, nobody) = (http2_server().await, unbound().await);
    let health = world.unix("health.sock");
    let routes = json!([
        {"service": "notnets.probe.Probe", "to": served},
        {"service": "shop.Cart", "to": nobody},
    ]);
    let config = json!({"listeners": [{"listen": ANY, "routes": routes}]});
    let proxy = configured(&world, &config, &["--health", &health]).await;
    for (service, code, words) in [
        ("", 0, "SERVING"),
        ("notnets.probe.Probe", 0, "SERVING"),
        ("shop.Cart", 1, "NOT_SERVING"),
        ("shop.Orders", 64 + Code::NotFound as i32, ""),
    ] {
        let ended = world.run(["health", &health, service, "--timeout", "10s"]).await;
        assert_eq!(ended.code(), Some(code), "{service}: {}", ended.err());
        assert_eq!(ended.out().trim_end(), words);
    }
    let mut client = world.client(&proxy.address).await;
    let stream = in_time(client.wait_stream(handler(&key("open")))).await.expect("a stream");
    proxy.signal(Signal::TERM);
    in_time(async { while world.run(["health", &health]).await.code() == Some(0) {} }).await;
    let ended = world.run(["health", &health, "--timeout", "10s"]).await;
    assert_eq!(ended.out(), "NOT_SERVING\n", "{}", ended.err());
    drop(stream);
    let (status, said) = proxy.ended().await;
    assert!(status.success(), "{said}");
}

#[tokio::test]
async fn a_service_manager_is_told() {
    let world = World::new();
    let manager = UnixDatagram::bind(world.path("notify.sock")).expect("a free path");
    let config = json!({"listeners": [{"listen": ANY, "routes": [{"to": "shop"}]}]});
    let path = configure(&world, &config);
    let mut command = world.notnets(["proxy", "--config", path.to_str().expect("UTF-8")]);
    command.env("NOTIFY_SOCKET", world.path("notify.sock")).env("WATCHDOG_USEC", "40000");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let pid = rustix::process::Pid::from_raw(child.id().expect("it runs").cast_signed()).expect("a pid");
    let told = async || {
        let manager = manager.try_clone().expect("a descriptor");
        let received = tokio::task::spawn_blocking(move || {
            let mut text = [0; 200];
            let length = manager.recv(&mut text).expect("a message");
            String::from_utf8_lossy(&text[..length]).into_owned()
        });
        in_time(received).await.expect("no panic")
    };
    let news = async || {
        loop {
            let told = told().await;
            if told != "WATCHDOG=1" {
                return told;
            }
        }
    };
    assert_eq!(told().await, "READY=1");
    assert_eq!(told().await, "WATCHDOG=1");
    assert_eq!(told().await, "WATCHDOG=1");
    rustix::process::kill_process(pid, Signal::HUP).expect("it is ours");
    let reloading = news().await;
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(news().await, "READY=1");
    rustix::process::kill_process(pid, Signal::TERM).expect("it is ours");
    assert_eq!(news().await, "STOPPING=1");
    assert!(in_time(child.wait()).await.expect("it can be waited for").success());
}
