//! A process that runs out of descriptors: it says so, and goes on once it has some again.

use std::time::Duration;

use tempfile::tempdir;
use tonic::Code;

use crate::idle::Used;
use crate::support::client::{Client, endpoint};
use crate::support::helper::Helper;
use crate::support::within;

/// Of the process itself, with the numbers.
const LIMIT: &str = "RLIMIT_NOFILE of this process is ";
const ADVICE: &str = "raise it with `ulimit -n`";

#[test]
fn a_client_without_descriptors_names_its_limit() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let mut client = Helper::start("client", directory.path(), "lazy links=0");
    client.expect("connected");
    // With none left, one, two, … each of its steps fails once, until there are enough.
    let mut failed = 0;
    for left in 0.. {
        client.tell(&format!("leave {left}"));
        client.expect("left");
        client.tell("new");
        client.tell("echo x");
        let told = client.answer();
        if told == "x" {
            break;
        }
        failed += 1;
        assert!(
            told.starts_with("Unavailable: ") && told.contains("no file descriptor is left to "),
            "{told}"
        );
        assert!(told.contains(LIMIT) && told.contains(ADVICE), "with {left} left: {told}");
        assert!(left < 20, "{told}");
    }
    println!("{failed} steps of connecting need a descriptor more");
    assert!(failed >= 3, "only {failed}");
    // On the link that it has got, what needs further segments works without, too.
    client.tell("leave 0");
    client.expect("left");
    client.tell("size 1000000");
    client.expect("1000000");
    let large = "x".repeat(20_000);
    client.tell(&format!("echo {large}"));
    client.expect(&large);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_descriptors_tells_its_clients_and_recovers() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let early = Client::connect(directory.path()).await;
    let leave = |server: &mut Helper, left: usize| {
        server.tell(&format!("leave {left}"));
        server.expect("left");
    };
    // With one or more left a client is accepted, and told what is missing.
    let mut failed = 0;
    let mut connected = None;
    for left in 1.. {
        leave(&mut server, left);
        let client = Client::new(endpoint(directory.path()).connect_lazy());
        match within(client.text("echo", "x")).await {
            Ok(_) => {
                // Its link stays, so that it gives back no descriptor below.
                connected = Some(client);
                break;
            }
            Err(status) => {
                failed += 1;
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                let text = status.message();
                assert!(
                    text.contains("the server refused the link: no file descriptor is left to "),
                    "{text}"
                );
                assert!(text.contains(LIMIT) && text.contains(ADVICE), "{text}");
            }
        }
        assert!(left < 20);
    }
    println!("{failed} steps of accepting need a descriptor more");
    assert!(failed >= 3, "only {failed}");

    // Without any it can't even accept. It waits, but does not spin, and links that it has work on,
    // also where they would have more segments.
    leave(&mut server, 0);
    let late = {
        let endpoint = endpoint(directory.path()).connect_timeout(Duration::from_secs(20));
        tokio::spawn(async move { Client::new(endpoint.connect_lazy()).text("echo", "late").await })
    };
    let large = "x".repeat(1_000_000);
    assert_eq!(within(early.text("echo", large.clone())).await.unwrap(), large);
    let before = Used::by(server.pid());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = Used::by(server.pid());
    let (ticks, switches) = (after.ticks - before.ticks, after.switches - before.switches);
    println!("without descriptors the server used {ticks} ticks and {switches} switches in 2 s");
    assert!(ticks <= 4 && switches < 200, "it spins: {ticks} ticks, {switches} switches");
    assert!(!late.is_finished());
    server.tell("leave all");
    server.expect("left");
    assert_eq!(within(late).await.unwrap().unwrap(), "late");
    drop(connected);
}

#[test]
fn serving_without_descriptors_names_the_limit() {
    let directory = tempdir().unwrap();
    for left in 0.. {
        let mut server = Helper::start("server", directory.path(), &format!("leave={left}"));
        let told = server.answer();
        if told == "serving" {
            break;
        }
        assert!(told.contains("refused: ") && told.contains(LIMIT) && told.contains(ADVICE), "{told}");
        assert!(server.finish().success());
        assert!(left < 20, "{told}");
    }
}
