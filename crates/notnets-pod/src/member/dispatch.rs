//! Dispatches the packets of the agent, and what other processes send through it.

use std::sync::Arc;

use notnets_memory::region::{OwnPart, RegionOffset};

use super::peer_message::PeerMessage;
use super::state::{Answer, Shared, State, Waiting};
use super::{Arrival, OnArrival};
use crate::packet::{FromProcess, ToProcess};
use crate::table::ProcessId;
use notnets_core::link::packet::{Packet, Refusal};
use notnets_core::link::segments::{PeerLocation, SegmentEvent};
use notnets_core::name::Name;

/// Handles a packet from the agent. A client that wants a link is passed to the service it came for.
pub(super) fn on_packet(
    state: &mut State,
    shared: &Arc<Shared>,
    packet: ToProcess,
) -> Option<(Arc<OnArrival>, Arrival)> {
    match packet {
        ToProcess::Joined { .. }
        | ToProcess::Refused(_)
        | ToProcess::Bell
        | ToProcess::Region { .. }
        | ToProcess::HostLeft { .. } => {}
        ToProcess::Granted(extent) => grant(state, extent),
        ToProcess::GrantedPayloads(extent) => match map(state, extent) {
            Some(part) => state.payloads.add(part),
            None => state.payloads.exhausted(),
        },
        ToProcess::NoPayloads => state.payloads.exhausted(),
        ToProcess::Claimed(extent) => state.claimed(extent, shared),
        ToProcess::NoExtent { more: false } => state.full = true,
        ToProcess::NoExtent { more: true } => state.tell_of_memory(false),
        ToProcess::Serving(name) => {
            state.serving.insert(name, None);
        }
        ToProcess::NotServing(name, text) => {
            state.serving.insert(name, Some(text));
        }
        ToProcess::Resolved { query, instances } => {
            state.resolved.insert(query, instances);
        }
        ToProcess::Gone { id, ended } => state.peer_gone(id, ended),
        ToProcess::Listen { host, again } => state.listen(host, again),
        ToProcess::Watching { link, watched: true } => state.watch.remove(link),
        ToProcess::Watching { watched: false, .. } => {}
        ToProcess::Mail { from, body } => return on_message(state, from, PeerMessage::decode(&body).ok()?),
    }
    None
}

fn grant(state: &mut State, extent: u32) {
    match map(state, extent) {
        Some(part) => {
            state.pool.add(part);
            state.granted += 1;
            notnets_core::failpoint!("pod extent granted");
            state.tell_of_memory(true);
        }
        None => state.full = true,
    }
}

/// An extent that was granted, to be written.
fn map(state: &State, extent: u32) -> Option<OwnPart> {
    let layout = *state.region.layout();
    let extent = usize::try_from(extent).ok().filter(|extent| *extent < layout.extents())?;
    state.region.own(layout.extent(state.id.host.into(), extent)).ok()
}

fn on_message(state: &mut State, from: ProcessId, message: PeerMessage) -> Option<(Arc<OnArrival>, Arrival)> {
    match message {
        PeerMessage::Hello { link, nonce, offset, packet } => {
            let Ok(Packet::Hello(hello)) = Packet::decode(&packet) else { return None };
            let name: Option<Name> = hello.name.parse().ok();
            let service = name.and_then(|name| state.services.get(&name).cloned());
            let Some(service) = service else {
                let reason = Refusal::ShuttingDown;
                let text = format!("{} is not served here any more", hello.name);
                let packet = Packet::Refused { reason, text }.encode();
                let answer =
                    PeerMessage::Answer { to: link, link: 0, nonce: 0, offset: RegionOffset(0), packet };
                state.to_agent.push_back(FromProcess::Send { to: from, body: answer.encode() });
                return None;
            };
            return Some((service, Arrival { from, link, nonce, offset, hello }));
        }
        PeerMessage::Answer { to, link, nonce, offset, packet } => match state.waiting.get_mut(&to) {
            Some(waiting) if waiting.is_for(from) => {
                *waiting = Waiting::Answered(Answer { link, nonce, offset, packet });
            }
            // It came too late.
            _ => {
                let body = PeerMessage::Close { to: link }.encode();
                state.to_agent.push_back(FromProcess::Send { to: from, body });
            }
        },
        PeerMessage::Close { to } => state.closed_there(from, to),
        PeerMessage::Offer { to, segment, offset, blocks } => {
            let location = PeerLocation::Offset(offset);
            state.tell(from, to, SegmentEvent::Offered { segment, blocks, location });
        }
        PeerMessage::Accept { to, segment, offset } => {
            let location = PeerLocation::Offset(offset);
            state.tell(from, to, SegmentEvent::Accepted { segment, location });
        }
        PeerMessage::Decline { to, segment } => state.tell(from, to, SegmentEvent::Declined { segment }),
        PeerMessage::Retire { to, segment } => state.tell(from, to, SegmentEvent::Retiring { segment }),
        PeerMessage::Retired { to, segment } => state.tell(from, to, SegmentEvent::Retired { segment }),
    }
    None
}
