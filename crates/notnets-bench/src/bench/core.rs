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
use super::recorder::Sample;
use super::service::MAX_MESSAGE;
use super::sizes::{Size, Sizes};
use crate::Result;
use crate::orders::answer;
use crate::usage;

const ECHO: &str = "/notnets.bench.Bench/Echo";
const ASK: &str = "/notnets.bench.Bench/Ask";
/// The number of different sizes that take turns.
const DRAWN: usize = 1024;
/// Bytes of a request to `ask`, at least: its marker and the length of the reply that it wants.
const ASK_BYTES: usize = 8;

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
    match (request.method, request.message) {
        (ECHO, message) => reply.message.extend_from_slice(message),
        (ASK, [a, b, c, d, e, f, g, h, ..]) => {
            let bytes = u32::from_le_bytes([*e, *f, *g, *h]) as usize;
            reply.message.resize(bytes.min(MAX_MESSAGE), FILLER);
            write(&mut reply.message, &[*a, *b, *c, *d]);
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
    let count = if matches!(load.size, Size::Bytes(_)) { 1 } else { DRAWN };
    let least = if load.work == Work::Ask { ASK_BYTES } else { 0 };
    let mut sizes = load.size.draw(count, load.seed);
    sizes.iter_mut().for_each(|sizes| sizes.request = sizes.request.max(least));
    let most = sizes.iter().map(|sizes| sizes.request).max().unwrap_or(0);
    let mut message = vec![FILLER; most];
    let mut marker = 0u32;
    let mut response = Response::default();
    let mut turns = sizes.iter().cycle();
    std::thread::sleep(Duration::from_nanos(load.start.saturating_sub(usage::now())));
    let batch = if wait == Wait::Spin { floor::BATCH } else { 1 };
    floor::measure(load, batch, || {
        let Sizes { request, reply } = *turns.next().ok_or("no sizes")?;
        marker = marker.wrapping_add(1);
        let message = &mut message[..request];
        write(message, &marker.to_le_bytes());
        if load.work == Work::Ask {
            message[4..ASK_BYTES].copy_from_slice(&(reply as u32).to_le_bytes());
            client.call_into(&Call::new(ASK, message), &mut response)?;
            check(response.message.len() == reply && begins_alike(&response.message, message))
        } else {
            client.call_into(&Call::new(ECHO, message), &mut response)?;
            check(response.message == message)
        }
    })
}

/// Overwrites the beginning of a message, as far as it goes.
fn write(message: &mut [u8], first: &[u8]) {
    for (byte, first) in message.iter_mut().zip(first) {
        *byte = *first;
    }
}

fn begins_alike(reply: &[u8], request: &[u8]) -> bool {
    reply.iter().zip(&request[..4]).all(|(a, b)| a == b)
}

fn check(right: bool) -> Result {
    if right { Ok(()) } else { Err("a wrong reply".into()) }
}
