//! tonic-health and tonic-reflection, as they are: they live above what carries the calls.

use notnets_examples::greeter::greeter_server::GreeterServer;
use notnets_examples::{DESCRIPTORS, MyGreeter, Result, two_processes};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

async fn server() -> Result {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<GreeterServer<MyGreeter>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()?;
    let server = notnets::Server::builder()
        .add_service(GreeterServer::new(MyGreeter))
        .add_service(health)
        .add_service(reflection);
    Ok(server.serve("notnets:///greeter").await?)
}

async fn client() -> Result {
    let channel = notnets::Channel::connect("notnets:///greeter").await?;

    let mut health = HealthClient::new(channel.clone());
    let request = HealthCheckRequest { service: "greeter.Greeter".into() };
    println!("greeter.Greeter is {}", health.check(request).await?.into_inner().status().as_str_name());

    let mut reflection = ServerReflectionClient::new(channel);
    let question = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut answers = reflection.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    let answer = answers.message().await?.and_then(|answer| answer.message_response);
    let Some(MessageResponse::ListServicesResponse(list)) = answer else {
        return Err("the server does not say what it serves".into());
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    println!("it serves {}", names.join(", "));
    Ok(())
}

fn main() -> std::process::ExitCode {
    two_processes(server(), client())
}
