//! How calls end that do not end well.

use http::uri::PathAndQuery;
use http_body::Body as _;
use http_body_util::BodyExt;
use tonic::client::{Grpc, GrpcService};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::pb::unserved_client::UnservedClient;
use crate::pb::{DuplexRequest, Nothing, Outcome, OutputRequest, UnaryRequest};
use crate::rpc::{assert_alive, test};
use crate::{Observation, Rpc};

pub async fn status_code_and_message<C: Rpc>(channel: C) -> Observation {
    let outcome = outcome(Code::Unknown, "test status message");
    let mut seen = Observation::new();
    for (kind, status) in
        [("unary", unary(&channel, outcome.clone()).await), ("streaming", streaming(&channel, outcome).await)]
    {
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(status.message(), "test status message");
        seen.note_status(kind, &status);
    }
    seen
}

pub async fn special_status_message<C: Rpc>(channel: C) -> Observation {
    let message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
    let mut seen = Observation::new();
    for (kind, status) in [
        ("unary", unary(&channel, outcome(Code::Unknown, message)).await),
        ("streaming", streaming(&channel, outcome(Code::Unknown, message)).await),
        ("percent", unary(&channel, outcome(Code::Unknown, "100% is %25 of nothing %")).await),
    ] {
        let expected = if kind == "percent" { "100% is %25 of nothing %" } else { message };
        assert_eq!(status.message(), expected);
        seen.note_status(kind, &status);
    }
    seen
}

/// Binary details and metadata come with a status.
pub async fn status_details<C: Rpc>(channel: C) -> Observation {
    let details: Vec<u8> = (0..=255).collect();
    let outcome = Outcome { details: details.clone(), ..outcome(Code::Aborted, "see the details") };
    let mut request = Request::new(UnaryRequest { outcome: Some(outcome), ..Default::default() });
    let metadata = request.metadata_mut();
    metadata.insert("x-copy-text", "why".parse().expect("valid metadata"));
    metadata.insert_bin("x-copy-bytes-bin", MetadataValue::from_bytes(&details));
    let status = test(&channel).unary(request).await.expect_err("what was asked for");
    assert_eq!(status.details(), details);
    assert_eq!(status.metadata().get("x-copy-text").expect("it came back"), "why");
    let mut seen = Observation::new();
    seen.note_status("status", &status);
    seen
}

pub async fn every_status_code<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    for number in 1..=16 {
        let status = unary(&channel, outcome(Code::from_i32(number), "so be it")).await;
        assert_eq!(status.code(), Code::from_i32(number));
        seen.note_status(&number.to_string(), &status);
    }
    // Even a status that says Ok can be an error to tonic's handlers.
    let request = UnaryRequest { outcome: Some(outcome(Code::Ok, "")), ..Default::default() };
    let status = test(&channel).unary(request).await.expect_err("no message comes with it");
    seen.note_status("ok without a message", &status);
    seen
}

/// An error after messages takes none of them away.
pub async fn status_after_messages<C: Rpc>(channel: C) -> Observation {
    let request = OutputRequest {
        sizes: vec![100_000, 0, 1],
        outcome: Some(Outcome { details: vec![0, 255], ..outcome(Code::OutOfRange, "no more") }),
        ..Default::default()
    };
    let mut stream = test(&channel).output(request).await.expect("a stream").into_inner();
    for size in [100_000, 0, 1] {
        let chunk = stream.message().await.expect("no error yet").expect("a chunk for each size");
        assert_eq!(chunk.body.len(), size);
    }
    let status = stream.message().await.expect_err("the status after them");
    assert_eq!((status.code(), status.message()), (Code::OutOfRange, "no more"));
    let mut seen = Observation::new();
    seen.note_status("status", &status);
    seen
}

/// A reply that is a status and nothing else is one head, whose body has ended.
pub async fn trailers_only<C: Rpc>(mut channel: C) -> Observation {
    std::future::poll_fn(|cx| GrpcService::poll_ready(&mut channel, cx))
        .await
        .map_err(Into::into)
        .expect("ready");
    // A message of no bytes: not compressed, of length 0.
    let body = http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5]));
    let request = http::Request::post("http://localhost/notnets.conformance.Test/Unimplemented")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(body))
        .expect("a valid request");
    let response = GrpcService::call(&mut channel, request).await.map_err(Into::into).expect("a response");
    assert_eq!(response.headers()["grpc-status"], "12", "the status is in the head");
    let mut seen = Observation::new();
    seen.note("http status", response.status());
    let (head, body) = response.into_parts();
    seen.note("body has ended", body.is_end_stream());
    let body = body.collect().await.expect("no error");
    seen.note("trailers", body.trailers());
    assert!(body.to_bytes().is_empty());
    seen.note_metadata("head", &tonic::metadata::MetadataMap::from_headers(head.headers));
    seen
}

pub async fn unimplemented_method<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let status = test(&channel).unimplemented(Nothing {}).await.expect_err("the handler says so");
    assert_eq!(status.code(), Code::Unimplemented);
    seen.note_status("handler", &status);

    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(Into::into).expect("ready");
    let path = PathAndQuery::from_static("/notnets.conformance.Test/NoSuchMethod");
    let codec = ProstCodec::<Nothing, Nothing>::default();
    let status = grpc.unary(Request::new(Nothing {}), path, codec).await.expect_err("no such method");
    assert_eq!(status.code(), Code::Unimplemented);
    seen.note_status("routing", &status);
    seen
}

pub async fn unimplemented_service<C: Rpc>(channel: C) -> Observation {
    let status = UnservedClient::new(channel.clone()).call(Nothing {}).await.expect_err("nobody serves it");
    assert_eq!(status.code(), Code::Unimplemented);
    let mut seen = Observation::new();
    seen.note_status("status", &status);
    assert_alive(&channel).await;
    seen
}

fn outcome(code: Code, message: &str) -> Outcome {
    Outcome { code: code.into(), message: message.into(), details: Vec::new() }
}

async fn unary<C: Rpc>(channel: &C, outcome: Outcome) -> Status {
    let request = UnaryRequest { outcome: Some(outcome), ..Default::default() };
    test(channel).unary(request).await.expect_err("what was asked for")
}

async fn streaming<C: Rpc>(channel: &C, outcome: Outcome) -> Status {
    let request = DuplexRequest { outcome: Some(outcome), ..Default::default() };
    let reply = test(channel).duplex(tokio_stream::once(request)).await.expect("a stream");
    reply.into_inner().message().await.expect_err("what was asked for")
}
