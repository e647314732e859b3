//! NotNets' blocking API: messages are the payload's bytes as they are, and nothing encodes or decodes them.
//!
//! Where both sides spin, calls are timed by 16 as the floor is, since a look at the clock takes a tenth of
//! one.

use std::time::{Duration, Instant};

use notnets::ErrorKind;
use notnets::blocking::{Call, Client, Endpoint, Reply, Request, Response, Server, Status};

use super::case::{Wait, Work};
use super::channel::LOOK_AGAIN;
use super::control::{Answer, Ask, Connect, Load, Serve, listen};
use super::floor;
use super::load::unary::FILLER;
use super::process::PATIENCE;
use super::raw::{Requests, wanted, write};
use super::recorder::Sample;
use super::service::MAX_MESSAGE;
use crate::Result;
use crate::orders::answer;
use crate::usage;

const ECHO: &str = "/notnets.bench.Bench/Echo";
const ASK: &str = "/notnets.bench.Bench/Ask";

/// Answers calls on this thread, forever.
pub fn serve(order: &Serve) -> Result {
    let server = Server::builder()
        .directory(order.setup.names())
        .wait(order.setup.wait.into())
        .max_message_size(MAX_MESSAGE);
    let address = order.address();
    let server = server.bind(&address)?;
    answer(&Answer::Ready(address));
    let spoil = order.spoil;
    let mut served = 0u64;
    server.serve(|request, reply| {
        handle(request, reply)?;
        served += 1;
        if spoil && served.is_multiple_of(10) {
            reply.message.iter_mut().take(1).for_each(|byte| *byte = !*byte);
        }
        Ok(())
    });
    Ok(())
}

fn handle(request: &Request<'_>, reply: &mut Reply) -> std::result::Result<(), Status> {
    match (request.method, wanted(request.message)) {
        (ECHO, _) => reply.message.extend_from_slice(request.message),
        (ASK, Some((bytes, first))) => {
            reply.message.resize(bytes, FILLER);
            write(&mut reply.message, &first);
        }
        (method, _) => return Err(Status::unknown_method(method)),
    }
    Ok(())
}

/// Makes calls as ordered, until its input ends.
pub fn call(order: &Connect) -> Result {
    let mut orders = listen(order.setup.directory.clone());
    let mut client = connect(order)?;
    answer(&Answer::Ready(String::new()));
    let mut idle = Vec::new();
    while let Some(ask) = orders.blocking_recv() {
        match ask {
            Ask::Load(load) => answer(&match make_calls(&mut client, &load, order.setup.wait) {
                Ok(sample) => Answer::Loaded(sample),
                Err(error) => Answer::Failed(error.to_string()),
            }),
            Ask::Links(count) => {
                for _ in 0..count {
                    let mut client = connect(order)?;
                    client.call(ECHO, b"")?;
                    idle.push(client);
                }
                answer(&Answer::Ready(String::new()));
            }
            other => return Err(format!("a client can't {other:?}").into()),
        }
    }
    Ok(())
}

fn connect(order: &Connect) -> Result<Client> {
    let endpoint =
        Endpoint::new(&order.address)?.directory(order.setup.names()).wait(order.setup.wait.into());
    let endpoint = endpoint.max_message_size(MAX_MESSAGE);
    let until = Instant::now() + PATIENCE;
    loop {
        match endpoint.clone().connect() {
            Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < until => {
                std::thread::sleep(LOOK_AGAIN);
            }
            connected => return Ok(connected?),
        }
    }
}

fn make_calls(client: &mut Client, load: &Load, wait: Wait) -> Result<Sample> {
    let mut requests = Requests::new(load, 0);
    let method = if load.work == Work::Ask { ASK } else { ECHO };
    let mut response = Response::default();
    std::thread::sleep(Duration::from_nanos(load.start.saturating_sub(usage::now())));
    let batch = if wait == Wait::Spin { floor::BATCH } else { 1 };
    floor::measure(load, batch, || {
        client.call_into(&Call::new(method, requests.next()), &mut response)?;
        requests.check(&response.message)
    })
}
