//! The README's example, as a program of its own: a service and a call of it through shared memory.

// README: begin
use hello::greeter_client::GreeterClient;
use hello::greeter_server::{Greeter, GreeterServer};
use hello::{HelloReply, HelloRequest};
use notnets::{Channel, Server};
use tonic::{Request, Response, Status};

mod hello {
    tonic::include_proto!("hello"); // what build.rs has generated
}

struct MyGreeter;

#[tonic::async_trait]
impl Greeter for MyGreeter {
    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let message = format!("Hello {}!", request.into_inner().name);
        Ok(Response::new(HelloReply { message }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The server's process:
    let router = Server::builder().add_service(GreeterServer::new(MyGreeter));
    let bound = router.bind("notnets:///greeter").await?;
    tokio::spawn(bound.serve());

    // The client's process, or as here the same:
    let channel = Channel::connect("notnets:///greeter").await?;
    let mut client = GreeterClient::new(channel);
    let reply = client.say_hello(HelloRequest { name: "memory".into() }).await?;
    println!("{}", reply.into_inner().message);
    Ok(())
}
// README: end
