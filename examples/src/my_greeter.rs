//! A service as tonic wants it. Nothing in it knows of NotNets.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::greeter::greeter_server::Greeter;
use crate::greeter::{HelloReply, HelloRequest, RepeatRequest};

/// Says hello.
#[derive(Clone, Copy, Debug)]
pub struct MyGreeter;

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for MyGreeter {
    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(hello(&request.into_inner().name)))
    }

    type RepeatStream = Replies;

    async fn repeat(&self, request: Request<RepeatRequest>) -> Result<Response<Replies>, Status> {
        let RepeatRequest { name, times } = request.into_inner();
        let replies = (0..times).map(move |_| Ok(hello(&name)));
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }

    async fn greet_all(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        let mut requests = request.into_inner();
        let mut names = Vec::new();
        while let Some(request) = requests.message().await? {
            names.push(request.name);
        }
        Ok(Response::new(hello(&names.join(" and "))))
    }

    type ChatStream = Replies;

    async fn chat(&self, request: Request<Streaming<HelloRequest>>) -> Result<Response<Replies>, Status> {
        let replies = request.into_inner().map(|request| Ok(hello(&request?.name)));
        Ok(Response::new(Box::pin(replies)))
    }
}

fn hello(name: &str) -> HelloReply {
    HelloReply { message: format!("Hello {name}!") }
}
