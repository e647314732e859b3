//! An application on one side of a link, that does what it may in an order that the input decides.

use notnets_core::call::{Event, OpenOutcome, Received, Role, Sent, StreamId};
use notnets_core::clock::Timestamp;
use notnets_core::code::Code;
use notnets_core::pair::{HeapConnection, frozen_clock};

use super::input::Input;

/// Calls that the application has open at once, and keeps open after their end until it closes them.
pub const CALLS: usize = 12;

const METHODS: [&str; 3] = ["/a.B/C", "/a.B/D", "/a.much.Longer/MethodThatDoesNotFitInADescriptor"];
const VALUE: [u8; 300] = [b'v'; 300];

/// One side, and the streams that its application knows.
pub struct Side {
    pub connection: HeapConnection,
    role: Role,
    streams: Vec<Known>,
    now: Timestamp,
}

#[derive(Clone, Copy)]
struct Known {
    id: StreamId,
    /// A server has sent the response's head.
    responded: bool,
}

impl Side {
    pub fn new(role: Role, connection: HeapConnection) -> Self {
        Self { connection, role, streams: Vec::new(), now: Timestamp::from_nanos(1) }
    }

    /// Does one thing.
    pub fn act(&mut self, input: &mut Input<'_>) {
        match self.role {
            Role::Client => self.act_as_client(input),
            Role::Server => self.act_as_server(input),
        }
        self.hear();
    }

    /// Takes what the peer has pushed.
    pub fn receive(&mut self, max: usize) -> usize {
        let taken = self.connection.receive(max, frozen_clock);
        self.hear();
        taken
    }

    /// Gives all calls up.
    pub fn close_all(&mut self) {
        for stream in std::mem::take(&mut self.streams) {
            match self.role {
                Role::Client => self.connection.close(stream.id),
                Role::Server => self.connection.reset(stream.id, Code::CANCELLED, "no"),
            }
        }
        while self.connection.accept().is_some() {}
        self.hear();
    }

    /// Listens to all events, as every adapter does after every step. A server accepts at once or later.
    fn hear(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            if let (Event::Cancelled(stream, _), Role::Server) = (event, self.role) {
                self.streams.retain(|known| known.id != stream);
            }
        }
    }

    fn act_as_client(&mut self, input: &mut Input<'_>) {
        let choice = input.byte() % 8;
        if choice == 0 && self.streams.len() < CALLS {
            return self.open(input);
        }
        if choice == 1 {
            self.now = self.now.add_nanos(input.byte().into());
            return self.connection.expire(self.now);
        }
        if choice == 2 {
            return self.connection.ping(input.word());
        }
        let Some(index) = self.pick(input) else { return };
        let stream = self.streams[index].id;
        match choice {
            3 => {
                self.streams.remove(index);
                self.connection.close(stream);
            }
            4 => drop(self.connection.response(stream)),
            5 => self.send(stream, input),
            6 => self.connection.fail_locally(stream, Code::INTERNAL, "no"),
            _ => drop(self.connection.take(stream)),
        }
    }

    fn act_as_server(&mut self, input: &mut Input<'_>) {
        let choice = input.byte() % 16;
        match choice {
            0..=3 => return self.accept(),
            4 => {
                self.now = self.now.add_nanos(input.byte().into());
                return self.connection.expire(self.now);
            }
            5 => return self.connection.ping(input.word()),
            // Rarely, for not much happens afterwards.
            6 if input.byte() == 7 => return self.connection.go_away(),
            _ => {}
        }
        let Some(index) = self.pick(input) else { return };
        let Known { id, responded } = self.streams[index];
        let value = &VALUE[..input.below(120)];
        let metadata = [("key", value), ("another-key", value)];
        let metadata = metadata.iter().copied().take(input.below(3));
        let status = Code(input.byte().into());
        let over = match (choice, responded) {
            (7, _) => {
                self.connection.reset(id, status, "no");
                true
            }
            (8, _) => {
                self.connection.shorten(id, self.now.add_nanos(input.byte().into()));
                false
            }
            (9 | 10, false) => {
                let mut data = &VALUE[..input.below(VALUE.len())];
                let status = input.flag().then_some(status);
                let sent = self.connection.respond(id, metadata, &mut data, status);
                self.streams[index].responded = matches!(sent, Ok(Sent::All | Sent::Part));
                status.is_some() && sent == Ok(Sent::All)
            }
            (11, false) => self.connection.respond_trailers_only(id, metadata, status) == Ok(Sent::All),
            (12, true) => {
                self.send(id, input);
                false
            }
            (13, true) => self.connection.finish(id, metadata, status) == Ok(Sent::All),
            _ => {
                self.connection.take(id);
                false
            }
        };
        if over {
            self.streams.remove(index);
            assert!(!matches!(self.connection.take(id), Received::Data(_)), "it was discarded");
        }
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let method = METHODS[input.below(METHODS.len())];
        let value = &VALUE[..input.below(VALUE.len())];
        let metadata = [("key", value), ("key", b"again"), ("key-bin", &[0, 255])];
        let metadata = metadata.iter().copied().take(input.below(4));
        let deadline = input.flag().then(|| self.now.add_nanos(input.byte().into()));
        let deadline = deadline.map(|at| self.connection.deadline(at, frozen_clock));
        let mut data = &VALUE[..input.below(VALUE.len())];
        let end = input.flag();
        let opened = self.connection.open(method, metadata, deadline, &mut data, end, &mut Some(()));
        if let Ok(OpenOutcome::Opened(stream, _)) = opened {
            self.streams.push(Known { id: stream, responded: false });
        }
    }

    fn accept(&mut self) {
        if let Some(request) = self.connection.accept()
            && self.connection.set_user(request.stream, ())
        {
            self.streams.push(Known { id: request.stream, responded: false });
        }
    }

    fn send(&mut self, stream: StreamId, input: &mut Input<'_>) {
        let mut data = &VALUE[..input.below(VALUE.len())];
        let end = self.role == Role::Client && input.flag();
        self.connection.send(stream, &mut data, end);
    }

    fn pick(&self, input: &mut Input<'_>) -> Option<usize> {
        let index = input.below(self.streams.len());
        (index < self.streams.len()).then_some(index)
    }
}
