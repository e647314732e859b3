//! One call, from its beginning to its end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notnets::observe::{Again, AgainReason, CallEnd, CallToMake, CallToServe, Observed};
use notnets::rpc::Code;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};

use crate::conventions::{Side, rpc, status_name};
use crate::methods::{Found, Method};
use crate::metrics::{Attempts, Outcome};
use crate::propagation::{Incoming, Outgoing};
use crate::telemetry::End;

/// A call that a client makes.
pub(crate) struct ClientCall {
    end: Arc<End>,
    method: Arc<Method>,
    /// With the call's span, if there are spans.
    context: Option<Context>,
    begun: Instant,
    attempts: Mutex<Tries>,
}

/// The attempts of a call.
#[derive(Default)]
struct Tries {
    counts: Attempts,
    /// When the present one has begun, if it is not the first.
    begun: Option<Instant>,
}

impl ClientCall {
    pub(crate) fn begin(end: &Arc<End>, call: &mut CallToMake<'_>) -> Self {
        let method = match end.methods.find(call.method()) {
            Found::Method(method) => method,
            Found::Unknown(path) => end.methods.recognise(&path),
        };
        let context = end.shared.tracer.as_ref().map(|tracer| {
            let name = call.method().trim_start_matches('/').to_owned();
            let address = end.target.as_deref().unwrap_or_default().to_owned();
            let attributes = [
                KeyValue::new(rpc::SYSTEM, "grpc"),
                KeyValue::new(rpc::METHOD, name.clone()),
                KeyValue::new(rpc::ADDRESS, address),
            ];
            let builder = tracer.span_builder(name).with_kind(SpanKind::Client).with_attributes(attributes);
            let parent = Context::current();
            let context = parent.with_span(tracer.build_with_context(builder, &parent));
            end.shared.propagator.inject_context(&context, &mut Outgoing(call));
            context
        });
        if let Some(about) = end.about(method.name.as_deref()) {
            method.metrics.started(about);
        }
        Self { end: Arc::clone(end), method, context, begun: Instant::now(), attempts: Mutex::default() }
    }

    fn add_event(&self, again: &Again, number: u64) {
        let Some(context) = &self.context else { return };
        let reason = match again.reason {
            AgainReason::Retry => "retry",
            AgainReason::Hedge => "hedge",
            _ => "transparent",
        };
        let mut attributes = vec![
            KeyValue::new("rpc.attempt.number", number as i64),
            KeyValue::new("rpc.attempt.reason", reason),
        ];
        if again.reason != AgainReason::Hedge {
            attributes.push(KeyValue::new("rpc.attempt.delay", again.delay.as_secs_f64()));
            let status = status_name(again.status);
            attributes.extend(status.map(|status| KeyValue::new(rpc::STATUS, status)));
        }
        context.span().add_event("rpc.attempt", attributes);
    }
}

impl Observed for ClientCall {
    fn attempted_again(&self, again: &Again) {
        let now = Instant::now();
        let mut tries = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut tries.counts;
        match again.reason {
            AgainReason::Retry => {
                counts.retries += 1;
                counts.delay += again.delay;
            }
            AgainReason::Hedge => counts.hedges += 1,
            _ => counts.transparent_retries += 1,
        }
        let number = 1 + counts.retries + counts.hedges + counts.transparent_retries;
        if let Some(about) = self.end.about(self.method.name.as_deref()) {
            if again.reason != AgainReason::Hedge {
                let outcome = Outcome {
                    status: again.status,
                    duration: now - tries.begun.unwrap_or(self.begun),
                    bytes_sent: again.bytes_sent,
                    bytes_received: 0,
                };
                self.method.metrics.attempt_ended(about, &outcome);
                tries.begun = Some(now + again.delay);
            }
            self.method.metrics.started(about);
        }
        drop(tries);
        self.add_event(again, number);
    }

    fn end(&self, end: &CallEnd) {
        let now = Instant::now();
        let in_all = now - self.begun;
        if let Some(about) = self.end.about(self.method.name.as_deref()) {
            let tries = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            let duration = tries.begun.map_or(in_all, |begun| now.saturating_duration_since(begun));
            self.method.metrics.ended(about, &outcome(end, duration), in_all);
            if tries.begun.is_some() || tries.counts.hedges > 0 {
                self.method.metrics.attempts(about, &tries.counts);
            }
        }
        if let Some(context) = &self.context {
            end_span(context, Side::Client, end.status);
        }
    }
}

/// A call that a server serves.
pub(crate) struct ServerCall {
    end: Arc<End>,
    method: Found,
    /// With the call's span, if there are spans.
    context: Option<Context>,
    begun: Instant,
}

impl ServerCall {
    pub(crate) fn begin(end: &Arc<End>, call: &CallToServe<'_>) -> Self {
        let method = end.methods.find(call.method());
        let context = end.shared.tracer.as_ref().map(|tracer| {
            let parent = end.shared.propagator.extract_with_context(&Context::new(), &Incoming(call));
            let name = call.method().trim_start_matches('/').to_owned();
            let attributes = [KeyValue::new(rpc::SYSTEM, "grpc"), KeyValue::new(rpc::METHOD, name.clone())];
            let builder = tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
            parent.with_span(tracer.build_with_context(builder, &parent))
        });
        if let Found::Method(method) = &method
            && let Some(about) = end.about(method.name.as_deref())
        {
            method.metrics.started(about);
        }
        Self { end: Arc::clone(end), method, context, begun: Instant::now() }
    }

    /// The method, now that it is known whether the server has it.
    fn recognise(&self, status: Code) -> Arc<Method> {
        let path = match &self.method {
            Found::Method(method) => return Arc::clone(method),
            Found::Unknown(path) => path,
        };
        let is_known = status != Code::UNIMPLEMENTED;
        let method = if is_known { self.end.methods.recognise(path) } else { self.end.methods.other() };
        if let Some(about) = self.end.about(method.name.as_deref()) {
            method.metrics.started(about);
        }
        if let (None, Some(context)) = (&method.name, &self.context) {
            let span = context.span();
            span.update_name(rpc::OTHER);
            span.set_attribute(KeyValue::new(rpc::METHOD, rpc::OTHER));
            let original = path.trim_start_matches('/').to_owned();
            span.set_attribute(KeyValue::new(rpc::METHOD_ORIGINAL, original));
        }
        method
    }
}

impl Observed for ServerCall {
    fn within(&self, poll: &mut dyn FnMut()) {
        let _attached = self.context.clone().map(Context::attach);
        poll();
    }

    fn end(&self, end: &CallEnd) {
        let duration = self.begun.elapsed();
        let method = self.recognise(end.status);
        if let Some(about) = self.end.about(method.name.as_deref()) {
            method.metrics.ended(about, &outcome(end, duration), duration);
        }
        if let Some(context) = &self.context {
            end_span(context, Side::Server, end.status);
        }
    }
}

fn outcome(end: &CallEnd, duration: Duration) -> Outcome {
    let CallEnd { status, bytes_sent, bytes_received, .. } = *end;
    Outcome { status, duration, bytes_sent, bytes_received }
}

fn end_span(context: &Context, side: Side, status: Code) {
    let span = context.span();
    if let Some(name) = status_name(status) {
        span.set_attribute(KeyValue::new(rpc::STATUS, name));
        if side.is_error(status) {
            span.set_attribute(KeyValue::new(rpc::ERROR, name));
            span.set_status(Status::error(""));
        }
    }
    span.end();
}
