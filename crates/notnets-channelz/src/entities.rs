//! What channelz calls servers, channels and sockets, from the counters of this process.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use notnets_core::stats::{Count, LinkSnapshot, MethodSnapshot, Snapshot, Transport, find};
use prost_types::Timestamp;

use crate::pb::address::{Address as AnyAddress, OtherAddress, UdsAddress};
use crate::pb::channel_connectivity_state::State;
use crate::pb::{
    Address, Channel, ChannelConnectivityState, ChannelData, ChannelRef, ChannelTrace, Server, ServerData,
    ServerRef, Socket, SocketData, SocketOption, SocketRef, Subchannel, SubchannelRef,
};

/// What an id is of, in its lowest bits.
#[derive(Clone, Copy)]
enum Kind {
    Server = 0,
    Channel = 1,
    Subchannel = 2,
    Socket = 3,
}

/// Bits of an id for the number within its segment of counters.
const NUMBER_BITS: u32 = 29;

/// An id that no other entity of this process has: of the segment, which the kernel numbers, and the number
/// in it.
fn id(kind: Kind, counters: &Snapshot, number: u64) -> i64 {
    let number = number & ((1 << NUMBER_BITS) - 1);
    let segment = counters.segment & ((1 << (61 - NUMBER_BITS)) - 1);
    ((segment << NUMBER_BITS | number) << 2 | kind as u64) as i64
}

/// A look at the process.
pub(crate) struct Entities(Vec<Snapshot>);

impl Entities {
    pub(crate) fn look() -> Self {
        Self(find::of_this_process())
    }

    fn servers_counters(&self) -> impl Iterator<Item = (i64, &Snapshot)> {
        let servers = self.0.iter().filter(|counters| counters.serves);
        servers.map(|counters| (id(Kind::Server, counters, 0), counters))
    }

    /// The links on which this process is the client.
    fn client_links(&self) -> impl Iterator<Item = (&Snapshot, &LinkSnapshot)> {
        let clients = self.0.iter().filter(|counters| !counters.serves);
        clients.flat_map(|counters| counters.links.iter().map(move |link| (counters, link)))
    }

    pub(crate) fn servers(&self) -> Vec<(i64, Server)> {
        self.servers_counters().map(|(id, counters)| (id, server(id, counters))).collect()
    }

    /// The links of a server. `None` if there is no such server.
    pub(crate) fn server_sockets(&self, server: i64) -> Option<Vec<(i64, SocketRef)>> {
        let (_, counters) = self.servers_counters().find(|(id, _)| *id == server)?;
        let sockets = counters.links.iter().map(|link| {
            let reference = socket_ref(counters, link);
            (reference.socket_id, reference)
        });
        Some(sockets.collect())
    }

    pub(crate) fn channels(&self) -> Vec<(i64, Channel)> {
        let mut by_target = BTreeMap::<&str, Vec<(&Snapshot, &LinkSnapshot)>>::new();
        for (counters, link) in self.client_links() {
            by_target.entry(&link.target).or_default().push((counters, link));
        }
        let channel = |(target, links): (&str, Vec<(&Snapshot, &LinkSnapshot)>)| {
            let id = id(Kind::Channel, links.first()?.0, FixedState::default().hash_one(target));
            let subchannel_ref = links.iter().map(|(counters, link)| subchannel_ref(counters, link));
            let links = links.iter().map(|(_, link)| *link);
            let channel = Channel {
                r#ref: Some(ChannelRef { channel_id: id, name: target.to_owned() }),
                data: Some(channel_data(target, links)),
                subchannel_ref: subchannel_ref.collect(),
                ..Channel::default()
            };
            Some((id, channel))
        };
        by_target.into_iter().filter_map(channel).collect()
    }

    pub(crate) fn subchannel(&self, wanted: i64) -> Option<Subchannel> {
        let is_it = |(counters, link): &(&Snapshot, &LinkSnapshot)| {
            id(Kind::Subchannel, counters, link.number) == wanted
        };
        let (counters, link) = self.client_links().find(is_it)?;
        Some(Subchannel {
            r#ref: Some(subchannel_ref(counters, link)),
            data: Some(channel_data(&link.target, [link])),
            socket_ref: vec![socket_ref(counters, link)],
            ..Subchannel::default()
        })
    }

    pub(crate) fn socket(&self, wanted: i64) -> Option<Socket> {
        let all = self.0.iter().flat_map(|counters| counters.links.iter().map(move |link| (counters, link)));
        let mut all = all.filter(|(counters, link)| id(Kind::Socket, counters, link.number) == wanted);
        all.next().map(|(counters, link)| socket(counters, link))
    }
}

fn server(id: i64, counters: &Snapshot) -> Server {
    let methods = counters.methods();
    let calls = Calls::of(methods.values());
    Server {
        r#ref: Some(ServerRef { server_id: id, name: counters.names.clone() }),
        data: Some(ServerData {
            trace: Some(begun(counters.since)),
            calls_started: calls.started,
            calls_succeeded: calls.succeeded,
            calls_failed: calls.failed,
            last_call_started_timestamp: None,
        }),
        listen_socket: Vec::new(),
    }
}

fn channel_data<'a>(target: &str, links: impl IntoIterator<Item = &'a LinkSnapshot> + Clone) -> ChannelData {
    let calls = Calls::of(links.clone().into_iter().flat_map(|link| &link.methods));
    ChannelData {
        state: Some(ChannelConnectivityState { state: State::Ready.into() }),
        target: target.to_owned(),
        trace: links.into_iter().map(|link| link.since).min().map(begun),
        calls_started: calls.started,
        calls_succeeded: calls.succeeded,
        calls_failed: calls.failed,
        last_call_started_timestamp: None,
    }
}

fn socket(counters: &Snapshot, link: &LinkSnapshot) -> Socket {
    let calls = Calls::of(&link.methods);
    let remote = match link.peer_pid {
        Some(pid) => format!("process {pid}"),
        None => "a process of another namespace".to_owned(),
    };
    let local = if counters.serves { &counters.names } else { &link.target };
    Socket {
        r#ref: Some(socket_ref(counters, link)),
        data: Some(SocketData {
            streams_started: calls.started,
            streams_succeeded: calls.succeeded,
            streams_failed: calls.failed,
            messages_sent: link.counts.of(Count::MessagesSent) as i64,
            messages_received: link.counts.of(Count::MessagesReceived) as i64,
            option: options(link),
            ..SocketData::default()
        }),
        local: Some(Address {
            address: Some(AnyAddress::UdsAddress(UdsAddress { filename: local.clone() })),
        }),
        remote: Some(Address {
            address: Some(AnyAddress::OtherAddress(OtherAddress { name: remote, value: None })),
        }),
        security: None,
        remote_name: if counters.serves { link.target.clone() } else { String::new() },
    }
}

/// What there is to say about a link beyond what channelz asks for.
fn options(link: &LinkSnapshot) -> Vec<SocketOption> {
    let transport = match link.transport {
        Transport::Memory => "memory".to_owned(),
        Transport::Http2 => "http2".to_owned(),
        Transport::Pod { host } => format!("pod, host {host}"),
    };
    let state = if link.parked.is_some() { "parked" } else { "polling" };
    let mut options = vec![
        ("transport", transport),
        ("state", state.to_owned()),
        ("peer_uid", link.peer_uid.to_string()),
        ("last_failure", link.failure.clone()),
    ];
    options.extend(link.counts.all().map(|(count, sum)| (count.name(), sum.to_string())));
    let option =
        |(name, value): (&str, String)| SocketOption { name: name.to_owned(), value, additional: None };
    options.into_iter().filter(|(_, value)| !value.is_empty()).map(option).collect()
}

/// Calls that have begun and ended.
#[derive(Default)]
struct Calls {
    started: i64,
    succeeded: i64,
    failed: i64,
}

impl Calls {
    fn of<'a>(methods: impl IntoIterator<Item = &'a MethodSnapshot>) -> Self {
        methods.into_iter().fold(Self::default(), |calls, method| Self {
            started: calls.started.wrapping_add(method.started as i64),
            succeeded: calls.succeeded.wrapping_add(method.by_status[0] as i64),
            failed: calls.failed.wrapping_add(method.failed() as i64),
        })
    }
}

fn socket_ref(counters: &Snapshot, link: &LinkSnapshot) -> SocketRef {
    SocketRef { socket_id: id(Kind::Socket, counters, link.number), name: link.target.clone() }
}

fn subchannel_ref(counters: &Snapshot, link: &LinkSnapshot) -> SubchannelRef {
    SubchannelRef { subchannel_id: id(Kind::Subchannel, counters, link.number), name: link.target.clone() }
}

/// No events, but when it was made.
fn begun(since: u64) -> ChannelTrace {
    let creation_timestamp = Some(Timestamp { seconds: since as i64, nanos: 0 });
    ChannelTrace { num_events_logged: 0, creation_timestamp, events: Vec::new() }
}
