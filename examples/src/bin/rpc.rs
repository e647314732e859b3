//! Calls in gRPC's own terms: methods, metadata, deadlines and messages as bytes, without generated code and
//! without HTTP. The other end may be a tonic client or server, for what goes over the link is the same.

use std::time::Duration;

use notnets::rpc::{Handler, Method, Request, ServerCall, Status};
use notnets::{Channel, Server};
use notnets_examples::{Result, two_processes};

const LOUDER: Method = Method::from_static("/shout.Shout/Louder");
const LETTERS: Method = Method::from_static("/shout.Shout/Letters");

/// One handler for all methods of a service.
struct Shout;

impl Handler for Shout {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        match call.method.name() {
            "Louder" => {
                let message = call.requests.only_message().await?;
                call.responses.send_last(message.into_bytes().to_ascii_uppercase()).await
            }
            "Letters" => {
                let message = call.requests.only_message().await?;
                for letter in message.into_bytes() {
                    call.responses.send(vec![letter]).await?;
                }
                Ok(())
            }
            _ => Err(Status::unknown_method(&call.method)),
        }
    }
}

async fn server() -> Result {
    Ok(Server::builder().add_rpc_service("shout.Shout", Shout).serve("notnets:///shout").await?)
}

async fn client() -> Result {
    let channel = Channel::connect("notnets:///shout").await?;

    let request = Request::new(LOUDER).timeout(Duration::from_secs(5));
    let reply = channel.unary_call(request, "hello").await?;
    println!("{}", String::from_utf8_lossy(&reply.message.into_bytes()));

    let mut letters = channel.server_streaming_call(Request::new(LETTERS), "abc").await?;
    while let Some(letter) = letters.message().await? {
        println!("{}", String::from_utf8_lossy(&letter.into_bytes()));
    }

    let softer = Request::new(Method::from_static("/shout.Shout/Softer"));
    println!("{}", channel.unary_call(softer, "hello").await.expect_err("there is no such method"));
    Ok(())
}

fn main() -> std::process::ExitCode {
    two_processes(server(), client())
}
