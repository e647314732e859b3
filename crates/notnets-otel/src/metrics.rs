//! The instruments, and those that are bound to the attributes of one method.

use std::borrow::Cow;
use std::time::Duration;

use notnets::rpc::Code;
use once_cell::race::OnceBox;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter};

use crate::conventions::{Conventions, Side, grpc, rpc, status_name};

/// The upper ends of the buckets of durations, in seconds: the conventions', and finer ones below.
const SECONDS: [f64; 27] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 3e-3, 0.004, 0.005, 0.01, 0.025, 0.05,
    0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// gRPC's own, and finer ones below.
const GRPC_SECONDS: [f64; 46] = [
    0.0, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 3e-4, 6e-4, 8e-4, 0.001, 0.002, 0.003, 0.004, 0.005,
    0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25,
    0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0,
];
/// gRPC's own.
const GRPC_BYTES: [f64; 14] = [
    0.0,
    1024.0,
    2048.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
    16777216.0,
    67108864.0,
    268435456.0,
    1073741824.0,
    4294967296.0,
];

/// Statuses that a call can end with: gRPC's, any other, and none.
const STATUSES: usize = 19;

/// The instruments of one side.
pub(crate) struct Instruments {
    side: Side,
    duration: Option<Histogram<f64>>,
    grpc: Option<Grpc>,
}

/// Those with gRPC's names.
struct Grpc {
    /// Calls on a server, attempts on a client.
    started: Counter<u64>,
    duration: Histogram<f64>,
    sent: Histogram<u64>,
    received: Histogram<u64>,
    /// Of a client.
    calls: Option<GrpcCalls>,
}

/// What a client's calls have beyond those of their attempts.
struct GrpcCalls {
    duration: Histogram<f64>,
    retries: Histogram<u64>,
    transparent_retries: Histogram<u64>,
    hedges: Histogram<u64>,
    retry_delay: Histogram<f64>,
}

/// Further attempts of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempts {
    pub(crate) retries: u64,
    pub(crate) transparent_retries: u64,
    pub(crate) hedges: u64,
    pub(crate) delay: Duration,
}

/// What one attempt of a call has come to, or a call on a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Code,
    pub(crate) duration: Duration,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter, side: Side, conventions: Conventions) -> Self {
        let (name, help) = match side {
            Side::Client => ("rpc.client.call.duration", "How long outgoing calls took."),
            Side::Server => ("rpc.server.call.duration", "How long incoming calls took."),
        };
        let duration = conventions.has_opentelemetry().then(|| {
            let builder = meter.f64_histogram(name).with_unit("s").with_description(help);
            builder.with_boundaries(SECONDS.to_vec()).build()
        });
        Self { side, duration, grpc: conventions.has_grpc().then(|| Grpc::new(meter, side)) }
    }
}

impl Grpc {
    fn new(meter: &Meter, side: Side) -> Self {
        let prefix = match side {
            Side::Client => "grpc.client.attempt",
            Side::Server => "grpc.server.call",
        };
        let name = |name: &str| format!("{prefix}.{name}");
        let bytes = |what: &str| {
            let builder = meter.u64_histogram(name(&format!("{what}_total_compressed_message_size")));
            builder.with_unit("By").with_boundaries(GRPC_BYTES.to_vec()).build()
        };
        let unit = if side == Side::Client { "{attempt}" } else { "{call}" };
        Self {
            started: meter.u64_counter(name("started")).with_unit(unit).build(),
            duration: seconds(meter, name("duration")),
            sent: bytes("sent"),
            received: bytes("rcvd"),
            calls: (side == Side::Client).then(|| GrpcCalls::new(meter)),
        }
    }
}

impl GrpcCalls {
    fn new(meter: &Meter) -> Self {
        let attempts = |name: &'static str, unit: &'static str, boundaries: &[f64]| {
            meter.u64_histogram(name).with_unit(unit).with_boundaries(boundaries.to_vec()).build()
        };
        let (few, more) = ([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0, 10.0]);
        Self {
            duration: seconds(meter, "grpc.client.call.duration"),
            retries: attempts("grpc.client.call.retries", "{retry}", &few),
            transparent_retries: attempts(
                "grpc.client.call.transparent_retries",
                "{transparent_retry}",
                &more,
            ),
            hedges: attempts("grpc.client.call.hedges", "{hedge}", &few),
            retry_delay: seconds(meter, "grpc.client.call.retry_delay"),
        }
    }
}

fn seconds(meter: &Meter, name: impl Into<Cow<'static, str>>) -> Histogram<f64> {
    meter.f64_histogram(name).with_unit("s").with_boundaries(GRPC_SECONDS.to_vec()).build()
}

/// What is recorded of one method: all of it is bound to its attributes where it is first needed.
pub(crate) struct MethodMetrics {
    started: OnceBox<Option<BoundCounter<u64>>>,
    by_status: [OnceBox<ByStatus>; STATUSES],
    calls: OnceBox<Option<Calls>>,
}

/// What is recorded of calls that end with one status.
struct ByStatus {
    duration: Option<BoundHistogram<f64>>,
    grpc: Option<GrpcByStatus>,
}

struct GrpcByStatus {
    duration: BoundHistogram<f64>,
    sent: BoundHistogram<u64>,
    received: BoundHistogram<u64>,
    /// Of all attempts of a client's call.
    call: Option<BoundHistogram<f64>>,
}

/// What is recorded of calls of a client that took several attempts.
struct Calls {
    retries: BoundHistogram<u64>,
    transparent_retries: BoundHistogram<u64>,
    hedges: BoundHistogram<u64>,
    retry_delay: BoundHistogram<f64>,
}

/// What attributes are made of.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) instruments: &'a Instruments,
    /// Without the slash in front. `None` for a method that is not recognised.
    pub(crate) method: Option<&'a str>,
    /// A channel's.
    pub(crate) target: Option<&'a str>,
}

impl MethodMetrics {
    pub(crate) fn new() -> Self {
        let by_status = [const { OnceBox::new() }; STATUSES];
        Self { started: OnceBox::new(), by_status, calls: OnceBox::new() }
    }

    /// A call has begun on a server, or an attempt of one on a client.
    pub(crate) fn started(&self, about: About<'_>) {
        let bind = || Some(about.instruments.grpc.as_ref()?.started.bind(&about.grpc(None)));
        if let Some(started) = self.started.get_or_init(|| bind().into()) {
            started.add(1);
        }
    }

    /// An attempt of a client's call has ended, and the call goes on.
    pub(crate) fn attempt_ended(&self, about: About<'_>, outcome: &Outcome) {
        self.by_status(about, outcome.status).record_attempt(outcome);
    }

    /// A call has ended, which took so long in all, with this last attempt.
    pub(crate) fn ended(&self, about: About<'_>, last: &Outcome, in_all: Duration) {
        let by_status = self.by_status(about, last.status);
        by_status.record_attempt(last);
        if let Some(duration) = &by_status.duration {
            duration.record(in_all.as_secs_f64());
        }
        if let Some(call) = by_status.grpc.as_ref().and_then(|grpc| grpc.call.as_ref()) {
            call.record(in_all.as_secs_f64());
        }
    }

    /// A client's call that has ended took several attempts.
    pub(crate) fn attempts(&self, about: About<'_>, attempts: &Attempts) {
        if let Some(calls) = self.calls.get_or_init(|| about.bind_calls().into()) {
            let counts = [
                (&calls.retries, attempts.retries),
                (&calls.transparent_retries, attempts.transparent_retries),
                (&calls.hedges, attempts.hedges),
            ];
            for (histogram, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                histogram.record(count);
            }
            if attempts.retries > 0 {
                calls.retry_delay.record(attempts.delay.as_secs_f64());
            }
        }
    }

    fn by_status(&self, about: About<'_>, status: Code) -> &ByStatus {
        let place = if status == Code::NONE { STATUSES - 1 } else { (status.0 as usize).min(STATUSES - 2) };
        self.by_status[place].get_or_init(|| about.bind(status).into())
    }
}

impl ByStatus {
    fn record_attempt(&self, outcome: &Outcome) {
        if let Some(grpc) = &self.grpc {
            grpc.duration.record(outcome.duration.as_secs_f64());
            grpc.sent.record(outcome.bytes_sent);
            grpc.received.record(outcome.bytes_received);
        }
    }
}

impl About<'_> {
    fn bind(self, status: Code) -> ByStatus {
        let grpc = |grpc: &Grpc| {
            let labels = self.grpc(status_name(status));
            GrpcByStatus {
                duration: grpc.duration.bind(&labels),
                sent: grpc.sent.bind(&labels),
                received: grpc.received.bind(&labels),
                call: grpc.calls.as_ref().map(|calls| calls.duration.bind(&labels)),
            }
        };
        let duration = self.instruments.duration.as_ref();
        ByStatus {
            duration: duration.map(|duration| duration.bind(&self.attributes(status))),
            grpc: self.instruments.grpc.as_ref().map(grpc),
        }
    }

    fn bind_calls(self) -> Option<Calls> {
        let calls = self.instruments.grpc.as_ref()?.calls.as_ref()?;
        let labels = self.grpc(None);
        Some(Calls {
            retries: calls.retries.bind(&labels),
            transparent_retries: calls.transparent_retries.bind(&labels),
            hedges: calls.hedges.bind(&labels),
            retry_delay: calls.retry_delay.bind(&labels),
        })
    }

    /// The attributes of OpenTelemetry's conventions.
    fn attributes(self, status: Code) -> Vec<KeyValue> {
        let method = self.method.unwrap_or(rpc::OTHER).to_owned();
        let mut attributes = vec![KeyValue::new(rpc::SYSTEM, "grpc"), KeyValue::new(rpc::METHOD, method)];
        if let Some(target) = self.target {
            attributes.push(KeyValue::new(rpc::ADDRESS, target.to_owned()));
        }
        if let Some(name) = status_name(status) {
            attributes.push(KeyValue::new(rpc::STATUS, name));
            if self.instruments.side.is_error(status) {
                attributes.push(KeyValue::new(rpc::ERROR, name));
            }
        }
        attributes
    }

    /// The labels of gRPC's conventions.
    fn grpc(self, status: Option<&'static str>) -> Vec<KeyValue> {
        let method = self.method.unwrap_or(grpc::OTHER).to_owned();
        let mut labels = vec![KeyValue::new(grpc::METHOD, method)];
        labels.extend(self.target.map(|target| KeyValue::new(grpc::TARGET, target.to_owned())));
        labels.extend(status.map(|status| KeyValue::new(grpc::STATUS, status)));
        labels
    }
}
