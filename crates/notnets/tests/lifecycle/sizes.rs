//! Messages and metadata of all sizes, up to their limits and over them.

use std::time::Instant;

use bytes::Bytes;
use notnets_core::stats::Count;
use tempfile::tempdir;
use tonic::{Code, Request};

use crate::support::client::{Client, endpoint};
use crate::support::helper::Helper;
use crate::support::service::payload;
use crate::support::within;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

async fn echoes(client: &Client, bytes: usize) {
    let sent = payload(bytes);
    let reply = within(client.unary("echo", Request::new(sent.clone()))).await.unwrap().into_inner();
    // Not `assert_eq`, which would print them.
    assert!(reply == sent, "{bytes} bytes came back as {} others", reply.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_up_to_the_default_limit() {
    let directory = tempdir().unwrap();
    let _server = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    // About the sizes of descriptors, blocks and windows.
    for around in [32, KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB] {
        for bytes in around - 8..around + 8 {
            echoes(&client, bytes).await;
        }
    }
    for bytes in [0, 1, 4 * MIB - 1, 4 * MIB] {
        echoes(&client, bytes).await;
    }
    let counts = crate::support::counters(directory.path()).counts();
    let calls = 6 * 16 + 4;
    assert_eq!((counts.of(Count::MessagesReceived), counts.of(Count::MessagesSent)), (calls, calls));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_over_the_default_limit_fail_alone() {
    let directory = tempdir().unwrap();
    let _server = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    let text = format!("found {} bytes, the limit is: {} bytes", 4 * MIB + 1, 4 * MIB);
    let to_server = Request::new(payload(4 * MIB + 1));
    let to_server = within(client.unary("echo", to_server)).await.unwrap_err();
    let to_client = within(client.text("bytes", (4 * MIB + 1).to_string())).await.unwrap_err();
    for status in [to_server, to_client] {
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
        assert!(status.message().contains(&text), "{status:?}");
    }
    echoes(&client, MIB).await;
}

/// A server and a client that receive up to so many bytes.
async fn raised(directory: &std::path::Path, bytes: usize) -> (Helper, Client) {
    let server = Helper::server(directory, &format!("max_message={bytes}"));
    (server, Client::connect(directory).await.max_message(bytes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_every_arena() {
    let directory = tempdir().unwrap();
    let (_server, client) = raised(directory.path(), 64 * MIB).await;
    echoes(&client, 64 * MIB).await;
    echoes(&client, 0).await;
}

/// One way at a time, so that only few copies of it exist at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_a_gibibyte() {
    const GIB: usize = 1 << 30;
    let directory = tempdir().unwrap();
    let (_server, client) = raised(directory.path(), GIB).await;
    let begin = Instant::now();
    let request = Request::new(Bytes::from(vec![7; GIB]));
    let length = within(client.unary("length", request)).await.unwrap().into_inner();
    assert_eq!(length, GIB.to_string());
    println!("1 GiB to the server took {:?}", begin.elapsed());
    let begin = Instant::now();
    let request = Request::new(Bytes::from(GIB.to_string()));
    let reply = within(client.unary("bytes", request)).await.unwrap().into_inner();
    assert!(reply.len() == GIB && reply.iter().step_by(4096).all(|byte| *byte == b'b'));
    println!("1 GiB to the client took {:?}", begin.elapsed());
    let over = Request::new(Bytes::from((GIB + 1).to_string()));
    let status = within(client.unary("bytes", over)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
}

fn with_metadata(bytes: usize) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from("x"));
    request.metadata_mut().insert("x-large", "m".repeat(bytes).parse().unwrap());
    request
}

/// Some room for the path, the key and what else there is.
const OVERHEAD: usize = 200;

async fn metadata_up_to(limit: usize, client: &Client) {
    within(client.unary("echo", with_metadata(limit - OVERHEAD))).await.unwrap();
    let asked = |bytes: usize| Request::new(Bytes::from(bytes.to_string()));
    let reply = within(client.unary("metadata", asked(limit - OVERHEAD))).await.unwrap();
    assert_eq!(reply.metadata().get("x-large").unwrap().len(), limit - OVERHEAD);

    for bytes in [limit, 3 * limit] {
        let status = within(client.unary("echo", with_metadata(bytes))).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let text = format!("over the limit of {limit}: send less, or raise max_metadata_size on both sides");
        assert!(status.message().contains(&text), "{status:?}");
        let status = within(client.unary("metadata", asked(bytes))).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.message().contains("metadata"), "{status:?}");
    }
    // The link lives on.
    let own = within(client.text("who", "")).await.unwrap();
    assert!(own.starts_with(&format!("Some({})", std::process::id())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_up_to_the_default_limit() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    metadata_up_to(16 * KIB, &Client::connect(directory.path()).await).await;
    assert_eq!(crate::support::counters(directory.path()).links_total, 1);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_up_to_a_raised_limit() {
    let directory = tempdir().unwrap();
    let _server = Helper::server(directory.path(), &format!("max_metadata={}", 64 * KIB));
    let endpoint = endpoint(directory.path()).max_metadata_size(64 * KIB as u32);
    let client = Client::new(endpoint.connect().await.unwrap());
    metadata_up_to(64 * KIB, &client).await;
    assert_eq!(crate::support::counters(directory.path()).links_total, 1);
}
