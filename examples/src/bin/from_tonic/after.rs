//! Through shared memory. Unlike over tonic's transport, a `timeout` cuts off streams, too.

use std::time::Duration;

use notnets::{Endpoint, Server};
use notnets_examples::greeter::HelloRequest;
use notnets_examples::greeter::greeter_client::GreeterClient;
use notnets_examples::greeter::greeter_server::GreeterServer;
use notnets_examples::{MyGreeter, Result};

/// Serves, calls, and says what came back.
pub async fn greet() -> Result<String> {
    let address = "notnets:///greeter";
    let server = Server::builder()
        .timeout(Duration::from_secs(30))
        .concurrency_limit_per_connection(100)
        .add_service(GreeterServer::new(MyGreeter))
        .serve(address);
    let client = async {
        let channel = Endpoint::from_shared(address)?.timeout(Duration::from_secs(10)).connect().await?;
        let reply = GreeterClient::new(channel).say_hello(HelloRequest { name: "there".into() }).await?;
        Ok(reply.into_inner().message)
    };
    tokio::select! {
        biased;
        ended = server => Err(format!("the server ended: {ended:?}").into()),
        greeting = client => greeting,
    }
}
