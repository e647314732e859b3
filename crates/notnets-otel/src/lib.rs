//! OpenTelemetry for calls over [NotNets](notnets): metrics, and spans that belong together across processes.
//!
//! ```
//! use notnets_otel::Telemetry;
//!
//! // With the meters and tracers that the program has set (`opentelemetry::global`).
//! let telemetry = Telemetry::global();
//! let endpoint = notnets::Endpoint::from_static("notnets:///inventory").observer(telemetry.clone());
//! let server = notnets::Server::builder().observer(telemetry);
//! # drop((endpoint, server));
//! ```
//!
//! All calls are seen, whoever makes or serves them: generated code (`notnets-build`'s or tonic's),
//! `notnets::rpc`, any HTTP; through memory and over HTTP/2.
//!
//! # Metrics
//!
//! | name | attributes |
//! | --- | --- |
//! | `rpc.server.call.duration` | `rpc.system.name`, `rpc.method`, `rpc.response.status_code`, `error.type` |
//! | `rpc.client.call.duration` | the same, and `server.address`: the target |
//!
//! These are the [semantic conventions](https://opentelemetry.io/docs/specs/semconv/rpc/) of version 1.42.
//! With [`Conventions::Grpc`] they have the names of
//! [gRPC A66](https://github.com/grpc/proposal/blob/master/A66-otel-stats.md) and
//! [A96](https://github.com/grpc/proposal/blob/master/A96-retry-otel-stats.md):
//! `grpc.client.attempt.started`, `.duration`, `.sent_total_compressed_message_size`,
//! `.rcvd_total_compressed_message_size`, `grpc.client.call.duration`, `.retries`, `.transparent_retries`,
//! `.hedges`, `.retry_delay`; `grpc.server.call.started` and the like. Sizes include gRPC's five bytes before
//! each message; of hedged attempts only the answered one has a duration.
//!
//! Histograms of durations begin at 1 µs: they have the buckets of the conventions, and finer ones below.
//! What is recorded goes to instruments that are bound to their attributes once for each method and status.
//! A method whose calls have all ended with `UNIMPLEMENTED` is `_OTHER` (`other` with gRPC's names) on a
//! server, so that no client can make series; so are those beyond the first thousand.
//!
//! # Spans
//!
//! A span of a client lasts from the call's beginning over all attempts to its end, with an event
//! `rpc.attempt` for each further one; that of a server until the answer is sent. They have the attributes
//! of the metrics. The context goes with the call as W3C's `traceparent` and `tracestate`; a handler runs
//! within its span's context, which is so the parent of the spans of the calls that it makes.
#![forbid(unsafe_code)]

mod calls;
mod conventions;
mod methods;
mod metrics;
mod propagation;
mod telemetry;

pub use conventions::Conventions;
pub use telemetry::{Builder, Telemetry};
