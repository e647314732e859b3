//! Over HTTP/2.

use std::time::Duration;

use notnets_examples::greeter::HelloRequest;
use notnets_examples::greeter::greeter_client::GreeterClient;
use notnets_examples::greeter::greeter_server::GreeterServer;
use notnets_examples::{MyGreeter, Result};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

/// Serves, calls, and says what came back.
pub async fn greet() -> Result<String> {
    let socket = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let address = format!("http://{}", socket.local_addr()?);
    let server = Server::builder()
        .timeout(Duration::from_secs(30))
        .concurrency_limit_per_connection(100)
        .add_service(GreeterServer::new(MyGreeter))
        .serve_with_incoming(socket);
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
