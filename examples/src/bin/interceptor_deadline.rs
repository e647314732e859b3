//! Interceptors on both sides, who the caller is, and a deadline that both sides keep.

use std::time::Duration;

use notnets::PeerInfo;
use notnets_examples::greeter::baker_client::BakerClient;
use notnets_examples::greeter::baker_server::{Baker, BakerServer};
use notnets_examples::greeter::{BakeRequest, Bread};
use notnets_examples::{Result, two_processes};
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

/// Has bread at once for who says please, and never for others.
struct SlowBaker;

#[tonic::async_trait]
impl Baker for SlowBaker {
    async fn bake(&self, request: Request<BakeRequest>) -> Result<Response<Bread>, Status> {
        if !request.metadata().contains_key("please") {
            // When the deadline passes, the handler is dropped here.
            std::future::pending::<()>().await;
        }
        let left = request.metadata().get("grpc-timeout").is_some();
        Ok(Response::new(Bread { baked_by: format!("a baker who knows the deadline: {left}") }))
    }
}

/// Admits who has the password, and is of our own user, which the kernel vouches for.
fn check(request: Request<()>) -> Result<Request<()>, Status> {
    let peer = request.extensions().get::<PeerInfo>().ok_or_else(|| Status::internal("no peer"))?;
    let known = peer.pid.is_some_and(|pid| pid != std::process::id());
    match request.metadata().get("password") {
        Some(password) if password == "sourdough" && known => Ok(request),
        _ => Err(Status::unauthenticated("the password, please")),
    }
}

async fn server() -> Result {
    let baker = BakerServer::with_interceptor(SlowBaker, check);
    Ok(notnets::Server::builder().add_service(baker).serve("notnets:///bakery").await?)
}

async fn client() -> Result {
    let channel = notnets::Channel::connect("notnets:///bakery").await?;

    let mut stranger = BakerClient::new(channel.clone());
    let refused = stranger.bake(BakeRequest {}).await.expect_err("without a password");
    println!("{:?}: {}", refused.code(), refused.message());

    // Beneath the generated client, above the channel: as with tonic's.
    let with_password = InterceptedService::new(channel, |mut request: Request<()>| {
        request.metadata_mut().insert("password", "sourdough".parse().expect("a value"));
        Ok(request)
    });
    let mut client = BakerClient::new(with_password);

    let mut polite = Request::new(BakeRequest {});
    polite.metadata_mut().insert("please", "yes".parse()?);
    polite.set_timeout(Duration::from_secs(30));
    println!("bread by {}", client.bake(polite).await?.into_inner().baked_by);

    let mut hurried = Request::new(BakeRequest {});
    hurried.set_timeout(Duration::from_millis(20));
    let late = client.bake(hurried).await.expect_err("it takes for ever");
    println!("{:?}: {}", late.code(), late.message());
    Ok(())
}

fn main() -> std::process::ExitCode {
    two_processes(server(), client())
}
