//! A restart that nobody notices: the old server finishes its calls, the new one has the name.

use std::sync::Arc;
use std::time::Duration;

use notnets::{Channel, Server};
use notnets_examples::greeter::baker_client::BakerClient;
use notnets_examples::greeter::baker_server::{Baker, BakerServer};
use notnets_examples::greeter::{BakeRequest, Bread};
use notnets_examples::{Result, in_own_directory};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

const NAME: &str = "notnets:///bakery";
const LONG_ENOUGH: Duration = Duration::from_secs(10);

/// Bakes when the oven is hot, and says when a call has come.
struct PatientBaker {
    name: &'static str,
    called: Arc<Notify>,
    oven: Arc<Notify>,
}

#[tonic::async_trait]
impl Baker for PatientBaker {
    async fn bake(&self, _: Request<BakeRequest>) -> Result<Response<Bread>, Status> {
        self.called.notify_one();
        self.oven.notified().await;
        Ok(Response::new(Bread { baked_by: self.name.into() }))
    }
}

/// A server in this process; a real one is a process of its own and stops on SIGTERM.
struct Running {
    called: Arc<Notify>,
    oven: Arc<Notify>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), notnets::Error>>,
}

async fn start(name: &'static str) -> Result<Running> {
    let (called, oven) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let baker = PatientBaker { name, called: Arc::clone(&called), oven: Arc::clone(&oven) };
    let (stop, stopped) = oneshot::channel();
    // From here on clients can connect.
    let bound = Server::builder().add_service(BakerServer::new(baker)).bind(NAME).await?;
    let ended = tokio::spawn(bound.serve_with_shutdown(async { drop(stopped.await) }));
    Ok(Running { called, oven, stop, ended })
}

/// Starts a server as soon as the name is free.
async fn taken_over(name: &'static str) -> Running {
    loop {
        match start(name).await {
            Ok(running) => return running,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn restart() -> Result {
    let old = start("the old baker").await?;
    let mut client = BakerClient::new(Channel::connect(NAME).await?);

    let mut same_client = client.clone();
    let long_call = tokio::spawn(async move { same_client.bake(BakeRequest {}).await });
    old.called.notified().await;
    println!("a long call is on its way to the old server");

    let _ = old.stop.send(());
    // The old server gives up its name first, so that the new one can take it while it finishes.
    let new = tokio::time::timeout(LONG_ENOUGH, taken_over("the new baker")).await?;
    println!("the new server has the name");

    new.oven.notify_one();
    let bread = client.bake(BakeRequest {}).await?.into_inner();
    println!("the same client, a new call: bread by {}", bread.baked_by);

    old.oven.notify_one();
    println!("the long call: bread by {}", long_call.await??.into_inner().baked_by);
    old.ended.await??;
    println!("the old server has ended");

    let _ = new.stop.send(());
    new.ended.await??;
    Ok(())
}

fn main() -> std::process::ExitCode {
    in_own_directory(restart())
}
