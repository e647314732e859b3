//! A reader that stops reading stops its writer after a bounded window, while
//! other calls on the same channel go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio_stream::StreamExt;

use crate::payload::pattern;
use crate::pb::{Chunk, Counters, Key, ProduceRequest, Summary, UnaryRequest};
use crate::rpc::{counters, faults, keyed, probe, test, wait_for};
use crate::{Observation, Rpc};

const SIZE: usize = 16 << 10;
/// More than any transport's windows and buffers, and far less than a writer
/// that nothing stops produces in [`OPPORTUNITY`].
const BOUND: u64 = (8 << 20) / SIZE as u64;
/// For how long a writer is given the chance to overrun its reader. A writer
/// that is stopped passes however slow the machine is.
const OPPORTUNITY: Duration = Duration::from_millis(500);

pub async fn stalled_client<C: Rpc>(channel: C) -> Observation {
    let request = keyed("produce", ProduceRequest { size: SIZE as u32 });
    let mut stream = faults(&channel).produce(request).await.expect("a stream").into_inner();
    let first = stream.message().await.expect("no error").expect("there is always more");
    assert_eq!(first.index, 0);

    let others = others_go_on(&channel).await;
    let produced = counters(&channel, "produce").await.produced;
    assert!(produced < BOUND, "the server produced {produced} messages for a client that took one");

    // Once it reads again it finds all that was held back, and more.
    for index in 1..produced + 100 {
        let chunk = stream.message().await.expect("no error").expect("there is always more");
        assert_eq!(chunk, Chunk { index, body: pattern(index, SIZE) });
    }
    drop(stream);
    let found = wait_for(&channel, "produce", Counters { dropped: 1, ..Default::default() }).await;
    let mut seen = Observation::new();
    seen.note("handlers dropped", found.dropped);
    seen.note("others went on", others);
    seen
}

pub async fn stalled_server<C: Rpc>(channel: C) -> Observation {
    const TOTAL: u64 = 3 * BOUND;
    let produced = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&produced);
    let chunks = tokio_stream::iter(0..TOTAL).map(move |index| {
        counter.fetch_add(1, Relaxed);
        Chunk { index, body: pattern(index, SIZE) }
    });
    let mut client = faults(&channel);
    let call = tokio::spawn(async move { client.stall(keyed("stall", chunks)).await });
    wait_for(&channel, "stall", Counters { consumed: 1, ..Default::default() }).await;

    let others = others_go_on(&channel).await;
    let sent = produced.load(Relaxed);
    assert!(sent < BOUND, "the client produced {sent} messages for a server that took one");
    assert_eq!(counters(&channel, "stall").await.consumed, 1);

    probe(&channel).release(Key { key: "stall".into() }).await.expect("the probe answers");
    let summary = call.await.expect("no panic").expect("the upload ends well").into_inner();
    let mut expected = Summary::default();
    for index in 0..TOTAL {
        expected.add(&Chunk { index, body: pattern(index, SIZE) });
    }
    assert_eq!(summary, expected, "all of it arrived in the end");
    let mut seen = Observation::new();
    seen.note("summary", summary);
    seen.note("others went on", others);
    seen
}

/// Makes other calls for a while, large ones too, so that the stalled one is
/// seen to hold up none of them.
async fn others_go_on<C: Rpc>(channel: &C) -> bool {
    let begun = Instant::now();
    let mut calls = 0;
    while begun.elapsed() < OPPORTUNITY || calls < 20 {
        let body = pattern(calls, 200_000);
        let request = UnaryRequest { body, reply_size: 200_000, outcome: None };
        let reply = test(channel).unary(request).await.expect("another call").into_inner();
        assert_eq!(reply.body, pattern(reply.checksum, 200_000));
        calls += 1;
    }
    true
}
