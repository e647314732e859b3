//! Who may call which method, by the user and group that the kernel says a caller has.
//!
//! An interceptor of tonic's does not know which method is called. A service around the generated one does,
//! and it sees each request before that.

use std::fs;
use std::future::{Future, ready};
use std::os::unix::fs::MetadataExt;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use notnets::{Admission, PeerInfo, Server};
use notnets_examples::greeter::greeter_client::GreeterClient;
use notnets_examples::greeter::greeter_server::GreeterServer;
use notnets_examples::greeter::{HelloRequest, RepeatRequest};
use notnets_examples::{MyGreeter, Result, two_processes};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// Who may call a method.
#[derive(Clone, Debug)]
enum Who {
    /// Everyone whom the server admits.
    Anyone,
    /// These users, and processes whose group is one of these.
    Listed { uids: Vec<u32>, gids: Vec<u32> },
}

impl Who {
    fn has(&self, caller: &PeerInfo) -> bool {
        match self {
            Self::Anyone => true,
            Self::Listed { uids, gids } => uids.contains(&caller.uid) || gids.contains(&caller.gid),
        }
    }
}

/// A service whose methods may be called by those only who are named. Nobody may call a method without a
/// rule.
#[derive(Clone)]
struct Authorised<S> {
    inner: S,
    rules: Vec<(&'static str, Who)>,
}

impl<S> Authorised<S> {
    fn check<B>(&self, request: &Request<B>) -> Result<(), Status> {
        // The kernel vouches for it, or in a pod the other host's agent; a client can't choose it.
        let caller = request.extensions().get::<PeerInfo>();
        let path = request.uri().path();
        let rule = self.rules.iter().find(|(method, _)| *method == path);
        match caller.zip(rule) {
            Some((caller, (_, who))) if who.has(caller) => Ok(()),
            _ => Err(Status::permission_denied(format!("you may not call {path}"))),
        }
    }
}

impl<S, B> Service<Request<B>> for Authorised<S>
where
    S: Service<Request<B>, Response = Response<Body>, Future: Send + 'static, Error: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.check(&request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(ready(Ok(status.into_http()))),
        }
    }
}

impl<S: NamedService> NamedService for Authorised<S> {
    const NAME: &'static str = S::NAME;
}

async fn server() -> Result {
    let own = fs::metadata("/proc/self")?;
    let rules = vec![
        ("/greeter.Greeter/SayHello", Who::Anyone),
        ("/greeter.Greeter/GreetAll", Who::Listed { uids: vec![], gids: vec![own.gid()] }),
        ("/greeter.Greeter/Repeat", Who::Listed { uids: vec![own.uid() + 1], gids: vec![] }),
    ];
    let greeter = Authorised { inner: GreeterServer::new(MyGreeter), rules };
    // Who is not admitted gets no connection, and calls nothing.
    let server = Server::builder().admission(Admission::Anyone).add_service(greeter);
    Ok(server.serve("notnets:///greeter").await?)
}

async fn client() -> Result {
    let mut client = GreeterClient::new(notnets::Channel::connect("notnets:///greeter").await?);
    let hello = |name: &str| HelloRequest { name: name.to_owned() };
    println!("{}", client.say_hello(hello("everyone")).await?.into_inner().message);
    let names = tokio_stream::iter([hello("our"), hello("group")]);
    println!("{}", client.greet_all(names).await?.into_inner().message);
    let others = client.repeat(RepeatRequest { name: "them".to_owned(), times: 1 }).await;
    let refused = others.err().ok_or("it is for another user")?;
    println!("{:?}: {}", refused.code(), refused.message());
    let unnamed = client.chat(tokio_stream::iter([hello("nobody")])).await;
    let refused = unnamed.err().ok_or("there is no rule for it")?;
    println!("{:?}: {}", refused.code(), refused.message());
    Ok(())
}

fn main() -> std::process::ExitCode {
    two_processes(server(), client())
}
