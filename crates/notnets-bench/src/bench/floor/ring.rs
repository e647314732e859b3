//! A descriptor over and back: NotNets' handshake and rings, without calls.

use std::hint::spin_loop;

use notnets_core::link::handshake::{Config, Dialing, answer};
use notnets_core::link::packet::Packet;
use notnets_core::link::socket::{Incoming, Socket};
use notnets_memory::lane::Lanes;

use super::super::control::Load;
use super::super::recorder::Sample;
use super::{BATCH, receive};
use crate::Result;

/// The last descriptor's first word.
const END: u64 = u64::MAX;

/// Gives each descriptor back until the last.
pub fn echo(client: Socket) -> Result {
    let Incoming::Packet(Packet::Hello(hello), descriptor) = receive(&client)? else {
        return Err("a link begins with a hello".into());
    };
    let mut link = answer(client, hello, descriptor, Config::default())?;
    loop {
        let Some(descriptor) = link.lanes.pop() else {
            spin_loop();
            continue;
        };
        push(&mut link.lanes, descriptor)?;
        if descriptor[0] == END {
            return Ok(());
        }
    }
}

/// Sends numbered descriptors, each when the last one has come back.
pub fn measure(load: &Load, server: Socket) -> Result<Sample> {
    let dialing = Dialing::start(server, Config::default(), "floor", "")?;
    let welcome = receive(dialing.socket())?;
    let mut link = dialing.finish(welcome)?;
    let mut count = 0;
    let sample = super::measure(load, BATCH, || {
        count += 1;
        push(&mut link.lanes, [count; 7])?;
        loop {
            match link.lanes.pop() {
                None => spin_loop(),
                Some(descriptor) if descriptor == [count; 7] => return Ok(()),
                Some(other) => return Err(format!("a wrong descriptor: {other:?}").into()),
            }
        }
    });
    push(&mut link.lanes, [END; 7])?;
    sample
}

fn push(lanes: &mut Lanes, descriptor: [u64; 7]) -> Result {
    while lanes.room()? == 0 {
        spin_loop();
    }
    lanes.push(descriptor);
    Ok(())
}
