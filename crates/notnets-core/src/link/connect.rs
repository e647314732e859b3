//! A client's side of connecting to a name of this host, as a state machine: it never waits, but returns what
//! to wait for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use notnets_memory::process::peer_credentials;
use rustix::event::{PollFd, PollFlags, poll};

use super::candidate::Candidate;
use super::expected::{ExpectedServer, UnexpectedServer};
use super::handshake::{Config, Dialing};
use super::packet::Refusal;
use super::rendezvous::{Directory, RendezvousError};
use super::socket::Socket;
use super::{Established, LinkError};
use crate::clock::{self, Timestamp};
use crate::name::Name;

/// A server with a full backlog is tried again after this time, until the deadline.
const BUSY: Duration = Duration::from_millis(1);
/// A server that ended while it was dialled is dialled again after these pauses: there is another by now, or
/// certainly none.
const ENDING: [Duration; 4] = [
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(30),
];

/// Servers that are not expected are passed over up to this many.
const MAX_STRANGERS: usize = 64;

/// Why there is no link to a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// In the rendezvous directory: there is no such name, no permission, ….
    #[error(transparent)]
    Rendezvous(#[from] RendezvousError),
    /// The handshake failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The process that has the name is not one that this client expects. It was sent nothing.
    #[error(transparent)]
    Unexpected(#[from] UnexpectedServer),
    /// The server has not answered by the deadline.
    #[error("no answer in time; does the server hang, or has it run out of descriptors?")]
    TimedOut,
}

/// An attempt to get a link.
#[derive(Debug)]
pub struct Connecting {
    directory: Directory,
    /// Where the server listens.
    address: Name,
    /// The address that was dialled last: `address`, or that of one of its replicas.
    dialled: Name,
    /// The name to connect to.
    service: Name,
    config: Config,
    user_agent: String,
    deadline: Timestamp,
    /// The servers that ended while they were dialled, by their addresses.
    ending: Vec<Name>,
    expected: ExpectedServer,
    /// Where servers are that are not expected.
    strangers: Vec<Name>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// To be dialled from this time on.
    Dial(Timestamp),
    /// Waits for the server's answer.
    Greeted(Dialing),
}

/// The caller's next step.
#[derive(Debug)]
pub enum Progress {
    /// Wait for one of these, then call [`Connecting::advance`] again: the socket, if there is one, is
    /// readable; this time has come.
    Wait {
        /// When to call again in any case.
        until: Timestamp,
    },
    /// It is over.
    Done(Result<Box<Established>, ConnectError>),
}

impl Connecting {
    /// Will connect to a name in the directory before `deadline`.
    pub fn new(
        directory: Directory,
        name: Name,
        config: Config,
        user_agent: &str,
        deadline: Timestamp,
    ) -> Self {
        Self {
            directory,
            address: name.clone(),
            dialled: name.clone(),
            service: name,
            config,
            user_agent: user_agent.to_owned(),
            deadline,
            ending: Vec::new(),
            expected: ExpectedServer::default(),
            strangers: Vec::new(),
            state: State::Dial(Timestamp::ZERO),
        }
    }

    /// Takes nobody else for the server.
    pub fn expect(mut self, expected: ExpectedServer) -> Self {
        self.expected = expected;
        self
    }

    /// Dials this name in the directory, where the server listens instead of at its service's name.
    pub fn at(mut self, address: Name) -> Self {
        self.address = address;
        self
    }

    /// The socket to wait for, if an answer is waited for.
    pub fn socket(&self) -> Option<&Socket> {
        match &self.state {
            State::Greeted(dialing) => Some(dialing.socket()),
            State::Dial(_) => None,
        }
    }

    /// Advances as far as possible at `now`.
    pub fn advance(&mut self, now: Timestamp) -> Progress {
        loop {
            let step = match std::mem::replace(&mut self.state, State::Dial(now)) {
                // An answer that is there counts, however late it is looked for.
                State::Greeted(dialing) => self.look_for_answer(dialing),
                State::Dial(_) if now >= self.deadline => Step::Failed(ConnectError::TimedOut),
                State::Dial(at) if now < at => Step::Wait(State::Dial(at), at.min(self.deadline)),
                State::Dial(_) => self.dial(now),
            };
            let failed = match step {
                Step::Go(state) => {
                    self.state = state;
                    continue;
                }
                Step::Wait(_, until) if now >= until => return Progress::Done(Err(ConnectError::TimedOut)),
                Step::Wait(state, until) => {
                    self.state = state;
                    return Progress::Wait { until };
                }
                Step::Done(established) => return Progress::Done(Ok(established)),
                Step::Failed(ConnectError::Link(error)) if is_ending(&error) => error,
                Step::Failed(error) => return Progress::Done(Err(error)),
            };
            let Some(pause) = ENDING.get(self.ending.len()) else {
                return Progress::Done(Err(failed.into()));
            };
            self.ending.push(self.dialled.clone());
            self.state = State::Dial(now + *pause);
        }
    }

    fn dial(&mut self, now: Timestamp) -> Step {
        let avoided: Vec<_> = self.ending.iter().chain(&self.strangers).cloned().collect();
        let socket = match self.directory.connect_except(&self.address, &avoided) {
            Ok((socket, address)) => {
                self.dialled = address;
                socket
            }
            Err(RendezvousError::Busy { .. }) => return Step::Go(State::Dial(now + BUSY)),
            Err(error) => return Step::Failed(error.into()),
        };
        if let Err(error) = self.check(&socket) {
            // Another replica may be who is expected.
            let is_over = self.strangers.contains(&self.dialled) || self.strangers.len() >= MAX_STRANGERS;
            self.strangers.push(self.dialled.clone());
            return if is_over { Step::Failed(error) } else { Step::Go(State::Dial(now)) };
        }
        match Dialing::start(socket.into(), self.config, self.service.as_str(), &self.user_agent) {
            Ok(dialing) => Step::Go(State::Greeted(dialing)),
            Err(error) => Step::Failed(error.into()),
        }
    }

    fn check(&self, socket: &OwnedFd) -> Result<(), ConnectError> {
        let failed = |cause| LinkError::Io { step: "learn who the server is", cause };
        let server = peer_credentials(socket).map_err(failed)?;
        Ok(self.expected.check(&Candidate::at(socket.as_fd(), server), self.directory.path())?)
    }

    fn look_for_answer(&self, dialing: Dialing) -> Step {
        match dialing.socket().receive() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Step::Wait(State::Greeted(dialing), self.deadline)
            }
            Err(cause) => Step::Failed(LinkError::Io { step: "wait for the server's answer", cause }.into()),
            Ok(answer) => match dialing.finish(answer) {
                Ok(established) => Step::Done(Box::new(established)),
                Err(error) => Step::Failed(error.into()),
            },
        }
    }

    /// Connects, and makes the calling thread wait for it.
    ///
    /// # Errors
    /// When there is no link by the deadline.
    pub fn block(mut self) -> Result<Box<Established>, ConnectError> {
        loop {
            let until = match self.advance(clock::now()) {
                Progress::Done(result) => return result,
                Progress::Wait { until } => clock::until(until),
            };
            let mut watched: Vec<_> =
                self.socket().map(|socket| PollFd::new(socket, PollFlags::IN)).into_iter().collect();
            // A signal ends it too; then it is looked at again.
            let _ = poll(&mut watched, Some(&clock::timespec(until)));
        }
    }
}

/// The result of a step.
enum Step {
    Go(State),
    Wait(State, Timestamp),
    Done(Box<Established>),
    Failed(ConnectError),
}

/// Returns `true` if the server that was dialled was about to end.
fn is_ending(error: &LinkError) -> bool {
    matches!(error, LinkError::Closed | LinkError::Refused { reason: Refusal::ShuttingDown, .. })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::link::handshake::{answer, refuse};
    use crate::link::packet::{Hello, Packet};
    use crate::link::rendezvous::Listener;
    use crate::link::socket::Incoming;

    const START: Timestamp = Timestamp::from_nanos(1_000_000);
    const DEADLINE: Timestamp = START.add_nanos(1_000_000_000);

    struct Bed {
        directory: Directory,
        _temporary: tempfile::TempDir,
    }

    impl Bed {
        fn new() -> Self {
            let temporary = tempfile::tempdir().unwrap();
            Self { directory: Directory::at(temporary.path()), _temporary: temporary }
        }

        fn listen(&self) -> Listener {
            self.directory.listen(&name()).unwrap()
        }

        fn connecting(&self) -> Connecting {
            Connecting::new(self.directory.clone(), name(), Config::default(), "test/1", DEADLINE)
        }
    }

    fn name() -> Name {
        "x".parse().unwrap()
    }

    fn accept(listener: &Listener) -> (Socket, Hello, Option<std::os::fd::OwnedFd>) {
        let socket = Socket::from(listener.accept().unwrap().unwrap());
        let Ok(Incoming::Packet(Packet::Hello(hello), descriptor)) = socket.receive() else { panic!() };
        (socket, hello, descriptor)
    }

    fn waits_until(progress: Progress) -> Timestamp {
        let Progress::Wait { until } = progress else { panic!("{progress:?}") };
        until
    }

    #[test]
    fn a_server_that_answers_gives_a_link() {
        let bed = Bed::new();
        let listener = bed.listen();
        let mut connecting = bed.connecting();
        assert_eq!(waits_until(connecting.advance(START)), DEADLINE);
        assert!(connecting.socket().is_some());
        let (socket, hello, descriptor) = accept(&listener);
        assert_eq!((&*hello.name, &*hello.user_agent), ("x", "test/1"));
        answer(socket, hello, descriptor, Config::default()).unwrap();
        assert!(matches!(connecting.advance(START), Progress::Done(Ok(_))));
    }

    #[test]
    fn a_name_that_nobody_serves_is_told_at_once() {
        let progress = Bed::new().connecting().advance(START);
        assert!(matches!(progress, Progress::Done(Err(ConnectError::Rendezvous(_)))), "{progress:?}");
    }

    #[test]
    fn a_server_that_ends_is_dialled_again_a_few_times() {
        let bed = Bed::new();
        let listener = bed.listen();
        let mut connecting = bed.connecting();
        let mut now = START;
        for pause in ENDING {
            assert_eq!(waits_until(connecting.advance(now)), DEADLINE);
            let (socket, ..) = accept(&listener);
            refuse(&socket, Refusal::ShuttingDown, "");
            let until = waits_until(connecting.advance(now));
            assert_eq!(until, now + pause);
            assert_eq!(
                waits_until(connecting.advance(Timestamp::from_nanos(until.as_nanos() - 1))),
                until,
                "not before its time"
            );
            now = until;
        }
        waits_until(connecting.advance(now));
        refuse(&accept(&listener).0, Refusal::ShuttingDown, "");
        let progress = connecting.advance(now);
        assert!(matches!(progress, Progress::Done(Err(ConnectError::Link(_)))), "{progress:?}");
    }

    #[test]
    fn one_that_is_not_expected_is_sent_nothing_and_another_replica_is_found() {
        let bed = Bed::new();
        let listener = bed.listen();
        let nobody = ExpectedServer::by(|_| false);
        let mut connecting = bed.connecting().expect(nobody);
        let progress = connecting.advance(START);
        assert!(matches!(progress, Progress::Done(Err(ConnectError::Unexpected(_)))), "{progress:?}");
        while let Ok(Some(socket)) = listener.accept() {
            assert!(matches!(Socket::from(socket).receive(), Ok(Incoming::Closed)), "nothing came");
        }
        drop(listener);
        // Of two replicas the first that is looked at is not expected.
        let _both = [0, 1].map(|_| bed.directory.listen_as_replica(&name()).unwrap());
        let looks = AtomicUsize::new(0);
        let second = ExpectedServer::by(move |_| looks.fetch_add(1, Ordering::Relaxed) == 1);
        let mut connecting = bed.connecting().expect(second);
        assert_eq!(waits_until(connecting.advance(START)), DEADLINE);
        assert!(connecting.socket().is_some(), "it is greeted");
    }

    #[test]
    fn one_that_refuses_is_not() {
        let bed = Bed::new();
        let listener = bed.listen();
        let mut connecting = bed.connecting();
        waits_until(connecting.advance(START));
        refuse(&accept(&listener).0, Refusal::Identity, "");
        let progress = connecting.advance(START);
        assert!(matches!(progress, Progress::Done(Err(ConnectError::Link(_)))), "{progress:?}");
    }

    #[test]
    fn an_answer_that_is_looked_for_too_late_still_counts() {
        let bed = Bed::new();
        let listener = bed.listen();
        let mut connecting = bed.connecting();
        waits_until(connecting.advance(START));
        let (socket, hello, descriptor) = accept(&listener);
        answer(socket, hello, descriptor, Config::default()).unwrap();
        assert!(matches!(connecting.advance(DEADLINE), Progress::Done(Ok(_))));
    }

    #[test]
    fn a_server_that_does_not_answer_is_given_up_at_the_deadline() {
        let bed = Bed::new();
        let _listener = bed.listen();
        let mut connecting = bed.connecting();
        waits_until(connecting.advance(START));
        waits_until(connecting.advance(Timestamp::from_nanos(DEADLINE.as_nanos() - 1)));
        assert!(matches!(connecting.advance(DEADLINE), Progress::Done(Err(ConnectError::TimedOut))));
    }
}
