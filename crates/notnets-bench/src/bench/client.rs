//! `notnets bench-client`: a process that makes calls.

use super::case::{Api, Transport, Work};
use super::channel::{ByHttp, Channel, OverStreams};
use super::control::{Answer, Ask, Connect, Load, listen};
use super::load;
use super::load::handlers;
use super::load::lifecycle;
use super::load::null::Null;
use super::load::streams::{Chat, Download, Upload};
use super::load::unary::Unary;
use super::proto::bench_client::BenchClient;
use super::recorder::Sample;
use super::service::MAX_MESSAGE;
use super::{core, floor, iceoryx2};
use crate::Result;
use crate::orders::{answer, first};
use crate::runtime::runtime;

/// Makes calls as ordered, until its input ends.
pub fn run() -> Result {
    let order = match first() {
        Some(Ask::Connect(order)) => order,
        None => return Ok(()),
        Some(other) => return Err(format!("a client is first told where to connect, not {other:?}").into()),
    };
    order.setup.apply()?;
    let done = match order.setup.transport {
        _ if order.setup.api == Api::Core => core::call(&order),
        Transport::Floor => floor::call(&order),
        Transport::Iceoryx2 | Transport::Iceoryx2Event => iceoryx2::call(&order),
        Transport::Null => runtime(order.setup.workers)?.block_on(call_nobody(&order)),
        Transport::NotNets if order.setup.api == Api::Stubs => {
            runtime(order.setup.workers)?.block_on(call::<notnets::Channel>(&order))
        }
        Transport::NotNets => runtime(order.setup.workers)?.block_on(call::<ByHttp>(&order)),
        Transport::Streams => runtime(order.setup.workers)?.block_on(call::<OverStreams>(&order)),
        Transport::Tcp | Transport::Uds => {
            runtime(order.setup.workers)?.block_on(call::<tonic::transport::Channel>(&order))
        }
    };
    if let Err(error) = &done {
        answer(&Answer::Failed(error.to_string()));
    }
    done
}

/// Calls that are answered here: what the generator itself costs.
async fn call_nobody(order: &Connect) -> Result {
    let mut orders = listen(order.setup.directory.clone());
    answer(&Answer::Ready(String::new()));
    while let Some(ask) = orders.recv().await {
        let Ask::Load(load) = ask else { return Err(format!("can't do without a server: {ask:?}").into()) };
        say(load::run(&load, order.setup.workers, |_| Null).await);
    }
    Ok(())
}

async fn call<C: Channel>(order: &Connect) -> Result {
    let mut orders = listen(order.setup.directory.clone());
    let mut clients = Vec::new();
    for _ in 0..order.connections {
        clients.push(client::<C>(order).await?);
    }
    answer(&Answer::Ready(String::new()));
    let mut idle = Vec::new();
    while let Some(ask) = orders.recv().await {
        match ask {
            Ask::Load(load) => say(make_calls(order, &load, &clients).await),
            Ask::Links(count) => {
                idle.reserve_exact(count as usize);
                for _ in 0..count {
                    let mut client = client::<C>(order).await?;
                    lifecycle::first_call(&mut client).await?;
                    idle.push(client);
                }
                answer(&Answer::Ready(String::new()));
            }
            other => return Err(format!("a client can't {other:?}").into()),
        }
    }
    Ok(())
}

async fn make_calls<C: Channel>(order: &Connect, load: &Load, clients: &[BenchClient<C>]) -> Result<Sample> {
    let pick = |task: usize| clients[task % clients.len()].clone();
    let workers = order.setup.workers;
    match load.work {
        Work::Echo | Work::Ask | Work::Chain | Work::FanOut => {
            load::run(load, workers, |task| Unary::new(pick(task), load, task)).await
        }
        Work::Upload => load::run(load, workers, |task| Upload::new(pick(task), load, task)).await,
        Work::Download => load::run(load, workers, |task| Download::new(pick(task), load, task)).await,
        Work::Chat => load::run(load, workers, |task| Chat::new(pick(task), load, task)).await,
        Work::Burn => handlers::burns(load, pick).await,
        Work::Blocked => handlers::beside_blocked(load, workers, true, pick).await,
        Work::BlockedWorker => handlers::beside_blocked(load, workers, false, pick).await,
        Work::Connect => lifecycle::connects(load, || client::<C>(order)).await,
        Work::Cancel => lifecycle::cancels(load, &clients[0]).await,
        other => Err(format!("{other} is a floor").into()),
    }
}

async fn client<C: Channel>(order: &Connect) -> Result<BenchClient<C>> {
    let channel = C::connect(&order.address, &order.setup).await?;
    Ok(BenchClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}

fn say(sample: Result<Sample>) {
    answer(&match sample {
        Ok(sample) => Answer::Loaded(sample),
        Err(error) => Answer::Failed(error.to_string()),
    });
}
