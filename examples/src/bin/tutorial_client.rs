//! The tutorial's client: a call, and a stream of replies with a deadline.

use std::time::Duration;

use notnets_examples::Result;
use notnets_examples::greeter::greeter_client::GreeterClient;
use notnets_examples::greeter::{HelloRequest, RepeatRequest};
use tonic::Request;

#[tokio::main]
async fn main() -> Result {
    let channel = notnets::Channel::connect("notnets:///greeter").await?;
    let mut client = GreeterClient::new(channel);

    let reply = client.say_hello(HelloRequest { name: "Rust".into() }).await?;
    println!("{}", reply.into_inner().message);

    let mut request = Request::new(RepeatRequest { name: "again".into(), times: 2 });
    request.set_timeout(Duration::from_secs(1));
    let mut replies = client.repeat(request).await?.into_inner();
    while let Some(reply) = replies.message().await? {
        println!("{}", reply.message);
    }
    Ok(())
}
