//! The four kinds of call, as the gRPC interoperability tests make them.

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::payload::{checksum, pattern};
use crate::pb::{Chunk, DuplexRequest, Nothing, OutputRequest, Summary, UnaryRequest};
use crate::rpc::test;
use crate::{Observation, Rpc};

/// The sizes that the interoperability tests send and ask for.
const REQUEST_SIZES: [usize; 4] = [27_182, 8, 1_828, 45_904];
const REPLY_SIZES: [u32; 4] = [31_415, 9, 2_653, 58_979];

pub async fn empty_unary<C: Rpc>(channel: C) -> Observation {
    let reply = test(&channel).empty(Nothing {}).await.expect("an empty call");
    let mut seen = Observation::new();
    seen.note_metadata("metadata", reply.metadata());
    seen.note("reply", reply.into_inner());
    seen
}

pub async fn large_unary<C: Rpc>(channel: C) -> Observation {
    let body = pattern(1, 271_828);
    let request = UnaryRequest { body: body.clone(), reply_size: 314_159, outcome: None };
    let reply = test(&channel).unary(request).await.expect("a large call");
    let mut seen = Observation::new();
    seen.note_metadata("metadata", reply.metadata());
    let reply = reply.into_inner();
    assert_eq!(reply.checksum, checksum(0, &body), "the request arrived whole");
    assert_eq!(reply.body, pattern(reply.checksum, 314_159), "the reply arrived whole");
    seen.note("checksum", reply.checksum);
    seen
}

pub async fn client_streaming<C: Rpc>(channel: C) -> Observation {
    let chunks = chunks(&REQUEST_SIZES);
    let expected = summary(&chunks);
    let reply = test(&channel).input(tokio_stream::iter(chunks)).await.expect("an upload");
    let mut seen = Observation::new();
    seen.note_metadata("metadata", reply.metadata());
    assert_eq!(reply.get_ref(), &expected);
    seen.note("summary", reply.into_inner());
    seen
}

pub async fn server_streaming<C: Rpc>(channel: C) -> Observation {
    let request = OutputRequest { sizes: REPLY_SIZES.into(), ..Default::default() };
    let reply = test(&channel).output(request).await.expect("a download");
    let mut seen = Observation::new();
    seen.note_metadata("initial metadata", reply.metadata());
    let mut stream = reply.into_inner();
    for (index, size) in (0..).zip(REPLY_SIZES) {
        let chunk = stream.message().await.expect("no error").expect("a chunk for each size");
        assert_eq!(chunk, Chunk { index, body: pattern(index, size as usize) });
    }
    assert_eq!(stream.message().await.expect("a good end"), None);
    let trailers = stream.trailers().await.expect("trailers").unwrap_or_default();
    seen.note_metadata("trailers", &trailers);
    seen
}

pub async fn ping_pong<C: Rpc>(channel: C) -> Observation {
    let (requests, receiver) = mpsc::channel(1);
    let reply = test(&channel).duplex(ReceiverStream::new(receiver)).await.expect("a stream");
    let mut seen = Observation::new();
    seen.note_metadata("initial metadata", reply.metadata());
    let mut stream = reply.into_inner();
    // Each request is sent only after the reply to the one before it came.
    for (index, (sent, asked)) in (0..).zip(REQUEST_SIZES.into_iter().zip(REPLY_SIZES)) {
        let body = pattern(index, sent);
        let seed = checksum(index, &body);
        let request = DuplexRequest { sizes: vec![asked], body, outcome: None };
        requests.send(request).await.expect("the call goes on");
        let chunk = stream.message().await.expect("no error").expect("an answer to each request");
        assert_eq!(chunk, Chunk { index, body: pattern(seed, asked as usize) });
    }
    drop(requests);
    assert_eq!(stream.message().await.expect("a good end"), None);
    let trailers = stream.trailers().await.expect("trailers").unwrap_or_default();
    seen.note_metadata("trailers", &trailers);
    seen
}

pub async fn empty_stream<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let reply = test(&channel).duplex(tokio_stream::empty()).await.expect("a stream");
    let mut stream = reply.into_inner();
    assert_eq!(stream.message().await.expect("a good end"), None, "nothing asked, nothing said");

    let reply = test(&channel).input(tokio_stream::empty()).await.expect("an upload of nothing");
    assert_eq!(reply.get_ref(), &Summary::default());

    let reply = test(&channel).output(OutputRequest::default()).await.expect("a download of nothing");
    seen.note_metadata("initial metadata", reply.metadata());
    let mut stream = reply.into_inner();
    assert_eq!(stream.message().await.expect("a good end"), None);
    let trailers = stream.trailers().await.expect("trailers").unwrap_or_default();
    seen.note_metadata("trailers", &trailers);
    seen
}

/// Messages whose encoding has no byte at all still are messages.
pub async fn zero_byte_messages<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let reply = test(&channel).unary(UnaryRequest::default()).await.expect("an empty request");
    seen.note("unary", reply.get_ref().body.len());

    let empty = vec![Chunk::default(); 1_000];
    let expected = summary(&empty);
    let reply = test(&channel).input(tokio_stream::iter(empty)).await.expect("an upload").into_inner();
    assert_eq!(reply, expected, "each of the empty messages arrived");
    seen.note("upload", reply);

    let requests = vec![DuplexRequest { sizes: vec![0], ..Default::default() }; 1_000];
    let reply = test(&channel).duplex(tokio_stream::iter(requests)).await.expect("a stream");
    let indices: Vec<u64> =
        reply.into_inner().map(|chunk| chunk.expect("no error").index).collect::<Vec<_>>().await;
    assert!(indices.iter().copied().eq(0..1_000), "each of the empty messages came, in order");
    seen.note("download", indices.len());
    seen
}

fn chunks(sizes: &[usize]) -> Vec<Chunk> {
    (0..).zip(sizes).map(|(index, size)| Chunk { index, body: pattern(index, *size) }).collect()
}

fn summary(chunks: &[Chunk]) -> Summary {
    let mut summary = Summary::default();
    for chunk in chunks {
        summary.add(chunk);
    }
    summary
}
