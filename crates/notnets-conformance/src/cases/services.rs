//! The standard services: health and reflection.

use prost::Message;
use prost_types::FileDescriptorProto;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::pb::HealthChange;
use crate::rpc::probe;
use crate::{Observation, Rpc};

const SERVICE: &str = "notnets.conformance.Test";

pub async fn health_check<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let mut health = HealthClient::new(channel);
    for service in ["", SERVICE] {
        let reply = health.check(HealthCheckRequest { service: service.into() }).await.expect("it is known");
        assert_eq!(reply.get_ref().status(), ServingStatus::Serving);
        seen.note(format!("{service:?}"), reply.get_ref().status());
    }
    let status = health.check(HealthCheckRequest { service: "nobody".into() }).await.expect_err("not known");
    assert_eq!(status.code(), Code::NotFound);
    seen.note_status("nobody", &status);
    seen
}

pub async fn health_watch<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let request = HealthCheckRequest { service: SERVICE.into() };
    let call = HealthClient::new(channel.clone()).watch(request).await;
    let mut changes = call.expect("a stream").into_inner();
    for (serving, expected) in [
        (None, ServingStatus::Serving),
        (Some(false), ServingStatus::NotServing),
        (Some(true), ServingStatus::Serving),
    ] {
        if let Some(serving) = serving {
            let change = HealthChange { service: SERVICE.into(), serving };
            probe(&channel).set_health(change).await.expect("the probe answers");
        }
        let reply = changes.message().await.expect("no error").expect("a watch has no end");
        assert_eq!(reply.status(), expected);
        seen.note(format!("after {serving:?}"), reply.status());
    }
    seen
}

pub async fn reflection<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let question = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let questions = [
        question(MessageRequest::ListServices(String::new())),
        question(MessageRequest::FileContainingSymbol(SERVICE.into())),
        question(MessageRequest::FileContainingSymbol("no.such.Symbol".into())),
    ];
    let mut client = ServerReflectionClient::new(channel);
    let call = client.server_reflection_info(tokio_stream::iter(questions)).await;
    let mut answers = call.expect("a stream").into_inner();

    let answer = answers.message().await.expect("no error").expect("an answer");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list of services: {answer:?}")
    };
    let mut services: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    services.sort();
    assert!(services.iter().any(|service| service == SERVICE), "{services:?}");
    seen.note("services", services);

    let answer = answers.message().await.expect("no error").expect("an answer");
    let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
        panic!("no file: {answer:?}")
    };
    let names: Vec<(Option<String>, Vec<String>)> =
        files.file_descriptor_proto.iter().map(|file| names(file)).collect();
    assert!(names[0].1.iter().any(|service| service == "Test"), "{names:?}");
    seen.note("file", names);

    match answers.message().await {
        Ok(answer) => seen.note("no such symbol", answer.map(|answer| answer.message_response)),
        Err(status) => seen.note_status("no such symbol", &status),
    }
    seen
}

/// The name of a file and of the services in it.
fn names(file: &[u8]) -> (Option<String>, Vec<String>) {
    let file = FileDescriptorProto::decode(file).expect("a file descriptor");
    (file.name, file.service.into_iter().filter_map(|service| service.name).collect())
}
