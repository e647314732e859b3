//! `notnets bench-server`: a process that serves.

use super::case::{Api, Transport};
use super::channel::{self, ByHttp, Channel, OverStreams};
use super::control::{Answer, Ask, Serve, listen};
use super::proto::bench_client::BenchClient;
use super::proto::bench_server::BenchServer;
use super::service::{MAX_MESSAGE, Service};
use super::{core, floor, iceoryx2};
use crate::Result;
use crate::orders::{answer, first};
use crate::runtime::runtime;

/// Serves as ordered, until its input ends.
pub fn run() -> Result {
    let order = match first() {
        Some(Ask::Serve(order)) => order,
        None => return Ok(()),
        Some(other) => return Err(format!("a server is first told how to serve, not {other:?}").into()),
    };
    order.setup.apply()?;
    let _orders = listen(order.setup.directory.clone());
    let served = match order.setup.transport {
        _ if order.setup.api == Api::Core => core::serve(&order),
        Transport::Floor => floor::serve(&order),
        Transport::Iceoryx2 | Transport::Iceoryx2Event => iceoryx2::serve(&order),
        Transport::NotNets if order.setup.api == Api::Stubs => {
            runtime(order.setup.workers)?.block_on(serve::<notnets::Channel>(order))
        }
        Transport::NotNets => runtime(order.setup.workers)?.block_on(serve::<ByHttp>(order)),
        Transport::Streams => runtime(order.setup.workers)?.block_on(serve::<OverStreams>(order)),
        _ => runtime(order.setup.workers)?.block_on(serve::<tonic::transport::Channel>(order)),
    };
    if let Err(error) = &served {
        answer(&Answer::Failed(error.to_string()));
    }
    served
}

async fn serve<C: Channel>(order: Serve) -> Result {
    let mut upstream = Vec::new();
    for address in &order.upstream {
        let channel = C::connect(address, &order.setup).await?;
        upstream.push(BenchClient::new(channel).max_decoding_message_size(MAX_MESSAGE));
    }
    let service =
        BenchServer::new(Service::new(upstream, order.spoil)).max_decoding_message_size(MAX_MESSAGE);
    let ready = |address| answer(&Answer::Ready(address));
    // On a task of its own, so that a worker of the runtime (if it has any) runs it.
    let serving = async move { channel::serve(&order, service, ready).await };
    tokio::spawn(serving).await?
}
