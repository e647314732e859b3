//! A server's side of connecting, as a state machine: from an accepted connection to a link, without waiting.
//!
//! A connection is admitted or rejected as soon as it is accepted, by what the kernel says of its other end:
//! a process that is not admitted holds nothing here. One that is closed without a packet is a probe for a
//! live server. One that asks for the counters gets them. One that has taken the name over says so. One that
//! sends HELLO gets a link or a rejection.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use notnets_memory::process::{PeerCredentials, peer_credentials};

use super::admission::{Admission, Rejection};
use super::candidate::Candidate;
use super::handshake::{Config, answer, refuse};
use super::packet::Packet;
use super::quota::{Quota, UserLink};
use super::socket::Incoming;
use super::{Established, LinkError, Socket};
use crate::clock::Timestamp;

/// A connection that sends nothing is closed after this time.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

const ROOT: u32 = 0;

/// A server's rules for accepting clients.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The rule for who may connect.
    pub admission: Admission,
    /// How many links may be open at once.
    pub max_links: usize,
    /// What each other user may take.
    pub quota: Quota,
    /// The configuration of the server's side of each link.
    pub config: Config,
}

/// How busy a server is.
#[derive(Clone, Copy, Debug)]
pub struct Occupancy {
    /// Links that are open.
    pub links: usize,
    /// It is being stopped.
    pub stopping: bool,
}

impl Policy {
    /// Gives a client a link or rejects it with a reason. Keep what is returned for as long as the link is
    /// open ([`Established::of_user`]).
    ///
    /// # Errors
    /// When it must not have one, or not now.
    pub fn admit(&self, client: &Candidate<'_>, occupancy: Occupancy) -> Result<Option<UserLink>, Rejection> {
        self.admission.check(client)?;
        self.check(occupancy)?;
        self.quota.enter(client.uid)
    }

    /// Returns whether the server takes one more link now.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, occupancy: Occupancy) -> Result<(), Rejection> {
        if occupancy.stopping {
            return Err(Rejection::ShuttingDown);
        }
        if occupancy.links >= self.max_links {
            return Err(Rejection::TooManyLinks);
        }
        Ok(())
    }
}

/// A connection of a process that is admitted, whose first packet has not been read yet.
#[derive(Debug)]
pub struct Accepting {
    socket: Socket,
    client: PeerCredentials,
    /// A process of root's that is not admitted, which may only want to look at the counters: then it is no
    /// refused client.
    rejection: Option<Rejection>,
    expires: Timestamp,
}

/// A client that gets no link.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The reason, which the client was sent.
    pub rejection: Rejection,
    /// The client, if the kernel or its agent knows it.
    pub client: Option<PeerCredentials>,
}

/// The outcome of a connection.
#[derive(Debug)]
pub enum Accepted {
    /// Its first packet is not there yet: try again when its socket is readable.
    Pending(Accepting),
    /// There is nothing more to do: it was a look, or has been answered or refused.
    Over,
    /// It was rejected, and the rejection was sent.
    Rejected(Refused),
    /// The handshake failed.
    Failed(LinkError),
    /// A process says that it has taken the name over: look whether
    /// [it has](super::rendezvous::Listener::is_taken_over).
    TakenOver,
    /// A link.
    Link(Box<Established>),
}

impl Accepting {
    /// Takes a connection that was accepted at `now`, if its process is admitted.
    ///
    /// # Errors
    /// When it is not. It has been told. Of root's processes this is found out by their first packet.
    pub fn new(socket: impl Into<Socket>, policy: &Policy, now: Timestamp) -> Result<Self, Refused> {
        let socket = socket.into();
        let client = peer_credentials(&socket).ok();
        Self::of(socket, client, policy, now)
    }

    /// Takes the connection of this client.
    fn of(
        socket: Socket,
        client: Option<PeerCredentials>,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Self, Refused> {
        let admitted = client.ok_or(Rejection::Unknown).and_then(|client| {
            policy.admission.check(&Candidate::at(socket.as_fd(), client)).map(|()| client)
        });
        match admitted {
            Ok(client) => Ok(Self { socket, client, rejection: None, expires: now + HELLO_TIMEOUT }),
            Err(rejection) => {
                if let Some(client) = client.filter(|client| client.uid == ROOT) {
                    let rejection = Some(rejection);
                    return Ok(Self { socket, client, rejection, expires: now + HELLO_TIMEOUT });
                }
                reject(&socket, &rejection);
                Err(Refused { rejection, client })
            }
        }
    }

    /// The uid of its process.
    pub fn uid(&self) -> u32 {
        self.client.uid
    }

    /// Returns the socket to wait for, until it is readable.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Returns when to close the connection if it has sent nothing by then.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Reads its first packet, if that is there, and answers it. `stats` is the descriptor of the server's
    /// counters.
    pub fn advance(self, policy: &Policy, occupancy: Occupancy, stats: Option<BorrowedFd<'_>>) -> Accepted {
        let received = self.socket.receive();
        if let (Some(rejection), Ok(Incoming::Packet(packet, _))) = (&self.rejection, &received) {
            let rejection = rejection.clone();
            if let Packet::Inspect = packet {
                reject(&self.socket, &rejection);
                return Accepted::Over;
            }
            return self.reject(rejection);
        }
        match received {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Accepted::Pending(self),
            Ok(Incoming::Packet(Packet::Hello(hello), descriptor)) => {
                let place = policy.check(occupancy).and_then(|()| policy.quota.enter(self.client.uid));
                let place = match place {
                    Ok(place) => place,
                    Err(rejection) => return self.reject(rejection),
                };
                let config = UserLink::limit(place.as_ref(), policy.config);
                match answer(self.socket, hello, descriptor, config) {
                    Ok(established) => Accepted::Link(Box::new(established.of_user(place))),
                    Err(LinkError::Closed) => Accepted::Over,
                    Err(error) => Accepted::Failed(error),
                }
            }
            Ok(Incoming::Packet(Packet::Inspect, _)) => {
                // It fails when the one that asked is gone.
                let _ = self.socket.send(&Packet::Stats, stats);
                Accepted::Over
            }
            Ok(Incoming::Packet(Packet::TakenOver, _)) => Accepted::TakenOver,
            Ok(Incoming::Packet(..)) => self.reject(Rejection::NoHello),
            // A probe, or a packet that cannot be answered.
            Ok(Incoming::Closed | Incoming::Bad(_)) | Err(_) => Accepted::Over,
        }
    }

    /// Rejects it.
    pub fn reject(self, rejection: Rejection) -> Accepted {
        reject(&self.socket, &rejection);
        Accepted::Rejected(Refused { rejection, client: Some(self.client) })
    }
}

fn reject(socket: &Socket, rejection: &Rejection) {
    refuse(socket, rejection.refusal(), &rejection.to_string());
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::link::handshake::Dialing;
    use crate::link::packet::Refusal;
    use crate::stats::Stats;

    const IDLE: Occupancy = Occupancy { links: 0, stopping: false };

    fn policy() -> Policy {
        Policy {
            admission: Admission::SameUser,
            max_links: 2,
            quota: Quota::default(),
            config: Config::default(),
        }
    }

    fn connected() -> (Socket, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (client, server): (OwnedFd, OwnedFd) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (client.into(), server)
    }

    fn connection() -> (Socket, Accepting) {
        let (client, server) = connected();
        (client, Accepting::new(server, &policy(), Timestamp::ZERO).unwrap())
    }

    fn advance(accepting: Accepting, occupancy: Occupancy) -> Accepted {
        let stats = Stats::of_server().unwrap();
        accepting.advance(&policy(), occupancy, Some(stats.descriptor()))
    }

    fn refusal(client: &Socket) -> Refusal {
        let Ok(Incoming::Packet(Packet::Refused { reason, .. }, _)) = client.receive() else { panic!() };
        reason
    }

    #[test]
    fn a_connection_is_waited_for_until_it_says_something() {
        let (client, accepting) = connection();
        let Accepted::Pending(accepting) = advance(accepting, IDLE) else { panic!() };
        assert_eq!(accepting.expires(), Timestamp::ZERO + HELLO_TIMEOUT);
        let _dialing = Dialing::start(client, Config::default(), "x", "").unwrap();
        assert!(matches!(advance(accepting, IDLE), Accepted::Link(_)));
    }

    fn of_uid(uid: u32) -> Option<PeerCredentials> {
        Some(PeerCredentials { pid: Some(7), uid, gid: 0 })
    }

    #[test]
    fn root_that_looks_at_a_server_that_does_not_admit_it_is_no_refused_client() {
        let policy = Policy { admission: Admission::by(|_| false), ..policy() };
        let ask = |packet: &Packet| {
            let (client, server) = connected();
            let accepting = Accepting::of(server.into(), of_uid(ROOT), &policy, Timestamp::ZERO).unwrap();
            client.send(packet, None).unwrap();
            let accepted = accepting.advance(&policy, IDLE, None);
            assert_eq!(refusal(&client), Refusal::Identity);
            accepted
        };
        assert!(matches!(ask(&Packet::Inspect), Accepted::Over));
        let Accepted::Rejected(refused) = ask(&Packet::TakenOver) else { panic!() };
        assert!(matches!(refused.rejection, Rejection::NotAdmitted { .. }));
    }

    #[test]
    fn who_is_not_admitted_holds_nothing_though_it_says_nothing() {
        let (client, server) = connected();
        let policy = Policy { admission: Admission::by(|_| false), ..policy() };
        let Refused { rejection, client: who } =
            Accepting::of(server.into(), of_uid(70_001), &policy, Timestamp::ZERO).unwrap_err();
        assert!(matches!(rejection, Rejection::NotAdmitted { .. }));
        assert_eq!(who, of_uid(70_001));
        // Its hello comes too late; it reads why.
        let dialing = Dialing::start(client, Config::default(), "x", "").unwrap();
        assert_eq!(refusal(dialing.socket()), Refusal::Identity);
        assert!(matches!(dialing.socket().receive(), Ok(Incoming::Closed)));
    }

    #[test]
    fn a_look_is_no_client() {
        let (client, accepting) = connection();
        drop(client);
        assert!(matches!(advance(accepting, IDLE), Accepted::Over));
    }

    #[test]
    fn a_client_that_ends_before_it_is_welcomed_is_no_fault() {
        let (client, accepting) = connection();
        drop(Dialing::start(client, Config::default(), "x", "").unwrap());
        let accepted = advance(accepting, IDLE);
        assert!(matches!(accepted, Accepted::Over), "{accepted:?}");
    }

    #[test]
    fn a_client_that_must_not_or_cannot_have_a_link_is_told_why() {
        let stopping = Occupancy { stopping: true, ..IDLE };
        let full = Occupancy { links: 2, ..IDLE };
        for (occupancy, reason) in [(stopping, Refusal::ShuttingDown), (full, Refusal::Resources)] {
            let (client, accepting) = connection();
            let dialing = Dialing::start(client, Config::default(), "x", "").unwrap();
            assert!(matches!(advance(accepting, occupancy), Accepted::Rejected(_)));
            assert_eq!(refusal(dialing.socket()), reason);
        }
        let (client, accepting) = connection();
        client.ring();
        assert!(matches!(
            advance(accepting, IDLE),
            Accepted::Rejected(Refused { rejection: Rejection::NoHello, .. })
        ));
        assert_eq!(refusal(&client), Refusal::Protocol);
    }

    #[test]
    fn a_successor_says_that_it_has_the_name() {
        let (client, accepting) = connection();
        client.send(&Packet::TakenOver, None).unwrap();
        assert!(matches!(advance(accepting, IDLE), Accepted::TakenOver));
    }

    #[test]
    fn who_may_connect_gets_the_counters_also_of_a_server_that_takes_no_links() {
        let (client, accepting) = connection();
        client.send(&Packet::Inspect, None).unwrap();
        assert!(matches!(advance(accepting, Occupancy { links: 2, stopping: true }), Accepted::Over));
        assert!(matches!(client.receive(), Ok(Incoming::Packet(Packet::Stats, Some(_)))));
    }
}
