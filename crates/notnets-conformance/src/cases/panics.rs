//! Handlers that panic end their own call and no other.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::pb::{Chunk, Counters, Nothing};
use crate::rpc::{assert_alive, expect, faults, keyed, wait_for};
use crate::{Observation, Rpc};

pub async fn panic_in_unary<C: Rpc>(channel: C) -> Observation {
    let (open, mut bystander) = bystander(&channel).await;
    let mut client = faults(&channel);
    let end = expect("the call ends", client.panic(keyed("panic", Nothing {}))).await;
    let status = end.expect_err("the handler panicked");
    let mut seen = Observation::new();
    seen.note("code", status.code());
    wait_for(&channel, "panic", Counters { dropped: 1, ..Default::default() }).await;
    assert_goes_on(&open, &mut bystander).await;
    assert_alive(&channel).await;
    seen
}

pub async fn panic_mid_stream<C: Rpc>(channel: C) -> Observation {
    let (open, mut bystander) = bystander(&channel).await;
    let (chunks, receiver) = mpsc::channel(1);
    let call = faults(&channel).panic_at_empty(keyed("panic", ReceiverStream::new(receiver))).await;
    let mut stream = call.expect("a stream").into_inner();
    for index in 0..3 {
        let chunk = Chunk { index, body: vec![1] };
        chunks.send(chunk.clone()).await.expect("the call goes on");
        assert_eq!(stream.message().await.expect("no error yet"), Some(chunk));
    }
    chunks.send(Chunk::default()).await.expect("the call goes on");
    let end = expect("the call ends", stream.message()).await;
    let status = end.expect_err("the handler panicked");
    let mut seen = Observation::new();
    seen.note("code", status.code());
    wait_for(&channel, "panic", Counters { dropped: 1, ..Default::default() }).await;
    expect("the failed call drops its request stream", chunks.closed()).await;
    assert_goes_on(&open, &mut bystander).await;
    assert_alive(&channel).await;
    seen
}

/// A stream that is open while another handler panics.
async fn bystander<C: Rpc>(channel: &C) -> (mpsc::Sender<Chunk>, tonic::Streaming<Chunk>) {
    let (chunks, receiver) = mpsc::channel(1);
    let call = faults(channel).panic_at_empty(ReceiverStream::new(receiver)).await;
    let mut stream = call.expect("a stream").into_inner();
    assert_goes_on(&chunks, &mut stream).await;
    (chunks, stream)
}

async fn assert_goes_on(chunks: &mpsc::Sender<Chunk>, stream: &mut tonic::Streaming<Chunk>) {
    let chunk = Chunk { index: 7, body: vec![7; 7] };
    chunks.send(chunk.clone()).await.expect("the bystander's call goes on");
    assert_eq!(stream.message().await.expect("no error"), Some(chunk));
}
