//! iceoryx2's request-response, as a baseline: messages of bytes in shared memory, without any of what makes
//! them calls of gRPC's (methods, metadata, deadlines, cancellation, statuses, flow control).
//!
//! Each process has one thread. A request is written into a loan and sent, and read where it lies, and so is
//! its reply. With [`Transport::Iceoryx2`] both sides poll, as long as there is something to do now and then.
//! With [`Transport::Iceoryx2Event`] they sleep until an event of iceoryx2's; whatever is there is taken in
//! one go, and the other side notified once for it.

use std::collections::VecDeque;
use std::hint::spin_loop;
use std::path::Path;
use std::time::{Duration, Instant};

use iceoryx2::node::Node;
use iceoryx2::pending_response::PendingResponse;
use iceoryx2::port::client::Client;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::prelude::{
    AllocationStrategy, Config, FileName, LogLevel, NodeBuilder, Path as RootPath, SemanticString,
    SignalHandlingMode, ipc, set_log_level,
};
use iceoryx2::service::port_factory::request_response::PortFactory;

use super::case::{Transport, Work};
use super::control::{Answer, Ask, Connect, Load, Serve, Setup, listen};
use super::load::unary::FILLER;
use super::raw::{Requests, wanted, write};
use super::recorder::{Recorder, Sample};
use crate::Result;
use crate::orders::answer;
use crate::usage;

/// Whether it can be measured.
pub const BUILT: bool = true;
/// The most calls that a client may have open. Each process takes memory for all that there may be.
pub const MAX_OPEN: u32 = 64;
/// The most client processes.
pub const MAX_CLIENTS: u32 = 2;

/// The length that a message may have before more memory is taken for all of them.
const FIRST_LENGTH: usize = 64;
/// Looks for nothing after which a side that polls believes that no case of its is measured, some tens of
/// milliseconds: others are not to be measured beside a process that spins.
const MAX_IDLE: u32 = 1_000_000;
/// How often it looks then.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Where Linux keeps what `shm_open` makes.
const SHARED_MEMORY: &str = "/dev/shm";

type Service = PortFactory<ipc::Service, [u8], (), [u8], ()>;
type Pending = PendingResponse<ipc::Service, [u8], (), [u8], ()>;

/// Answers requests on this thread, forever.
pub fn serve(order: &Serve) -> Result {
    let node = node(&order.setup)?;
    let service = service(&node, &order.name)?;
    let server = service
        .server_builder()
        .initial_max_slice_len(FIRST_LENGTH)
        .allocation_strategy(AllocationStrategy::PowerOfTwo)
        .create()?;
    let mut waiting = Waiting::new(&node, &order.setup, &order.name, ["requests", "replies"])?;
    answer(&Answer::Ready(order.name.clone()));
    let mut served = 0u64;
    loop {
        let mut any = false;
        while let Some(request) = server.receive()? {
            let (bytes, first) = match order.work {
                Work::Ask => wanted(&request).ok_or("a request without a marker")?,
                _ => (request.len(), [FILLER; 4]),
            };
            let reply = request.loan_slice_uninit(bytes)?;
            let mut reply = match order.work {
                Work::Ask => reply.write_from_fn(|_| FILLER),
                _ => reply.write_from_slice(&request),
            };
            if order.work == Work::Ask {
                write(reply.payload_mut(), &first);
            }
            served += 1;
            if order.spoil && served.is_multiple_of(10) {
                reply.payload_mut().iter_mut().take(1).for_each(|byte| *byte = !*byte);
            }
            reply.send()?;
            any = true;
        }
        waiting.wait(any)?;
    }
}

/// Makes calls as ordered, until its input ends.
pub fn call(order: &Connect) -> Result {
    let mut orders = listen(order.setup.directory.clone());
    let node = node(&order.setup)?;
    let service = service(&node, &order.address)?;
    let client = service
        .client_builder()
        .initial_max_slice_len(FIRST_LENGTH)
        .allocation_strategy(AllocationStrategy::PowerOfTwo)
        .create()?;
    let mut waiting = Waiting::new(&node, &order.setup, &order.address, ["replies", "requests"])?;
    answer(&Answer::Ready(String::new()));
    while let Some(ask) = orders.blocking_recv() {
        let Ask::Load(load) = ask else { return Err(format!("iceoryx2 can't {ask:?}").into()) };
        answer(&match make_calls(&client, &mut waiting, &load) {
            Ok(sample) => Answer::Loaded(sample),
            Err(error) => Answer::Failed(error.to_string()),
        });
    }
    Ok(())
}

/// A call of one of the callers.
struct Call {
    requests: Requests,
    pending: Option<Pending>,
    began: Instant,
}

impl Call {
    fn begin(&mut self, client: &Client<ipc::Service, [u8], (), [u8], ()>) -> Result {
        let message = self.requests.next();
        // What a call may have open includes what is not dropped yet.
        self.pending = None;
        self.pending = Some(client.loan_slice_uninit(message.len())?.write_from_slice(message).send()?);
        Ok(())
    }
}

fn make_calls(
    client: &Client<ipc::Service, [u8], (), [u8], ()>,
    waiting: &mut Waiting,
    load: &Load,
) -> Result<Sample> {
    let recorder = Recorder::new(1);
    let caller = |nth| Call { requests: Requests::new(load, nth), pending: None, began: Instant::now() };
    let mut calls: VecDeque<Call> = (0..load.outstanding).map(caller).collect();
    std::thread::sleep(Duration::from_nanos(load.start.saturating_sub(usage::now())));
    let cpu = usage::cpu_time();
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(load.seconds);
    for call in &mut calls {
        call.began = start;
        call.begin(client)?;
    }
    let mut made = 0;
    let mut any = true;
    while !calls.is_empty() {
        waiting.wait(any)?;
        any = false;
        // The server answers in order.
        while let Some(oldest) = calls.front()
            && let Some(pending) = &oldest.pending
            && let Some(reply) = pending.receive()?
        {
            oldest.requests.check(&reply)?;
            drop(reply);
            let now = Instant::now();
            recorder.record(0, (now - oldest.began).as_nanos() as u64);
            made += 1;
            let Some(mut call) = calls.pop_front() else { break };
            if now < end {
                call.began = now;
                call.begin(client)?;
                calls.push_back(call);
                any = true;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = usage::cpu_time() - cpu;
    Ok(Sample { calls: made, seconds, cpu, latencies: recorder.latencies() })
}

/// How a side waits for messages, and how it tells the other of its own.
enum Waiting {
    /// With the number of looks since something was there.
    Polling {
        idle: u32,
    },
    Event {
        listener: Box<Listener<ipc::Service>>,
        notifier: Box<Notifier<ipc::Service>>,
    },
}

impl Waiting {
    /// By the events that it is told of, and tells the other of.
    fn new(node: &Node<ipc::Service>, setup: &Setup, name: &str, events: [&str; 2]) -> Result<Self> {
        if setup.transport != Transport::Iceoryx2Event {
            return Ok(Self::Polling { idle: 0 });
        }
        let event = |event: &str| -> Result<_> {
            let name = format!("{name}-{event}");
            Ok(node.service_builder(&name.as_str().try_into()?).event().open_or_create()?)
        };
        let [told, tells] = events;
        let listener = Box::new(event(told)?.listener_builder().create()?);
        let notifier = Box::new(event(tells)?.notifier_builder().create()?);
        Ok(Self::Event { listener, notifier })
    }

    /// Returns when it is worth looking for messages again. `sent`: there are some for the other side.
    fn wait(&mut self, sent: bool) -> Result {
        match self {
            Self::Polling { idle } if sent => *idle = 0,
            Self::Polling { idle } if *idle < MAX_IDLE => {
                *idle += 1;
                spin_loop();
            }
            Self::Polling { .. } => std::thread::sleep(LOOK_AGAIN),
            Self::Event { listener, notifier } => {
                if sent {
                    notifier.notify()?;
                }
                listener.blocking_wait(|_| {})?;
            }
        }
        Ok(())
    }
}

fn node(setup: &Setup) -> Result<Node<ipc::Service>> {
    set_log_level(LogLevel::Error);
    let mut config = Config::default();
    let directory = setup.directory.to_str().ok_or("the temporary directory is not UTF-8")?;
    config.global.set_root_path(&RootPath::new(directory.as_bytes())?);
    config.global.prefix = FileName::new(prefix(&setup.directory).as_bytes())?;
    let node = NodeBuilder::new().config(&config).signal_handling_mode(SignalHandlingMode::Disabled);
    Ok(node.create()?)
}

fn service(node: &Node<ipc::Service>, name: &str) -> Result<Service> {
    let service = node.service_builder(&name.try_into()?).request_response::<[u8], [u8]>();
    Ok(service
        .max_servers(1)
        .max_clients(MAX_CLIENTS as usize)
        .max_nodes(MAX_CLIENTS as usize + 1)
        .max_active_requests_per_client(MAX_OPEN as usize)
        .max_response_buffer_size(1)
        .max_borrowed_responses_per_pending_response(1)
        .open_or_create()?)
}

/// The beginning of the names of all that a case has in shared memory.
fn prefix(directory: &Path) -> String {
    format!("{}-", directory.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes what the processes of a case have in shared memory: they end without dropping it.
pub fn remove_remains(directory: &Path) {
    let prefix = prefix(directory);
    for entry in std::fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            // Another of them may have been faster.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
