//! Several servers of one name.

use std::collections::HashSet;

use tempfile::tempdir;
use tonic::Code;

use crate::support::client::Client;
use crate::support::helper::Helper;
use crate::support::{is_retry_safe, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_moves_to_another_replica_when_its_own_is_killed_or_stops() {
    let directory = tempdir().unwrap();
    let mut replicas: Vec<_> = (0..4).map(|_| Helper::server(directory.path(), "replica")).collect();
    let client = Client::connect(directory.path()).await;
    while !replicas.is_empty() {
        let pid = loop {
            match within(client.text("pid", "")).await {
                Ok(pid) => break pid,
                // The end of a killed server may be noticed by the first call after it.
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
        };
        let at = replicas.iter().position(|replica| replica.pid().to_string() == pid).expect("it lives");
        let mut replica = replicas.swap_remove(at);
        if replicas.len() % 2 == 0 {
            replica.kill();
        } else {
            replica.stop();
            replica.expect("stopping");
            // All calls get to one that is left meanwhile.
            within(async { while client.text("pid", "").await.expect("others are left") == pid {} }).await;
            replica.expect("stopped");
        }
    }
    let error = within(async {
        loop {
            match client.text("pid", "").await {
                Err(status) if is_retry_safe(&status) => break status,
                _ => tokio::task::yield_now().await,
            }
        }
    });
    let error = error.await;
    assert!(error.message().contains("nobody serves the name `lives`"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_spread_over_replicas() {
    let directory = tempdir().unwrap();
    let _replicas = [(); 2].map(|()| Helper::server(directory.path(), "replica"));
    let mut pids = HashSet::new();
    // Each chooses by chance: that 64 choose one of two happens once in 10^19 times.
    for _ in 0..64 {
        pids.insert(within(Client::connect(directory.path()).await.text("pid", "")).await.unwrap());
    }
    assert_eq!(pids.len(), 2);
}

#[test]
fn a_server_that_is_no_replica_is_refused_beside_one() {
    let directory = tempdir().unwrap();
    let replica = Helper::server(directory.path(), "replica");
    let refused = Helper::start("server", directory.path(), "").answer();
    let by = format!("refused: the name `lives` is in use by the process with pid {}", replica.pid());
    assert!(refused.starts_with(&by), "{refused}");
    drop(replica);
    let alone = Helper::server(directory.path(), "");
    let refused = Helper::start("server", directory.path(), "replica").answer();
    assert!(refused.contains(&format!("in use by the process with pid {}", alone.pid())), "{refused}");
}
