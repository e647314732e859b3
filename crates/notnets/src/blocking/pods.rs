//! Names in pods: a server's acceptor of clients of other hosts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};

use super::Endpoint;
use crate::Error;
use crate::error::Cause;
use crate::options::LinkOptions;
use notnets_core::link::Established;
use notnets_core::link::accept::{Occupancy, Policy, Refused};
use notnets_core::link::admission::Rejection;
use notnets_core::link::candidate::Candidate;
use notnets_core::link::handshake::Config;
use notnets_core::link::quota::UserLink;
use notnets_core::link::rendezvous::{Directory, Listener};
use notnets_core::name::{Name, Uri};
use notnets_pod::member::{AGENT_TIMEOUT, Arrival, Member};

/// Clients that get a link at the same time.
const MAX_AT_ONCE: usize = 64;

/// A link to the nearest process of a pod that serves the endpoint's name.
pub fn dial(endpoint: &Endpoint, pod: &Name) -> Result<Established, Error> {
    let name = endpoint.uri.name();
    let dial = endpoint.options.dial(pod, name, super::USER_AGENT, endpoint.connect_timeout);
    dial.block().map_err(|error| Cause::Pod { uri: endpoint.uri.clone(), error }.into())
}

/// What a pod's acceptor hears of.
enum AcceptorEvent {
    /// A client wants a link.
    Arrival(Arrival),
    /// One that was to get a link has it, or has been told why not.
    Answered(Option<Box<Established>>),
}

/// A name that is served in a pod, until this is dropped.
pub struct PodAcceptor {
    member: Member,
    name: Name,
    came: Receiver<AcceptorEvent>,
    bell: Bell,
    /// Clients that get a link now, on threads of their own: the agent may have to grant memory first.
    answering: usize,
}

/// Puts something into the acceptor's queue, and makes its event readable.
#[derive(Clone)]
struct Bell {
    queue: Sender<AcceptorEvent>,
    event: Arc<OwnedFd>,
}

impl Bell {
    /// Returns what nobody takes any more.
    fn ring(&self, came: AcceptorEvent) -> Option<AcceptorEvent> {
        let untaken = self.queue.send(came).err().map(|unsent| unsent.0);
        // It fails only if it was rung many times already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        untaken
    }
}

impl PodAcceptor {
    pub fn open(options: &LinkOptions, pod: &Name, name: &Name) -> Result<Self, Error> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::io("make an event for clients of other hosts")(errno.into()))?;
        let (queue, came) = channel();
        let bell = Bell { queue, event: Arc::new(event) };
        let uri = || Uri::in_pod(pod.clone(), name.clone());
        let failed = |error| Cause::ServePod { uri: uri(), error };
        let deadline = Instant::now() + AGENT_TIMEOUT;
        let member = Member::of(&options.directory, pod, deadline).map_err(failed)?;
        if let Some(latency) = options.wake_latency {
            member.wake_within(latency);
        }
        let (arrivals, from) = (bell.clone(), member.downgrade());
        let on_arrival = Box::new(move |arrival| {
            if let Some(AcceptorEvent::Arrival(arrival)) = arrivals.ring(AcceptorEvent::Arrival(arrival))
                && let Some(member) = from.upgrade()
            {
                refuse(&member, &arrival, &Rejection::ShuttingDown);
            }
        });
        member.serve(name, on_arrival, deadline).map_err(failed)?;
        Ok(Self { member, name: name.clone(), came, bell, answering: 0 })
    }

    /// What is said in the handshake with all clients of a name in a pod.
    pub fn config(options: &LinkOptions) -> Config {
        options.config_between_hosts()
    }

    /// Where clients of this host come, unless the directory doesn't permit it: then they come here too.
    pub fn listen_local(&self, directory: &Directory) -> Option<Listener> {
        self.member.listen_local(directory, &self.name).ok()
    }

    /// Readable when somebody has come.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.bell.event.as_fd()
    }

    /// Takes the clients that have come, while the server has `open` links. Those of them that it lets in
    /// have their link the next time.
    pub fn take(&mut self, policy: &Policy, open: usize, refused: impl Fn(&Refused)) -> Vec<Established> {
        let _ = rustix::io::read(&self.bell.event, &mut [0; 8]);
        let mut established = Vec::new();
        while let Ok(came) = self.came.try_recv() {
            match came {
                AcceptorEvent::Arrival(arrival) => {
                    let links = open + self.answering + established.len();
                    let occupancy = Occupancy { links, stopping: false };
                    let client = self.member.client(&arrival);
                    let admitted = if self.answering < MAX_AT_ONCE {
                        client
                            .clone()
                            .and_then(|client| policy.admit(&Candidate::known_by(client), occupancy))
                    } else {
                        Err(Rejection::TooManyAtOnce)
                    };
                    match admitted {
                        Ok(place) => {
                            let config = UserLink::limit(place.as_ref(), policy.config);
                            self.answer(arrival, config, place);
                        }
                        Err(rejection) => {
                            refuse(&self.member, &arrival, &rejection);
                            refused(&Refused { rejection, client: client.ok() });
                        }
                    }
                }
                AcceptorEvent::Answered(made) => {
                    self.answering -= 1;
                    established.extend(made.map(|made| *made));
                }
            }
        }
        established
    }

    fn answer(&mut self, arrival: Arrival, config: Config, place: Option<UserLink>) {
        let (member, bell) = (self.member.clone(), self.bell.clone());
        let deadline = Instant::now() + AGENT_TIMEOUT;
        let work = move || {
            let answered = member.answer(arrival, config, deadline).map(|made| made.of_user(place));
            // A server that has stopped takes no more links.
            let _ = bell.ring(AcceptorEvent::Answered(answered.ok().map(Box::new)));
        };
        // A client that gets no thread gets no answer: it gives up after its timeout.
        let spawned = std::thread::Builder::new().name("notnets-answer".to_owned()).spawn(work);
        self.answering += usize::from(spawned.is_ok());
    }
}

impl Drop for PodAcceptor {
    fn drop(&mut self) {
        self.member.unserve(&self.name);
        while let Ok(came) = self.came.try_recv() {
            if let AcceptorEvent::Arrival(arrival) = came {
                refuse(&self.member, &arrival, &Rejection::ShuttingDown);
            }
        }
    }
}

fn refuse(member: &Member, arrival: &Arrival, why: &Rejection) {
    member.refuse(arrival, why.refusal(), &why.to_string());
}
