//! Calls without a runtime: two threads that wait for each other in memory. Messages are bytes, which
//! prost or anything else encodes; here they are prost's, so that a tonic client could call the same server.

use notnets::blocking::{Call, Code, Endpoint, Reply, Request, Response, Server, Status, Wait};
use notnets_examples::greeter::{HelloReply, HelloRequest};
use prost::Message;

const SAY_HELLO: &str = "/greeter.Greeter/SayHello";

fn greet(request: &Request<'_>, reply: &mut Reply) -> Result<(), Status> {
    match request.method {
        SAY_HELLO => {
            let decoded = HelloRequest::decode(request.message);
            let hello = decoded.map_err(|error| Status::new(Code::INVALID_ARGUMENT, error.to_string()))?;
            let message = format!("Hello {}!", hello.name);
            reply.message.extend(HelloReply { message }.encode_to_vec());
            Ok(())
        }
        method => Err(Status::unknown_method(method)),
    }
}

fn main() -> notnets_examples::Result {
    let directory = tempfile::tempdir()?;
    // With a core for each side Wait::Spin answers fastest.
    let server =
        Server::builder().directory(directory.path()).wait(Wait::Adaptive).bind("notnets:///greeter")?;
    let stopper = server.stopper();
    let serving = std::thread::spawn(move || server.serve(greet));

    let mut client = Endpoint::new("notnets:///greeter")?.directory(directory.path()).connect()?;
    // One response for all calls: its memory is used again.
    let mut response = Response::default();
    for name in ["Ada", "Grace"] {
        let request = HelloRequest { name: name.into() }.encode_to_vec();
        client.call_into(&Call::new(SAY_HELLO, &request), &mut response)?;
        println!("{}", HelloReply::decode(&*response.message)?.message);
    }
    let unknown = client.call("/greeter.Greeter/SayNothing", b"");
    println!("{}", unknown.expect_err("there is no such method"));

    stopper.stop();
    serving.join().map_err(|_| "the server panicked")?;
    Ok(())
}
