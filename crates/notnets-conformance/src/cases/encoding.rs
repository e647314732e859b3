//! Messages that their sender cannot encode end their call, and only theirs.

use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::client::Grpc;
use tonic::{Code, Request, Status};

use crate::codec::{ChunkCodec, REFUSED, UNENCODABLE};
use crate::pb::{Chunk, Counters};
use crate::rpc::{assert_alive, keyed, wait_for};
use crate::{Observation, Rpc};

const UNARY: &str = "/notnets.conformance.Unencodable/Unary";
const STREAM: &str = "/notnets.conformance.Unencodable/Stream";
const ECHO: &str = "/notnets.conformance.Faults/PanicAtEmpty";

pub async fn encode_error_on_client<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let chunks = keyed("at once", tokio_stream::once(bad()));
    let status = streaming(&channel, ECHO, chunks).await.expect_err("the first cannot be encoded");
    note_refusal(&mut seen, "at once", &status);

    // The first chunk is answered before the second fails.
    let (chunks, receiver) = mpsc::channel(1);
    chunks.send(good()).await.expect("there is room");
    let call = streaming(&channel, ECHO, keyed("later", ReceiverStream::new(receiver))).await;
    let mut stream = call.expect("a stream");
    assert_eq!(stream.message().await.expect("no error yet"), Some(good()));
    chunks.send(bad()).await.expect("the call goes on");
    let status = stream.message().await.expect_err("the second cannot be encoded");
    note_refusal(&mut seen, "later", &status);

    let ended = Counters { ended: 1, request_streams_gone: 1, ..Default::default() };
    wait_for(&channel, "later", ended).await;
    assert_alive(&channel).await;
    seen
}

/// tonic turns what an encoder says into `INTERNAL`, with the words in it.
fn note_refusal(seen: &mut Observation, when: &str, status: &Status) {
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    seen.note(format!("{when}: the encoder is quoted"), status.message().contains(REFUSED));
}

pub async fn encode_error_on_server<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    // The client's own codec cannot encode it either, so it is sent raw.
    let call = streaming(&channel, UNARY, Request::new(tokio_stream::once(good()))).await;
    let mut replies = call.expect("a reply");
    assert_eq!(replies.next().await.expect("one").expect("a reply that can be encoded"), good());

    for path in [UNARY, STREAM] {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.map_err(Into::into).expect("ready");
        // The client's codec can encode what the server's cannot.
        let codec = tonic_prost::ProstCodec::<Chunk, Chunk>::default();
        let path = PathAndQuery::from_static(path);
        let call = grpc.server_streaming(Request::new(bad()), path.clone(), codec).await;
        let mut chunks = 0;
        let status = match call {
            Err(status) => status,
            Ok(reply) => {
                let mut stream = reply.into_inner();
                loop {
                    match stream.next().await.expect("the call does not end well") {
                        Ok(_) => chunks += 1,
                        Err(status) => break status,
                    }
                }
            }
        };
        assert_eq!(status.code(), Code::Internal, "tonic's code for what the encoder refuses");
        assert!(status.message().contains(REFUSED), "and what the encoder said: {status:?}");
        seen.note(format!("{path} chunks"), chunks);
        seen.note_status(path.path(), &status);
    }
    assert_alive(&channel).await;
    seen
}

fn good() -> Chunk {
    Chunk { index: 1, body: vec![1; 10] }
}

fn bad() -> Chunk {
    Chunk { index: UNENCODABLE, body: vec![1; 10] }
}

async fn streaming<C: Rpc>(
    channel: &C,
    path: &'static str,
    chunks: Request<impl Stream<Item = Chunk> + Send + 'static>,
) -> Result<tonic::Streaming<Chunk>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(Into::into).expect("ready");
    let reply = grpc.streaming(chunks, PathAndQuery::from_static(path), ChunkCodec).await?;
    Ok(reply.into_inner())
}
