//! What a collector gets that is sent to by OTLP: metrics of clients and servers, and spans that belong
//! together.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use notnets::rpc::{Handler, Method, Request, ServerCall, Status as RpcStatus};
use notnets::{Channel, Endpoint, Server, ServiceConfig};
use notnets_costs::{pb, stubs};
use notnets_otel::{Conventions, Telemetry};
use opentelemetry::trace::{FutureExt, TraceContextExt, Tracer, TracerProvider};
use opentelemetry_otlp::WithTonicConfig;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Response, Status};

/// Has what it was sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    /// With the service that they are of.
    spans: Vec<(String, Span)>,
    /// The points of histograms and sums, by their names.
    points: HashMap<String, Vec<Point>>,
}

#[derive(Clone, Debug)]
struct Point {
    attributes: HashMap<String, String>,
    count: u64,
    sum: f64,
    bounds: Vec<f64>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut collected = self.0.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let of = attributes(&resource.resource.unwrap().attributes).remove("service.name").unwrap();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            collected.spans.extend(spans.map(|span| (of.clone(), span)));
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut collected = self.0.lock().unwrap();
        let resources = request.into_inner().resource_metrics;
        let scopes = resources.into_iter().flat_map(|resource| resource.scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics) {
            let points: Vec<Point> = match metric.data.unwrap() {
                Data::Histogram(histogram) => {
                    let points = histogram.data_points.into_iter();
                    points
                        .map(|point| Point {
                            attributes: attributes(&point.attributes),
                            count: point.count,
                            sum: point.sum.unwrap(),
                            bounds: point.explicit_bounds,
                        })
                        .collect()
                }
                Data::Sum(sum) => {
                    let value = |point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
                        use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
                        match point.value {
                            Some(Value::AsInt(value)) => value as u64,
                            _ => 0,
                        }
                    };
                    let points = sum.data_points.iter();
                    points
                        .map(|point| Point {
                            attributes: attributes(&point.attributes),
                            count: value(point),
                            sum: 0.0,
                            bounds: Vec::new(),
                        })
                        .collect()
                }
                other => panic!("{other:?}"),
            };
            collected.points.entry(metric.name).or_default().extend(points);
        }
        Ok(Response::new(Default::default()))
    }
}

fn attributes(attributes: &[KeyValue]) -> HashMap<String, String> {
    let text = |value: &any_value::Value| match value {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |attribute: &KeyValue| {
        let value = attribute.value.as_ref()?.value.as_ref()?;
        Some((attribute.key.clone(), text(value)))
    };
    attributes.iter().filter_map(pair).collect()
}

impl Collector {
    /// Serves at a free port. Returns the address.
    async fn serve(&self) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(self.clone()))
            .add_service(MetricsServiceServer::new(self.clone()));
        let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
        (address, tokio::spawn(async move { serving.await.unwrap() }))
    }

    /// The points of a metric whose attributes are these.
    fn points(&self, name: &str, of: &[(&str, &str)]) -> Vec<Point> {
        let collected = self.0.lock().unwrap();
        let Some(points) = collected.points.get(name) else {
            panic!("{name} is not among {:?}", collected.points.keys());
        };
        let is_of = |point: &&Point| {
            of.len() == point.attributes.len()
                && of.iter().all(|(key, value)| point.attributes.get(*key).is_some_and(|is| is == value))
        };
        points.iter().filter(is_of).cloned().collect()
    }

    /// The only point of a metric whose attributes are these.
    fn point(&self, name: &str, of: &[(&str, &str)]) -> Point {
        let points = self.points(name, of);
        assert_eq!(points.len(), 1, "{name} {of:?}: {:?}", self.0.lock().unwrap().points[name]);
        points.into_iter().next().unwrap()
    }

    /// The only span of a service with this name and kind.
    fn span(&self, service: &str, name: &str, kind: i32) -> Span {
        let collected = self.0.lock().unwrap();
        let is_it = |(of, span): &&(String, Span)| of == service && span.name == name && span.kind == kind;
        let found: Vec<_> = collected.spans.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{service} {name} {kind}: {:?}", collected.spans);
        found[0].1.clone()
    }
}

/// The telemetry of one program.
struct Program {
    meters: SdkMeterProvider,
    tracers: SdkTracerProvider,
    telemetry: Telemetry,
}

impl Program {
    fn new(name: &'static str, collector: &str) -> Self {
        let resource = || Resource::builder_empty().with_service_name(name).build();
        let channel = tonic::transport::Endpoint::from_shared(collector.to_owned()).unwrap().connect_lazy();
        let exporter = opentelemetry_otlp::MetricExporter::builder().with_tonic();
        let exporter = exporter.with_channel(channel.clone()).build().unwrap();
        let meters = SdkMeterProvider::builder().with_resource(resource()).with_periodic_exporter(exporter);
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic();
        let exporter = exporter.with_channel(channel).build().unwrap();
        let tracers = SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(exporter);
        let (meters, tracers) = (meters.build(), tracers.build());
        let telemetry = Telemetry::builder().meter_provider(&meters).tracer_provider(&tracers);
        let telemetry = telemetry.conventions(Conventions::Both).build();
        Self { meters, tracers, telemetry }
    }

    /// Sends what it has.
    async fn flush(&self) {
        let (meters, tracers) = (self.meters.clone(), self.tracers.clone());
        let flushed = tokio::task::spawn_blocking(move || (meters.force_flush(), tracers.force_flush()));
        let flushed = tokio::time::timeout(Duration::from_secs(20), flushed).await.unwrap().unwrap();
        flushed.0.unwrap();
        flushed.1.unwrap();
    }
}

/// Passes calls on to another service.
struct Front(Channel);

#[tonic::async_trait]
impl pb::echo_server::Echo for Front {
    async fn call(&self, request: tonic::Request<pb::Message>) -> Result<Response<pb::Message>, Status> {
        let payload = request.into_inner().payload;
        let mut stock = stubs::echo_client::EchoClient::new(self.0.clone());
        let reply = stock.call(stubs::Message { payload }).await?.into_inner();
        Ok(Response::new(pb::Message { payload: reply.payload }))
    }
}

/// Fails once, then echoes.
struct Flaky;

impl Handler for Flaky {
    async fn call(&self, call: &mut ServerCall) -> Result<(), RpcStatus> {
        if call.method.name() != "Call" {
            return Err(RpcStatus::unknown_method(&call.method));
        }
        if call.metadata.get("grpc-previous-rpc-attempts").is_none() {
            return Err(RpcStatus::new(notnets::rpc::Code::UNAVAILABLE, "once"));
        }
        let message = call.requests.only_message().await?;
        call.responses.send_last(message).await
    }
}

fn endpoint(directory: &Path, name: &str, program: &Program) -> Endpoint {
    let endpoint = Endpoint::from_shared(format!("notnets:///{name}")).unwrap();
    endpoint.directory(directory).observer(program.telemetry.clone())
}

fn server(directory: &Path, program: &Program) -> Server {
    Server::builder().directory(directory).observer(program.telemetry.clone())
}

const CLIENT: i32 = 3;
const SERVER: i32 = 2;
const METHOD: &str = "notnets.costs.Echo/Call";

/// A collector, and three programs that send to it: one calls the second, which calls the third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_metrics_and_spans_of_calls() {
    let collector = Collector::default();
    let (address, collecting) = collector.serve().await;
    let directory = tempfile::tempdir().unwrap();
    let [shop, front, stock] = ["shop", "front", "stock"].map(|name| Program::new(name, &address));
    let serve = |bound: notnets::Bound| tokio::spawn(async move { bound.serve().await.unwrap() });
    let of_stock = server(directory.path(), &stock)
        .add_service(stubs::echo_server::EchoServer::new(notnets_costs::Same))
        .add_rpc_service("test.Flaky", Flaky);
    let of_stock = serve(of_stock.bind_blocking("notnets:///stock").unwrap());
    let to_stock = endpoint(directory.path(), "stock", &front).connect_lazy();
    let of_front =
        server(directory.path(), &front).add_service(pb::echo_server::EchoServer::new(Front(to_stock)));
    let of_front = serve(of_front.bind_blocking("notnets:///front").unwrap());

    // By tonic's stubs, within a span of the application's, and on by ours.
    let tracer = shop.tracers.tracer("application");
    let work = opentelemetry::Context::new().with_span(tracer.start("work"));
    let mut to_front =
        pb::echo_client::EchoClient::new(endpoint(directory.path(), "front", &shop).connect_lazy());
    let message = pb::Message { payload: vec![7; 100] };
    to_front.call(message).with_context(work.clone()).await.unwrap();
    work.span().end();

    // In gRPC's own terms: a call that is made again, and one of a method that there is not.
    let config = r#"{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 2, "initialBackoff": "0.001s",
        "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"#;
    let retrying = endpoint(directory.path(), "stock", &shop);
    let retrying = retrying.service_config(ServiceConfig::from_json(config).unwrap()).connect_lazy();
    let flaky = |name: &str| Request::new(Method::new(format!("/test.Flaky/{name}")).unwrap());
    retrying.unary_call(flaky("Call"), "again").await.unwrap();
    retrying.unary_call(flaky("None"), "").await.unwrap_err();

    for program in [&shop, &front, &stock] {
        program.flush().await;
    }
    for task in [of_stock, of_front, collecting] {
        task.abort();
    }
    spans_belong_together(&collector);
    metrics_have_the_names_of_the_conventions(&collector);
    metrics_have_the_names_of_grpc(&collector);
}

/// Two programs without a runtime: one calls the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_metrics_and_spans_of_blocking_calls() {
    use notnets::blocking::{Client, Reply, Request, Status};
    let collector = Collector::default();
    let (address, collecting) = collector.serve().await;
    let directory = tempfile::tempdir().unwrap();
    let [shop, stock] = ["shop", "stock"].map(|name| Program::new(name, &address));
    let server = notnets::blocking::Server::builder().directory(directory.path());
    let server = server.observer(stock.telemetry.clone()).bind("notnets:///stock").unwrap();
    let stopper = server.stopper();
    let served = stock.tracers.tracer("application");
    let serving = tokio::task::spawn_blocking(move || {
        server.serve(|request: &Request<'_>, reply: &mut Reply| {
            drop(served.start("served"));
            if request.method != "/notnets.costs.Echo/Call" {
                return Err(Status::unknown_method(request.method));
            }
            reply.message.extend_from_slice(request.message);
            Ok(())
        });
    });
    let endpoint = notnets::blocking::Endpoint::new("notnets:///stock").unwrap().directory(directory.path());
    let endpoint = endpoint.observer(shop.telemetry.clone());
    let calling = tokio::task::spawn_blocking(move || {
        let mut client: Client = endpoint.connect().unwrap();
        client.call("/notnets.costs.Echo/Call", &[7; 5]).unwrap();
        client.call("/notnets.costs.Echo/None", &[]).unwrap_err();
        stopper.stop();
    });
    calling.await.unwrap();
    serving.await.unwrap();
    for program in [&shop, &stock] {
        program.flush().await;
    }
    collecting.abort();
    let (called, handled) = (collector.span("shop", METHOD, CLIENT), collector.span("stock", METHOD, SERVER));
    assert_eq!((&handled.parent_span_id, &handled.trace_id), (&called.span_id, &called.trace_id));
    let collected = collector.0.lock().unwrap();
    let within = collected.spans.iter().filter(|(_, span)| span.name == "served").map(|(_, span)| span);
    assert_eq!(within.filter(|span| span.parent_span_id == handled.span_id).count(), 1);
    drop(collected);
    let stock = ("grpc.target", "notnets:///stock");
    let of = [("grpc.method", METHOD), stock, ("grpc.status", "OK")];
    let sent = collector.point("grpc.client.attempt.sent_total_compressed_message_size", &of);
    assert_eq!((sent.count, sent.sum), (1, 10.0));
    let failed = [("grpc.method", "other"), ("grpc.status", "UNIMPLEMENTED")];
    assert_eq!(collector.point("grpc.server.call.duration", &failed).count, 1);
}

fn spans_belong_together(collector: &Collector) {
    let path = [
        collector.span("shop", "work", 1),
        collector.span("shop", METHOD, CLIENT),
        collector.span("front", METHOD, SERVER),
        collector.span("front", METHOD, CLIENT),
        collector.span("stock", METHOD, SERVER),
    ];
    for pair in path.windows(2) {
        assert_eq!((&pair[1].parent_span_id, &pair[1].trace_id), (&pair[0].span_id, &pair[0].trace_id));
    }
    let expected = [
        ("rpc.system.name", "grpc"),
        ("rpc.method", METHOD),
        ("server.address", "notnets:///front"),
        ("rpc.response.status_code", "OK"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(attributes(&path[1].attributes), HashMap::from(expected));

    let retried = collector.span("shop", "test.Flaky/Call", CLIENT);
    let [event] = &retried.events[..] else { panic!("{:?}", retried.events) };
    let about = attributes(&event.attributes);
    assert_eq!((&*event.name, &*about["rpc.attempt.reason"]), ("rpc.attempt", "retry"));
    assert_eq!((&*about["rpc.attempt.number"], &*about["rpc.response.status_code"]), ("2", "UNAVAILABLE"));

    let unknown = collector.span("stock", "_OTHER", SERVER);
    let about = attributes(&unknown.attributes);
    assert_eq!((&*about["rpc.method"], &*about["rpc.method_original"]), ("_OTHER", "test.Flaky/None"));
    assert_eq!((&*about["error.type"], unknown.status.unwrap().code), ("UNIMPLEMENTED", 2));
}

fn metrics_have_the_names_of_the_conventions(collector: &Collector) {
    let of = |method, status, more: &[(&'static str, &'static str)]| {
        let mut of = vec![("rpc.system.name", "grpc"), ("rpc.method", method)];
        of.extend([("rpc.response.status_code", status)]);
        of.extend(more);
        of
    };
    let client = "rpc.client.call.duration";
    let seen = collector.point(client, &of(METHOD, "OK", &[("server.address", "notnets:///front")]));
    assert_eq!(seen.count, 1);
    assert!(seen.sum > 0.0 && seen.sum < 20.0);
    assert!(seen.bounds.starts_with(&[1e-6, 2e-6, 5e-6]) && seen.bounds.ends_with(&[5.0, 7.5, 10.0]));
    // A call that is made again is one.
    let stock = ("server.address", "notnets:///stock");
    assert_eq!(collector.point(client, &of("test.Flaky/Call", "OK", &[stock])).count, 1);
    let failed = [stock, ("error.type", "UNIMPLEMENTED")];
    assert_eq!(collector.point(client, &of("test.Flaky/None", "UNIMPLEMENTED", &failed)).count, 1);

    let server = "rpc.server.call.duration";
    // One of the front, one of the stock.
    assert_eq!(collector.points(server, &of(METHOD, "OK", &[])).len(), 2);
    let failed = [("error.type", "UNIMPLEMENTED")];
    assert_eq!(collector.point(server, &of("_OTHER", "UNIMPLEMENTED", &failed)).count, 1);
}

fn metrics_have_the_names_of_grpc(collector: &Collector) {
    let (method, stock) = (("grpc.method", "test.Flaky/Call"), ("grpc.target", "notnets:///stock"));
    let of = |status: &'static str| [method, stock, ("grpc.status", status)];
    assert_eq!(collector.point("grpc.client.attempt.started", &[method, stock]).count, 2);
    for status in ["UNAVAILABLE", "OK"] {
        let attempt = collector.point("grpc.client.attempt.duration", &of(status));
        assert!(attempt.count == 1 && attempt.bounds.starts_with(&[0.0, 1e-6, 2e-6]));
        let sent = "grpc.client.attempt.sent_total_compressed_message_size";
        assert_eq!(collector.point(sent, &of(status)).sum, 10.0);
    }
    let received = "grpc.client.attempt.rcvd_total_compressed_message_size";
    assert_eq!(collector.point(received, &of("OK")).sum, 10.0);
    assert_eq!(collector.point("grpc.client.call.duration", &of("OK")).count, 1);
    assert_eq!(collector.point("grpc.client.call.retries", &[method, stock]).sum, 1.0);
    assert_eq!(collector.point("grpc.client.call.retry_delay", &[method, stock]).count, 1);
    assert_eq!(collector.point("grpc.server.call.started", &[method]).count, 2);
    assert_eq!(collector.point("grpc.server.call.started", &[("grpc.method", "other")]).count, 1);
    let ok = [method, ("grpc.status", "OK")];
    assert_eq!(collector.point("grpc.server.call.duration", &ok).count, 1);
    for what in ["sent", "rcvd"] {
        let name = format!("grpc.server.call.{what}_total_compressed_message_size");
        assert_eq!(collector.point(&name, &ok).sum, 10.0);
    }
}
