//! The tutorial's server. It runs until it is told to stop.

use std::time::Duration;

use notnets_examples::greeter::greeter_server::GreeterServer;
use notnets_examples::{DESCRIPTORS, MyGreeter, Result};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<GreeterServer<MyGreeter>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()?;

    let server = notnets::Server::builder()
        .take_over(true) // from the version that runs, which finishes its calls
        .drain_timeout(Duration::from_secs(10))
        .add_service(GreeterServer::new(MyGreeter))
        .add_service(health)
        .add_service(reflection);
    let bound = server.bind("notnets:///greeter").await?;
    println!("READY notnets:///greeter");

    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    bound.serve_with_shutdown(stop).await?;
    println!("stopped");
    Ok(())
}
