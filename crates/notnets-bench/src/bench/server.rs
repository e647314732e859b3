//! `notnets bench-server`: a process that serves.

use tokio::runtime;

use super::case::{Api, Transport};
use super::channel::{self, Channel};
use super::control::{Answer, Ask, Serve, answer, first, listen};
use super::proto::bench_client::BenchClient;
use super::proto::bench_server::BenchServer;
use super::service::{MOST, Service};
use super::{core, floor, usage};
use crate::Result;

/// Serves as it is told, until its input ends.
pub fn run() -> Result {
    let order = match first() {
        Some(Ask::Serve(order)) => order,
        None => return Ok(()),
        Some(other) => return Err(format!("a server is first told how to serve, not {other:?}").into()),
    };
    usage::allow_descriptors();
    if let Some(core) = order.core {
        usage::stay_on(core)?;
    }
    if let Some(place) = &order.place {
        place.begin();
    }
    let _orders = listen(order.directory.clone());
    let served = match order.transport {
        _ if order.api == Api::Core => core::serve(&order),
        Transport::Floor => floor::serve(&order),
        Transport::NotNets => runtime(order.workers)?.block_on(serve::<notnets::Channel>(order)),
        _ => runtime(order.workers)?.block_on(serve::<tonic::transport::Channel>(order)),
    };
    if let Err(error) = &served {
        answer(&Answer::Failed(error.to_string()));
    }
    served
}

async fn serve<C: Channel>(order: Serve) -> Result {
    let mut upstream = Vec::new();
    for address in &order.upstream {
        let channel = C::connect(address, order.names(), order.wait).await?;
        upstream.push(BenchClient::new(channel).max_decoding_message_size(MOST));
    }
    let service = BenchServer::new(Service::new(upstream, order.spoil)).max_decoding_message_size(MOST);
    let ready = |address| answer(&Answer::Ready(address));
    // On a task of its own, so that a worker of the runtime (if it has any) runs it.
    let serving = async move { channel::serve(&order, service, ready).await };
    tokio::spawn(serving).await?
}

/// The runtime of a process: with 0 workers tokio's current-thread runtime.
pub fn runtime(workers: usize) -> Result<runtime::Runtime> {
    let mut builder = match workers {
        0 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    Ok(builder.enable_all().build()?)
}
