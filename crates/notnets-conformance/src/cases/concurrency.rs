//! Many calls at once on one channel.

use std::collections::BTreeSet;

use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use crate::payload::{checksum, pattern};
use crate::pb::{ArriveRequest, Chunk, DuplexRequest, OutputRequest, Summary, UnaryRequest};
use crate::rpc::{assert_alive, probe, test};
use crate::{Observation, Rpc};

/// No call is answered before all of them wait in the server.
pub async fn ten_thousand_concurrent_calls<C: Rpc>(channel: C) -> Observation {
    const CALLS: u32 = 10_000;
    // h2 closes a connection with many unread replies of under 256 bytes.
    const SIZE: usize = 300;
    let mut calls = JoinSet::new();
    for tag in 0..u64::from(CALLS) {
        let mut client = probe(&channel);
        let request = ArriveRequest { key: "all".into(), expected: CALLS, body: pattern(tag, SIZE) };
        calls.spawn(async move {
            let reply = client.arrive(request).await.expect("each call is answered").into_inner();
            assert_eq!(reply.body, pattern(tag, SIZE), "with its own answer");
            tag
        });
    }
    let mut answered = BTreeSet::new();
    while let Some(tag) = calls.join_next().await {
        answered.insert(tag.expect("no call failed"));
    }
    assert_eq!(answered.len(), CALLS as usize);
    assert_alive(&channel).await;
    let mut seen = Observation::new();
    seen.note("answered", answered.len());
    seen
}

/// All kinds of call, of all sizes, from many tasks; each checks its content.
pub async fn mixed_calls_in_parallel<C: Rpc>(channel: C) -> Observation {
    const TASKS: u64 = 48;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let channel = channel.clone();
        tasks.spawn(async move {
            for round in 0..6 {
                let seed = task * 100 + round;
                match (task + round) % 4 {
                    0 => unary(&channel, seed).await,
                    1 => upload(&channel, seed).await,
                    2 => download(&channel, seed).await,
                    _ => exchange(&channel, seed).await,
                }
            }
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        task.expect("each task found what it should");
        done += 1;
    }
    let mut seen = Observation::new();
    seen.note("tasks", done);
    seen
}

/// Sizes like real traffic: most small, some large, some empty.
fn size(seed: u64) -> usize {
    [0, 1, 40, 63, 64, 65, 300, 900, 1_024, 4_096, 20_000, 200_000][(seed % 12) as usize]
}

async fn unary<C: Rpc>(channel: &C, seed: u64) {
    let body = pattern(seed, size(seed));
    let sum = checksum(0, &body);
    let asked = size(seed + 5);
    let request = UnaryRequest { body, reply_size: asked as u32, outcome: None };
    let reply = test(channel).unary(request).await.expect("a unary call").into_inner();
    assert_eq!(reply.checksum, sum);
    assert_eq!(reply.body, pattern(sum, asked));
}

async fn upload<C: Rpc>(channel: &C, seed: u64) {
    let chunks: Vec<Chunk> =
        (0..20).map(|index| Chunk { index, body: pattern(seed + index, size(seed + index)) }).collect();
    let mut expected = Summary::default();
    chunks.iter().for_each(|chunk| expected.add(chunk));
    let reply = test(channel).input(tokio_stream::iter(chunks)).await.expect("an upload");
    assert_eq!(reply.into_inner(), expected);
}

async fn download<C: Rpc>(channel: &C, seed: u64) {
    let sizes: Vec<u32> = (0..20).map(|index| size(seed + index) as u32).collect();
    let request = OutputRequest { sizes: sizes.clone(), ..Default::default() };
    let mut stream = test(channel).output(request).await.expect("a download").into_inner();
    for (index, size) in (0..).zip(sizes) {
        let chunk = stream.message().await.expect("no error").expect("each chunk");
        assert_eq!(chunk, Chunk { index, body: pattern(index, size as usize) });
    }
    assert_eq!(stream.message().await.expect("a good end"), None);
}

async fn exchange<C: Rpc>(channel: &C, seed: u64) {
    let requests = (0..20).map(move |index| DuplexRequest {
        sizes: vec![size(seed + index) as u32],
        body: pattern(seed + index, size(seed + index + 3)),
        outcome: None,
    });
    let expected = requests.clone();
    let call = test(channel).duplex(tokio_stream::iter(requests)).await;
    let mut stream = call.expect("an exchange").into_inner();
    for (index, request) in (0..).zip(expected) {
        let chunk = stream.next().await.expect("an answer to each").expect("no error");
        let body = pattern(checksum(index, &request.body), request.sizes[0] as usize);
        assert_eq!(chunk, Chunk { index, body });
    }
    assert!(stream.next().await.is_none());
}
