//! A server that ends a call before the client has said all it has to say. It
//! stops the client's sending and does not fail a call that went well.

use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt};
use tonic::Code;

use crate::payload::pattern;
use crate::pb::{Chunk, DuplexRequest, Outcome};
use crate::rpc::{assert_alive, expect, faults};
use crate::{Observation, Rpc};

pub async fn early_status_stops_sender<C: Rpc>(channel: C) -> Observation {
    let refused = Outcome {
        code: Code::FailedPrecondition.into(),
        message: "three are enough".into(),
        details: b"enough".into(),
    };
    let (requests, stopped) =
        endless(move |_| DuplexRequest { outcome: Some(refused.clone()), ..Default::default() });
    let status = faults(&channel).answer_early(requests).await.expect_err("the server refuses");
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "three are enough"));
    let mut seen = Observation::new();
    seen.note_status("status", &status);
    let never_sent = expect("the ended call drops its request stream", stopped).await;
    never_sent.expect_err("only its drop is seen");
    assert_alive(&channel).await;
    seen
}

pub async fn early_reply_stops_sender<C: Rpc>(channel: C) -> Observation {
    let (requests, stopped) =
        endless(|index| DuplexRequest { body: pattern(index, 1_000), ..Default::default() });
    let reply = faults(&channel).answer_early(requests).await.expect("three are enough");
    let mut seen = Observation::new();
    seen.note_metadata("metadata", reply.metadata());
    assert_eq!(reply.get_ref().messages, 3);
    seen.note("reply", reply.into_inner());
    let never_sent = expect("the ended call drops its request stream", stopped).await;
    never_sent.expect_err("only its drop is seen");
    assert_alive(&channel).await;
    seen
}

pub async fn early_end_of_stream<C: Rpc>(channel: C) -> Observation {
    let (chunks, stopped) = endless(|index| Chunk { index, body: pattern(index, 1_000) });
    let mut stream = faults(&channel).end_early(chunks).await.expect("a stream").into_inner();
    for index in 0..3 {
        let chunk = stream.message().await.expect("no error").expect("three chunks come back");
        assert_eq!(chunk, Chunk { index, body: pattern(index, 1_000) });
    }
    assert_eq!(stream.message().await.expect("a good end"), None);
    let mut seen = Observation::new();
    let trailers = stream.trailers().await.expect("trailers").unwrap_or_default();
    seen.note_metadata("trailers", &trailers);
    let never_sent = expect("the ended call drops its request stream", stopped).await;
    never_sent.expect_err("only its drop is seen");
    assert_alive(&channel).await;
    seen
}

/// A stream without end, and what resolves once it is dropped.
fn endless<T>(
    mut make: impl FnMut(u64) -> T + Send + 'static,
) -> (impl Stream<Item = T> + Send + 'static, oneshot::Receiver<()>) {
    let (alive, dropped) = oneshot::channel();
    let messages = tokio_stream::iter(0..).map(move |index| {
        // Held by the stream for as long as it is.
        let _alive: &oneshot::Sender<()> = &alive;
        make(index)
    });
    (messages, dropped)
}
