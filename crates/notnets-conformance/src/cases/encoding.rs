//! Messages that their sender cannot encode end their call, and only theirs.

use http::uri::PathAndQuery;
use tokio_stream::{Stream, StreamExt};
use tonic::client::Grpc;
use tonic::{Code, Request, Status};

use crate::codec::{ChunkCodec, REFUSED, UNENCODABLE};
use crate::pb::{Chunk, Counters};
use crate::rpc::{assert_alive, keyed, wait_for};
use crate::{Observation, Rpc};

const UNARY: &str = "/notnets.conformance.Unencodable/Unary";
const STREAM: &str = "/notnets.conformance.Unencodable/Stream";
const DUPLEX: &str = "/notnets.conformance.Faults/PanicAtEmpty";

pub async fn encode_error_on_client<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let request = Request::new(tokio_stream::once(bad()));
    let status = streaming(&channel, DUPLEX, request).await.expect_err("the first cannot be encoded");
    seen.note("at once", status.code());

    // The first chunk is answered before the second fails.
    let chunks = tokio_stream::once(good()).chain(tokio_stream::once(bad()));
    let status = match streaming(&channel, DUPLEX, keyed("later", chunks)).await {
        Err(status) => status,
        Ok(mut stream) => loop {
            match stream.next().await.expect("the call does not end well") {
                Ok(chunk) => assert_eq!(chunk, good()),
                Err(status) => break status,
            }
        },
    };
    seen.note("later", status.code());
    wait_for(&channel, "later", Counters::default()).await;
    assert_alive(&channel).await;
    seen
}

pub async fn encode_error_on_server<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    // The client's own codec cannot encode it either, so it is sent raw.
    let mut replies =
        streaming(&channel, UNARY, Request::new(tokio_stream::once(good()))).await.expect("a reply");
    assert_eq!(replies.next().await.expect("one").expect("a reply that can be encoded"), good());

    for path in [UNARY, STREAM] {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.map_err(Into::into).expect("ready");
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
