//! A caller that goes away. Dropping a call's future or stream drops its
//! handler on the server, and the request stream that the handler held.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::pb::{Chunk, Counters, DuplexRequest, Nothing, ProduceRequest};
use crate::rpc::{assert_alive, faults, keyed, test, wait_for};
use crate::{Observation, Rpc};

pub async fn cancel_after_begin<C: Rpc>(channel: C) -> Observation {
    let (chunks, receiver) = mpsc::channel(1);
    let mut client = test(&channel);
    let call = tokio::spawn(async move { client.input(keyed("begun", ReceiverStream::new(receiver))).await });
    chunks.send(Chunk::default()).await.expect("the call goes on");
    wait_for(&channel, "begun", Counters { consumed: 1, ..Default::default() }).await;
    call.abort();
    // The call's own half of the request stream goes too.
    chunks.closed().await;
    gone(&channel, "begun", 1).await
}

pub async fn cancel_after_first_response<C: Rpc>(channel: C) -> Observation {
    let (requests, receiver) = mpsc::channel(1);
    let call = test(&channel).duplex(keyed("answered", ReceiverStream::new(receiver))).await;
    let mut stream = call.expect("a stream").into_inner();
    requests.send(DuplexRequest { sizes: vec![1], ..Default::default() }).await.expect("it goes on");
    stream.message().await.expect("no error").expect("the first response");
    drop(stream);
    requests.closed().await;
    gone(&channel, "answered", 1).await
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
