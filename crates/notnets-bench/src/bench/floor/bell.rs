//! A wake-up over and back: each side sleeps in the kernel until it is rung.

use std::os::fd::{AsFd, OwnedFd};

use notnets_core::link::packet::Packet;
use notnets_core::link::socket::{Incoming, Socket};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{ioctl_fionbio, read, write};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::super::control::Load;
use super::super::recorder::Sample;
use super::receive;
use crate::Result;

/// Gives each byte back, until the client is gone.
pub fn echo_bytes(client: &OwnedFd) -> Result {
    ioctl_fionbio(client, false)?;
    let mut byte = [0];
    while recv(client, &mut byte, RecvFlags::empty())?.0 == 1 {
        send(client, &byte, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Round trips of a byte on the socket.
pub fn measure_bytes(load: &Load, server: &OwnedFd) -> Result<Sample> {
    ioctl_fionbio(server, false)?;
    super::measure(load, 1, || {
        send(server, &[1], SendFlags::NOSIGNAL)?;
        match recv(server, &mut [0], RecvFlags::empty())?.0 {
            1 => Ok(()),
            _ => Err("the server is gone".into()),
        }
    })
}

/// The last event.
const END: u64 = 1 << 32;

/// Answers each event with one, until the last.
pub fn echo_events(client: &Socket) -> Result {
    let theirs = event(client)?;
    let ours = event(client)?;
    while take(&theirs)? < END {
        ring(&ours, 1)?;
    }
    Ok(())
}

/// Round trips by two eventfds.
pub fn measure_events(load: &Load, server: &Socket) -> Result<Sample> {
    let ours = offer(server)?;
    let theirs = offer(server)?;
    let sample = super::measure(load, 1, || {
        ring(&ours, 1)?;
        take(&theirs).map(drop)
    });
    ring(&ours, END)?;
    sample
}

fn offer(socket: &Socket) -> Result<OwnedFd> {
    let made = eventfd(0, EventfdFlags::CLOEXEC)?;
    socket.send(&Packet::Accept { segment: 0 }, Some(made.as_fd()))?;
    Ok(made)
}

fn event(socket: &Socket) -> Result<OwnedFd> {
    match receive(socket)? {
        Incoming::Packet(_, Some(descriptor)) => Ok(descriptor),
        _ => Err("no event came".into()),
    }
}

fn ring(event: &OwnedFd, count: u64) -> Result {
    write(event, &count.to_ne_bytes())?;
    Ok(())
}

fn take(event: &OwnedFd) -> Result<u64> {
    let mut count = [0; 8];
    read(event, &mut count)?;
    Ok(u64::from_ne_bytes(count))
}
