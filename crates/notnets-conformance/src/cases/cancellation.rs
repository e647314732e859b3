//! A caller that goes away. Dropping a call's future or stream drops its
//! handler on the server, and the request stream that the handler held.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::pb::{Chunk, Counters, Nothing, ProduceRequest};
use crate::rpc::{assert_alive, expect, faults, keyed, test, wait_for};
use crate::{Observation, Rpc};

/// The client goes away while the handler waits for more of an upload.
pub async fn cancel_after_begin<C: Rpc>(channel: C) -> Observation {
    let (chunks, receiver) = mpsc::channel(1);
    let mut client = test(&channel);
    let call = tokio::spawn(async move { client.input(keyed("begun", ReceiverStream::new(receiver))).await });
    chunks.send(Chunk::default()).await.expect("the call goes on");
    wait_for(&channel, "begun", Counters { consumed: 1, ..Default::default() }).await;
    call.abort();
    // The call's own half of the request stream goes too.
    expect("the cancelled call drops its request stream", chunks.closed()).await;
    let ended = Counters { ended: 1, request_streams_gone: 1, ..Default::default() };
    let found = wait_for(&channel, "begun", ended).await;
    assert_eq!((found.started, found.ended, found.consumed), (1, 1, 1));
    let mut seen = Observation::new();
    seen.note("dropped", found.dropped);
    assert_alive(&channel).await;
    seen
}

/// The client goes away while the handler is busy with something else.
pub async fn cancel_stalled_upload<C: Rpc>(channel: C) -> Observation {
    let (chunks, receiver) = mpsc::channel(1);
    let mut client = faults(&channel);
    let call =
        tokio::spawn(async move { client.stall(keyed("stalled", ReceiverStream::new(receiver))).await });
    chunks.send(Chunk::default()).await.expect("the call goes on");
    wait_for(&channel, "stalled", Counters { consumed: 1, ..Default::default() }).await;
    call.abort();
    expect("the cancelled call drops its request stream", chunks.closed()).await;
    gone(&channel, "stalled", 1).await
}

pub async fn cancel_after_first_response<C: Rpc>(channel: C) -> Observation {
    let (chunks, receiver) = mpsc::channel(1);
    let call = faults(&channel).hold(keyed("answered", ReceiverStream::new(receiver))).await;
    let mut stream = call.expect("a stream").into_inner();
    chunks.send(Chunk::default()).await.expect("the call goes on");
    stream.message().await.expect("no error").expect("the first response");
    drop(stream);
    let stopped = tokio::time::timeout(SOON, chunks.closed()).await.is_ok();
    drop(chunks);
    let mut seen = gone(&channel, "answered", 1).await;
    seen.note("dropping the replies stops the requests", stopped);
    seen
}

pub async fn cancel_unary<C: Rpc>(channel: C) -> Observation {
    let mut client = faults(&channel);
    let call = tokio::spawn(async move { client.sleep(keyed("asleep", Nothing {})).await });
    wait_for(&channel, "asleep", Counters { started: 1, ..Default::default() }).await;
    call.abort();
    gone(&channel, "asleep", 0).await
}

/// The client drops a stream while the server is producing at full speed.
pub async fn cancel_endless_stream<C: Rpc>(channel: C) -> Observation {
    let call = faults(&channel).produce(keyed("endless", ProduceRequest { size: 1_000 })).await;
    let mut stream = call.expect("a stream").into_inner();
    for index in 0..100 {
        let chunk = stream.message().await.expect("no error").expect("there is always more");
        assert_eq!(chunk.index, index);
    }
    drop(stream);
    gone(&channel, "endless", 0).await
}

/// For how long to wait for what may never come.
const SOON: Duration = Duration::from_secs(2);

/// Waits until the one handler of this key was dropped, and its request stream
/// if it had any.
async fn gone<C: Rpc>(channel: &C, key: &str, request_streams: u64) -> Observation {
    let dropped = Counters { dropped: 1, request_streams_gone: request_streams, ..Default::default() };
    let found = wait_for(channel, key, dropped).await;
    let mut seen = Observation::new();
    seen.note("started", found.started);
    seen.note("finished", found.finished);
    seen.note("dropped", found.dropped);
    seen.note("request streams gone", found.request_streams_gone);
    seen.note("consumed", found.consumed);
    assert_eq!((found.started, found.finished, found.dropped), (1, 0, 1));
    assert_alive(channel).await;
    seen
}
