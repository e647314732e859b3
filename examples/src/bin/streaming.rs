//! The three kinds of call that stream.

use notnets_examples::greeter::greeter_client::GreeterClient;
use notnets_examples::greeter::greeter_server::GreeterServer;
use notnets_examples::greeter::{HelloRequest, RepeatRequest};
use notnets_examples::{MyGreeter, Result, two_processes};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

async fn server() -> Result {
    let greeter = GreeterServer::new(MyGreeter);
    Ok(notnets::Server::builder().add_service(greeter).serve("notnets:///greeter").await?)
}

async fn client() -> Result {
    let channel = notnets::Channel::connect("notnets:///greeter").await?;
    let mut client = GreeterClient::new(channel);

    let mut greetings = client.repeat(RepeatRequest { name: "Ada".into(), times: 3 }).await?.into_inner();
    while let Some(greeting) = greetings.message().await? {
        println!("server streaming: {}", greeting.message);
    }

    let names = ["Ada", "Grace", "Barbara"].map(|name| HelloRequest { name: name.into() });
    let greeting = client.greet_all(tokio_stream::iter(names)).await?.into_inner();
    println!("client streaming: {}", greeting.message);

    // Question and answer, in turns, on one call.
    let (say, said) = mpsc::channel(1);
    let mut answers = client.chat(ReceiverStream::new(said)).await?.into_inner();
    for name in ["Edsger", "Tony"] {
        say.send(HelloRequest { name: name.into() }).await?;
        let answer = answers.message().await?.ok_or("the server hung up")?;
        println!("both ways: {}", answer.message);
    }
    drop(say);
    println!("both ways: and then {:?}", answers.message().await?);
    Ok(())
}

fn main() -> std::process::ExitCode {
    two_processes(server(), client())
}
