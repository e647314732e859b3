//! The tower layers of docs/telemetry.md, beside an observer.

use std::time::Duration;

use notnets_costs::pb;
use notnets_otel::Telemetry;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use tonic::{Code, Response, Status};
use tower::ServiceBuilder;
use tower_http::trace::TraceLayer;

struct Slow;

#[tonic::async_trait]
impl pb::echo_server::Echo for Slow {
    async fn call(&self, request: tonic::Request<pb::Message>) -> Result<Response<pb::Message>, Status> {
        let message = request.into_inner();
        if message.payload.is_empty() {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(message))
    }
}

#[tokio::test]
async fn layers_that_users_have_go_with_an_observer() {
    let (metrics, spans) = (InMemoryMetricExporter::default(), InMemorySpanExporter::default());
    let meters = SdkMeterProvider::builder().with_periodic_exporter(metrics.clone()).build();
    let tracers = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
    let telemetry = Telemetry::builder().meter_provider(&meters).tracer_provider(&tracers).build();

    let directory = tempfile::tempdir().unwrap();
    let layers = ServiceBuilder::new()
        .layer(TraceLayer::new_for_grpc())
        .load_shed()
        .layer(tower::limit::GlobalConcurrencyLimitLayer::new(1))
        .into_inner();
    let server = notnets::Server::builder().directory(directory.path()).observer(telemetry.clone());
    let server = server.layer(layers).add_service(pb::echo_server::EchoServer::new(Slow));
    let bound = server.bind_blocking("notnets:///slow").unwrap();
    let serving = tokio::spawn(async move { bound.serve().await.unwrap() });

    let endpoint = notnets::Endpoint::from_static("notnets:///slow").directory(directory.path());
    let channel = endpoint.observer(telemetry).connect_lazy();
    let layered = ServiceBuilder::new()
        .layer(TraceLayer::new_for_grpc())
        .concurrency_limit(10)
        .timeout(Duration::from_millis(20))
        .service(channel.clone());
    let mut client = pb::echo_client::EchoClient::new(layered);
    let message = |payload: &[u8]| pb::Message { payload: payload.to_vec() };
    assert_eq!(client.call(message(b"x")).await.unwrap().into_inner().payload, b"x");
    // The time-out's, which drops the call.
    let late = client.call(message(b"")).await.unwrap_err();
    assert_eq!((late.code(), late.message()), (Code::Unknown, "request timed out"));

    // A channel without layers.
    let mut client = pb::echo_client::EchoClient::new(channel);
    client.call(message(b"x")).await.unwrap();
    meters.force_flush().unwrap();
    serving.abort();

    let seen = metrics.get_finished_metrics().unwrap();
    let scopes = seen.iter().flat_map(|seen| seen.scope_metrics());
    let mut by_status = Vec::new();
    for metric in scopes.flat_map(|scope| scope.metrics()).filter(|m| m.name() == "rpc.client.call.duration")
    {
        let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() else { panic!() };
        for point in histogram.data_points() {
            let status =
                point.attributes().find(|attribute| attribute.key.as_str() == "rpc.response.status_code");
            by_status.push((status.unwrap().value.to_string(), point.count()));
        }
    }
    by_status.sort();
    assert_eq!(by_status, [("CANCELLED".to_owned(), 1), ("OK".to_owned(), 2)]);
    let spans = spans.get_finished_spans().unwrap();
    assert!(spans.iter().all(|span| span.name == "notnets.costs.Echo/Call"), "{spans:?}");
}
