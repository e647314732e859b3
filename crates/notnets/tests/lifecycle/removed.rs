//! A name that is removed from its directory while its server runs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use notnets::ErrorKind;
use tempfile::tempdir;

use crate::support::client::{Client, endpoint};
use crate::support::helper::Helper;
use crate::support::within;

/// A call once the name can be found again.
async fn found_again(directory: &Path) {
    within(async {
        loop {
            match endpoint(directory).connect().await {
                Ok(channel) => {
                    let client = Client::new(channel);
                    return assert_eq!(client.text("echo", "x").await.unwrap(), "x");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn it_is_bound_again() {
    let parent = tempdir().unwrap();
    let directory = parent.path().join("names");
    let mut server = Helper::server(&directory, "");
    let client = Client::connect(&directory).await;
    fs::remove_file(directory.join("lives")).unwrap();
    found_again(&directory).await;
    fs::rename(&directory, parent.path().join("elsewhere")).unwrap();
    fs::create_dir(&directory).unwrap();
    found_again(&directory).await;
    fs::remove_dir_all(&directory).unwrap();
    // Longer than it takes to bind again: who cleaned up has nothing left behind.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!directory.exists());
    fs::create_dir(&directory).unwrap();
    found_again(&directory).await;
    assert_eq!(within(client.text("echo", "all the while")).await.unwrap(), "all the while");
    server.stop();
    server.expect("stopping");
    drop(client);
    server.expect("stopped");
    assert!(!directory.join("lives").exists());
}
