//! The floor: what two processes can do without any RPC, by which everything above is judged.
//!
//! The client connects in the rendezvous directory; what happens then depends on the kind of floor. Round
//! trips that take a fraction of a microsecond are timed by [`BATCH`]: a look at the clock takes a quarter of
//! one.

mod bell;
mod line;
mod ring;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Instant;

use notnets_core::link::rendezvous::Directory;
use notnets_core::link::socket::{Incoming, Socket};
use rustix::event::{PollFd, PollFlags, poll};

use super::case::Work;
use super::control::{Answer, Ask, Connect, Load, Serve, listen};
use super::recorder::{Recorder, Sample};
use crate::Result;
use crate::orders::answer;
use crate::usage;

/// Round trips between two looks at the clock, where both sides spin.
pub const BATCH: u64 = 16;

/// Answers each client on a thread of its own, forever.
pub fn serve(order: &Serve) -> Result {
    let name = order.name.parse()?;
    let listener = Directory::at(&order.setup.directory).listen(&name)?;
    answer(&Answer::Ready(order.name.clone()));
    let work = order.work;
    loop {
        wait(&listener)?;
        let Some(client) = listener.accept()? else { continue };
        thread::spawn(move || {
            if let Err(error) = echo(work, client) {
                eprintln!("{work}: {error}");
            }
        });
    }
}

fn echo(work: Work, client: OwnedFd) -> Result {
    match work {
        Work::Line => line::echo(&client.into()),
        Work::Ring => ring::echo(client.into()),
        Work::Socket => bell::echo_bytes(&client),
        _ => bell::echo_events(&client.into()),
    }
}

/// Makes round trips as ordered, until its input ends.
pub fn call(order: &Connect) -> Result {
    let mut orders = listen(order.setup.directory.clone());
    answer(&Answer::Ready(String::new()));
    while let Some(ask) = orders.blocking_recv() {
        let Ask::Load(load) = ask else { return Err(format!("a floor can't {ask:?}").into()) };
        let server = connect(&order.setup.directory, &order.address)?;
        answer(&Answer::Loaded(match load.work {
            Work::Line => line::measure(&load, &server.into())?,
            Work::Ring => ring::measure(&load, server.into())?,
            Work::Socket => bell::measure_bytes(&load, &server)?,
            _ => bell::measure_events(&load, &server.into())?,
        }));
    }
    Ok(())
}

fn connect(directory: &Path, name: &str) -> Result<OwnedFd> {
    Ok(Directory::at(directory).connect(&name.parse()?)?)
}

/// Makes round trips for as long as ordered, `batch` of them between looks at the clock.
pub fn measure(load: &Load, batch: u64, mut round_trip: impl FnMut() -> Result) -> Result<Sample> {
    let recorder = Recorder::new(1);
    let cpu = usage::cpu_time();
    let start = Instant::now();
    let mut calls = 0;
    let mut before = start;
    while (before - start).as_secs_f64() < load.seconds {
        for _ in 0..batch {
            round_trip()?;
        }
        let after = Instant::now();
        let each = (after - before).as_nanos() as u64 / batch;
        for _ in 0..batch {
            recorder.record(0, each);
        }
        calls += batch;
        before = after;
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = usage::cpu_time() - cpu;
    Ok(Sample { calls, seconds, cpu, latencies: recorder.latencies() })
}

/// Waits until something can be read.
fn wait(of: &impl std::os::fd::AsFd) -> Result {
    poll(&mut [PollFd::new(of, PollFlags::IN)], None)?;
    Ok(())
}

/// Waits for the next packet and the descriptor that it brings.
fn receive(socket: &Socket) -> Result<Incoming> {
    wait(socket)?;
    Ok(socket.receive()?)
}
