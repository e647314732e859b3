//! What channels and servers are given.

use std::sync::Arc;

use notnets::observe::{CallToMake, CallToServe, ClientCalls, Observed, Observer, ServerCalls};
use opentelemetry::InstrumentationScope;
use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Tracer, TracerProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::calls::{ClientCall, ServerCall};
use crate::conventions::{Conventions, Side, rpc};
use crate::methods::Methods;
use crate::metrics::{About, Instruments};

/// Metrics and spans of the calls of those channels and servers that have this as their observer. Cheap to
/// clone: all clones record to the same instruments.
///
/// ```
/// use notnets_otel::{Conventions, Telemetry};
/// use opentelemetry_sdk::metrics::SdkMeterProvider;
/// use opentelemetry_sdk::trace::SdkTracerProvider;
///
/// let meters = SdkMeterProvider::builder().build(); // with a reader that exports
/// let tracers = SdkTracerProvider::builder().build();
/// let telemetry = Telemetry::builder()
///     .meter_provider(&meters)
///     .tracer_provider(&tracers)
///     .conventions(Conventions::Both)
///     .build();
/// let server = notnets::Server::builder().observer(telemetry);
/// # drop(server);
/// ```
#[derive(Clone)]
pub struct Telemetry(Arc<Shared>);

pub(crate) struct Shared {
    client: Option<Instruments>,
    server: Option<Instruments>,
    pub(crate) tracer: Option<BoxedTracer>,
    pub(crate) propagator: Box<dyn TextMapPropagator + Send + Sync>,
}

impl Telemetry {
    /// With the meters and tracers of `opentelemetry::global`, as they are set now: set them before.
    pub fn global() -> Self {
        let (meters, tracers) = (global::meter_provider(), global::tracer_provider());
        Self::builder().meter_provider(&*meters).tracer_provider(&tracers).build()
    }

    /// With neither metrics nor spans, until it is told where they go.
    pub fn builder() -> Builder {
        Builder { meter: None, tracer: None, conventions: Conventions::default(), propagator: None }
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

/// Makes a [`Telemetry`].
#[must_use = "it does nothing until it is built"]
pub struct Builder {
    meter: Option<Meter>,
    tracer: Option<BoxedTracer>,
    conventions: Conventions,
    propagator: Option<Box<dyn TextMapPropagator + Send + Sync>>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("conventions", &self.conventions).finish_non_exhaustive()
    }
}

impl Builder {
    /// Records metrics there.
    pub fn meter_provider(mut self, provider: &dyn MeterProvider) -> Self {
        self.meter = Some(provider.meter_with_scope(scope()));
        self
    }

    /// Makes spans there.
    pub fn tracer_provider<P>(mut self, provider: &P) -> Self
    where
        P: TracerProvider<Tracer: Tracer<Span: Send + Sync + 'static> + Send + Sync + 'static>,
    {
        self.tracer = Some(BoxedTracer::new(Box::new(provider.tracer_with_scope(scope()))));
        self
    }

    /// Sets whose names the metrics have. OpenTelemetry's unless set.
    pub fn conventions(mut self, conventions: Conventions) -> Self {
        self.conventions = conventions;
        self
    }

    /// Sets how contexts go with calls. As W3C's trace context unless set.
    ///
    /// ```
    /// use notnets_otel::Telemetry;
    /// use opentelemetry::propagation::TextMapCompositePropagator;
    /// use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
    ///
    /// let both = TextMapCompositePropagator::new(vec![
    ///     Box::new(TraceContextPropagator::new()),
    ///     Box::new(BaggagePropagator::new()),
    /// ]);
    /// let telemetry = Telemetry::builder().propagator(both).build();
    /// # drop(telemetry);
    /// ```
    pub fn propagator(mut self, propagator: impl TextMapPropagator + Send + Sync + 'static) -> Self {
        self.propagator = Some(Box::new(propagator));
        self
    }

    /// Makes it.
    pub fn build(self) -> Telemetry {
        let instruments = |side| Some(Instruments::new(self.meter.as_ref()?, side, self.conventions));
        Telemetry(Arc::new(Shared {
            client: instruments(Side::Client),
            server: instruments(Side::Server),
            tracer: self.tracer,
            propagator: self.propagator.unwrap_or_else(|| Box::new(TraceContextPropagator::new())),
        }))
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(rpc::SCHEMA)
        .build()
}

impl Observer for Telemetry {
    fn of_channel(&self, target: &str) -> Arc<dyn ClientCalls> {
        Arc::new(Calls(Arc::new(End::new(&self.0, Side::Client, Some(target.into())))))
    }

    fn of_server(&self, _names: &str) -> Arc<dyn ServerCalls> {
        Arc::new(Calls(Arc::new(End::new(&self.0, Side::Server, None))))
    }
}

/// A channel, or a server.
pub(crate) struct End {
    pub(crate) shared: Arc<Shared>,
    pub(crate) methods: Methods,
    side: Side,
    pub(crate) target: Option<Box<str>>,
}

impl End {
    fn new(shared: &Arc<Shared>, side: Side, target: Option<Box<str>>) -> Self {
        Self { shared: Arc::clone(shared), methods: Methods::new(side), side, target }
    }

    /// What the metrics of a method are about. `None` if there are no metrics.
    pub(crate) fn about<'a>(&'a self, method: Option<&'a str>) -> Option<About<'a>> {
        let instruments = match self.side {
            Side::Client => self.shared.client.as_ref(),
            Side::Server => self.shared.server.as_ref(),
        };
        Some(About { instruments: instruments?, method, target: self.target.as_deref() })
    }
}

/// The calls of a channel, or of a server.
struct Calls(Arc<End>);

impl ClientCalls for Calls {
    fn begin(&self, call: &mut CallToMake<'_>) -> Arc<dyn Observed> {
        Arc::new(ClientCall::begin(&self.0, call))
    }
}

impl ServerCalls for Calls {
    fn begin(&self, call: &CallToServe<'_>) -> Arc<dyn Observed> {
        Arc::new(ServerCall::begin(&self.0, call))
    }
}
