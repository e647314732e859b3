//! A client, a server, and the order in which things happen.

use std::collections::HashMap;

use notnets_core::call::{Event, Request, StreamId};
use notnets_core::clock::Timestamp;
use notnets_core::code::Code;
use notnets_core::limits::{Limits, MIN_WINDOW};
use notnets_core::link::packet::Packet;
use notnets_core::pair::{frozen_clock, sessions};
use notnets_memory::lane::{Blocks, Geometry};

use super::call::{Call, Phase, Script};
use super::flow::{Flow, random_entries, random_total};
use super::handler::{Handler, Plan};
use super::random::Random;
use super::side::Side;

const CLIENT: usize = 0;
const SERVER: usize = 1;
/// No world needs so many steps: it goes round in circles.
const MAX_STEPS: usize = 300_000;

/// What goes wrong in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    None,
    /// Calls are dropped, reset, or out of time.
    Cuts,
    /// The server goes away: calls that it has not refused end well.
    GoAway,
    /// Both.
    All,
}

impl Mischief {
    fn cuts(self) -> bool {
        matches!(self, Self::Cuts | Self::All)
    }

    fn goes_away(self) -> bool {
        matches!(self, Self::GoAway | Self::All)
    }
}

pub struct World {
    random: Random,
    mischief: Mischief,
    now: Timestamp,
    limits: [Limits; 2],
    sides: [Side; 2],
    scripts: Vec<Script>,
    calls: Vec<Call>,
    handlers: HashMap<StreamId, Handler>,
    pings: u64,
    pongs: u64,
    gone: bool,
}

enum Step {
    Start,
    FinishTurn(usize),
    Drive(usize),
    Expire(usize),
    SendPacket(usize),
    Call(usize),
    Handler(StreamId),
}

impl World {
    pub fn new(seed: u64, mischief: Mischief) -> Self {
        let mut random = Random::new(seed);
        let geometry = random_geometry(&mut random);
        let limits = [random_limits(&mut random), random_limits(&mut random)];
        let sides = sessions(geometry, limits[CLIENT], limits[SERVER]).map(Side::new);
        let largest = geometry.small.bytes.max(geometry.large.bytes) as usize;
        let head_limit = |limits: Limits| largest.min(limits.metadata_bytes as usize);
        let scripts = (0..1 + random.below(14))
            .map(|key| {
                let key = key as u64;
                let cuts = mischief.cuts();
                Script {
                    plan: Plan::new(key, &mut random, head_limit(limits[CLIENT]), cuts),
                    request: Flow::new(key, random_total(&mut random)),
                    entries: random_entries(&mut random, head_limit(limits[SERVER])),
                    deadline: (cuts && random.once_in(4))
                        .then(|| Timestamp::from_nanos(1 + random.below(30) as u64)),
                    cut: false,
                    too_late: false,
                }
            })
            .collect();
        Self {
            random,
            mischief,
            now: Timestamp::ZERO,
            limits,
            sides,
            scripts,
            calls: Vec::new(),
            handlers: HashMap::new(),
            pings: 0,
            pongs: 0,
            gone: false,
        }
    }

    /// Runs until nobody has anything to do, and sees that nothing is left then.
    pub fn run(mut self) {
        for _ in 0..MAX_STEPS {
            let steps = self.steps();
            if steps.is_empty() {
                return self.assert_over();
            }
            let step = self.random.below(steps.len());
            self.step(&steps[step]);
            if self.mischief != Mischief::None && self.random.once_in(25) {
                self.disturb();
            }
        }
        panic!("it never ends");
    }

    /// All that can happen next.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.calls.len() < self.scripts.len() {
            steps.push(Step::Start);
        }
        for (id, side) in self.sides.iter().enumerate() {
            if side.in_turn {
                steps.push(Step::FinishTurn(id));
                continue;
            }
            if !side.socket.is_empty() || side.awake {
                steps.push(Step::Drive(id));
            }
            if side.session.next_deadline().is_some_and(|deadline| deadline <= self.now) {
                steps.push(Step::Expire(id));
            }
            if side.session.wants_to_offer() || side.session.poll_packet().is_some() {
                steps.push(Step::SendPacket(id));
            }
        }
        if !self.sides[CLIENT].in_turn {
            let calls = self.calls.iter().enumerate();
            steps.extend(calls.filter(|(_, call)| call.is_runnable()).map(|(key, _)| Step::Call(key)));
        }
        if !self.sides[SERVER].in_turn {
            let handlers = self.handlers.values().filter(|handler| handler.is_runnable(&self.scripts));
            let mut streams: Vec<StreamId> = handlers.map(|handler| handler.stream).collect();
            streams.sort_unstable();
            steps.extend(streams.into_iter().map(Step::Handler));
        }
        steps
    }

    fn step(&mut self, step: &Step) {
        let Self { random, sides, scripts, .. } = self;
        match *step {
            Step::Start => self.calls.push(Call::new(self.calls.len(), &scripts[self.calls.len()])),
            Step::FinishTurn(id) => self.finish_turn(id),
            Step::Drive(id) => {
                sides[id].drive(random);
                while let Some(request) = self.sides[id].session.calls().accept() {
                    self.accept(&request);
                }
            }
            Step::Expire(id) => {
                sides[id].session.handle_timeout(self.now);
                sides[id].in_turn = true;
            }
            Step::SendPacket(id) => {
                let packet = sides[id].send_packet();
                sides[1 - id].socket.extend(packet);
            }
            Step::Call(key) => self.calls[key].run(&mut sides[CLIENT], &mut scripts[key], random),
            Step::Handler(stream) => {
                let handler = self.handlers.get_mut(&stream).expect("it was runnable");
                handler.run(&mut sides[SERVER], scripts, random);
                if handler.over {
                    self.handlers.remove(&stream);
                }
            }
        }
    }

    fn accept(&mut self, request: &Request) {
        let handler = Handler::new(request, &self.scripts);
        assert!(self.sides[SERVER].session.calls().set_user(request.stream, ()));
        assert!(self.handlers.insert(request.stream, handler).is_none(), "a stream is accepted twice");
        assert!(self.handlers.len() <= self.limits[SERVER].streams as usize);
    }

    fn finish_turn(&mut self, id: usize) {
        if self.sides[id].finish_turn() {
            self.sides[1 - id].socket.push_back(Packet::Doorbell);
        }
        for event in std::mem::take(&mut self.sides[id].events) {
            self.on_event(event);
        }
        for side in &self.sides {
            assert!(side.session.ended().is_none(), "{:?}", side.session.ended());
        }
    }

    fn on_event(&mut self, event: Event<()>) {
        let Self { calls, handlers, .. } = self;
        let of = match event {
            Event::Readable(stream) | Event::Writable(stream) => Some(Phase::Open(stream)),
            _ => None,
        };
        let call = calls.iter_mut().find(|call| Some(call.phase) == of);
        match event {
            Event::Readable(stream) => {
                call.into_iter().for_each(|call| call.must_wait_to_read = false);
                handlers.entry(stream).and_modify(|handler| handler.must_wait_to_read = false);
            }
            Event::Writable(stream) => {
                call.into_iter().for_each(|call| call.must_wait_to_send = false);
                handlers.entry(stream).and_modify(|handler| handler.must_wait_to_send = false);
            }
            Event::Over(_) => {}
            Event::Cancelled(stream, _) => {
                if let Some(handler) = handlers.remove(&stream) {
                    assert!(self.scripts[handler.key].cut, "a call was cancelled that nobody cut short");
                }
            }
            Event::CanOpen => self.calls.iter_mut().for_each(|call| call.must_wait_to_open = false),
            Event::Pong(echo) => self.pongs = echo,
            Event::GoAway => {}
        }
    }

    /// Something that nobody waits for.
    fn disturb(&mut self) {
        let Self { random, sides, .. } = self;
        let cuts = self.mischief.cuts();
        match random.below(7) {
            0 if cuts && !self.calls.is_empty() && !sides[CLIENT].in_turn => {
                let key = random.below(self.calls.len());
                self.calls[key].cut(&mut sides[CLIENT], &mut self.scripts[key], random);
            }
            1 if cuts && !sides[SERVER].in_turn => {
                let Some(stream) = self.handlers.keys().copied().min() else { return };
                self.scripts[self.handlers.remove(&stream).expect("is there").key].cut = true;
                sides[SERVER].session.calls().reset(stream, Code::INTERNAL, "the handler was dropped");
                sides[SERVER].in_turn = true;
            }
            2 if cuts => {
                self.now = self.now.add_nanos(random.below(4) as u64);
                let late = self.scripts.iter_mut().filter(|script| script.deadline <= Some(self.now));
                late.filter(|script| script.deadline.is_some()).for_each(|script| script.cut = true);
            }
            3 if !sides[CLIENT].in_turn && self.pings == self.pongs => {
                self.pings += 1;
                sides[CLIENT].session.calls().ping(self.pings);
                sides[CLIENT].in_turn = true;
            }
            // As if so much time had passed that what was not used since the last time is unused.
            5 => {
                let side = &mut sides[random.below(2)];
                if !side.in_turn {
                    side.session.retire_unused();
                    side.in_turn = true;
                }
            }
            4 if self.mischief.goes_away() && !sides[SERVER].in_turn && random.once_in(4) => {
                self.gone = true;
                self.scripts.iter_mut().for_each(|script| script.too_late = true);
                sides[SERVER].session.go_away(self.now);
                sides[SERVER].in_turn = true;
            }
            _ => {}
        }
    }

    fn assert_over(mut self) {
        for (key, call) in self.calls.iter().enumerate() {
            assert_eq!(call.phase, Phase::Over, "call {key} waits for ever");
        }
        let left: Vec<StreamId> = self.handlers.keys().copied().collect();
        assert!(left.is_empty(), "handlers wait for ever on the streams {left:?}");
        assert_eq!(self.pings, self.pongs);
        self.sides.iter_mut().for_each(Side::assert_idle);
        for (id, limits) in self.limits.iter().enumerate() {
            let to_send = self.sides[1 - id].session.calls().link_credit().to_send;
            let credit = to_send + self.sides[id].session.calls().link_credit().to_give;
            assert_eq!(credit, u64::from(limits.link_window), "link credit towards side {id}");
        }
        if self.gone {
            assert!(
                self.sides.iter_mut().all(|side| side.session.calls().is_draining()),
                "it never went away"
            );
        } else {
            self.assert_streams_are_free();
        }
    }

    /// The client can open as many streams as the server allows, and no more.
    fn assert_streams_are_free(&mut self) {
        let [client, server] = &mut self.sides;
        let mut open = || {
            let none = std::iter::empty::<(&str, &[u8])>();
            client.session.calls().open("/a.B/C", none, None, &mut &b""[..], true, &mut Some(())).unwrap()
        };
        for _ in 0..self.limits[SERVER].streams {
            assert!(
                matches!(open(), notnets_core::call::OpenOutcome::Opened(..)),
                "a stream's place was lost"
            );
            server.session.calls().receive(usize::MAX, frozen_clock);
        }
        assert_eq!(open(), notnets_core::call::OpenOutcome::Blocked);
        assert_eq!(server.session.calls().violation(), None);
    }
}

fn random_geometry(random: &mut Random) -> Geometry {
    let small = Blocks { bytes: 64, count: 1 + random.below(2) as u32 };
    let large = Blocks { bytes: random.pick(&[128, 256, 1024, 4096]), count: 1 };
    Geometry { slots: random.pick(&[1, 2, 2, 4, 16]), small, large }
}

fn random_limits(random: &mut Random) -> Limits {
    Limits::default()
        .with_metadata_bytes(random.pick(&[128, 300, 16 * 1024]))
        .with_streams(random.pick(&[1, 2, 3, 8]))
        .with_stream_window(random.pick(&[MIN_WINDOW, MIN_WINDOW + 700, 4096]))
        .with_link_window(random.pick(&[MIN_WINDOW, 2 * MIN_WINDOW, 8 * MIN_WINDOW]))
        .with_segment_bytes(1 << 20)
}
