//! Servers that take a name over from one that runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;
use notnets_core::link::rendezvous::Directory;
use tempfile::tempdir;
use tonic::Code;

use crate::support::client::{Client, endpoint, open_call};
use crate::support::helper::Helper;
use crate::support::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_the_successor_and_streams_run_to_their_end() {
    let directory = tempdir().unwrap();
    let mut old = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    let (sender, call) = open_call(&client, &mut old).await;
    let mut new = Helper::server(directory.path(), "take_over");
    // The old server may take calls until the client has heard that it goes away.
    client.until_answered_by(&new).await;
    let names = Directory::at(directory.path()).names().unwrap();
    assert_eq!(names.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["lives"]);
    sender.send(Bytes::from("two")).await.unwrap();
    drop(sender);
    assert_eq!(within(call).await.unwrap().unwrap(), "2 messages of 6 bytes");
    old.expect("count is gone");
    old.expect("stopped");
    assert!(old.finish().success());
    assert_eq!(directory.path().read_dir().unwrap().count(), 1, "the old server gives back what it has");
    assert_eq!(within(client.text("pid", "")).await.unwrap(), new.pid().to_string());
    new.stop();
    new.expect("stopping");
    new.expect("stopped");
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_with_the_reason_when_the_time_to_drain_is_over() {
    let directory = tempdir().unwrap();
    let mut old = Helper::server(directory.path(), "drain=50");
    let client = Client::connect(directory.path()).await;
    let (sender, call) = open_call(&client, &mut old).await;
    let new = Helper::server(directory.path(), "take_over");
    let cut_off = within(call).await.unwrap().unwrap_err();
    assert_eq!(cut_off.code(), Code::Unavailable, "{cut_off:?}");
    assert!(cut_off.message().contains("server stops: out of time"), "{cut_off:?}");
    old.expect("count is gone");
    old.expect("stopped");
    assert!(old.finish().success());
    assert_eq!(within(client.text("pid", "")).await.unwrap(), new.pid().to_string());
    drop(sender);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_keeps_no_server_beyond_its_time() {
    let directory = tempdir().unwrap();
    let mut old = Helper::server(directory.path(), "drain=50");
    let mut hung = Helper::client(directory.path(), "");
    hung.tell("hang");
    old.expect("hang began");
    hung.suspend();
    let _new = Helper::server(directory.path(), "take_over");
    old.expect("hang is gone");
    old.expect("stopped");
    assert!(old.finish().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_names_the_server_keeps_those_that_are_not_taken() {
    let directory = tempdir().unwrap();
    let mut old = Helper::server(directory.path(), "names=lives,other");
    let first = Helper::server(directory.path(), "take_over");
    let other = notnets::Endpoint::from_static("notnets:///other").directory(directory.path());
    let [of_lives, of_other] =
        [endpoint(directory.path()), other].map(|endpoint| Client::new(endpoint.connect_lazy()));
    for _ in 0..3 {
        assert_eq!(within(of_lives.text("pid", "")).await.unwrap(), first.pid().to_string());
        assert_eq!(within(of_other.text("pid", "")).await.unwrap(), old.pid().to_string());
    }
    let second = Helper::server(directory.path(), "take_over names=lives,other");
    for client in [&of_lives, &of_other] {
        client.until_answered_by(&second).await;
    }
    old.expect("stopped");
    assert!(old.finish().success());
}

/// Its backlog was full, or a third process has taken the name over before it had begun to serve.
#[test]
fn a_server_that_was_not_told_of_its_successor_finds_out() {
    let directory = tempdir().unwrap();
    let mut old = Helper::server(directory.path(), "");
    let successor = Directory::at(directory.path()).listen(&"successor".parse().unwrap()).unwrap();
    fs::set_permissions(successor.path(), fs::Permissions::from_mode(0o1666)).unwrap();
    fs::rename(successor.path(), directory.path().join("lives")).unwrap();
    old.expect("stopped");
    assert!(old.finish().success());
}

#[test]
fn a_name_that_nobody_serves_is_taken_and_that_of_replicas_is_not() {
    let directory = tempdir().unwrap();
    let mut killed = Helper::server(directory.path(), "take_over");
    killed.kill();
    let next = Helper::server(directory.path(), "take_over");
    drop(next);
    let replica = Helper::server(directory.path(), "replica");
    let refused = Helper::start("server", directory.path(), "take_over").answer();
    assert!(refused.contains(&format!("in use by the process with pid {}", replica.pid())), "{refused}");
}

#[test]
fn names_in_pods_are_not_taken_over() {
    let directory = tempdir().unwrap();
    let refused = Helper::start("server", directory.path(), "take_over uri=notnets://pod0/lives").answer();
    assert!(refused.contains("notnets://pod0/lives can't be taken over, for it is in a pod"), "{refused}");
}

/// A process that has not taken the name can't make the server stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stops_only_if_its_name_is_taken() {
    use notnets_core::link::packet::Packet;
    use notnets_core::link::socket::{Incoming, Socket};

    let directory = tempdir().unwrap();
    let server = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    for _ in 0..3 {
        let liar = Socket::from(Directory::at(directory.path()).connect(&"lives".parse().unwrap()).unwrap());
        liar.send(&Packet::TakenOver, None).unwrap();
        within(async {
            while !matches!(liar.receive(), Ok(Incoming::Closed)) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(within(client.text("pid", "")).await.unwrap(), server.pid().to_string());
        assert!(Client::connect(directory.path()).await.text("pid", "").await.is_ok());
    }
}
