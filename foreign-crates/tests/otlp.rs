//! OpenTelemetry's exporter, which insists on tonic's channel.

use notnets_foreign_crates::{Bed, within};
use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

/// Collects the names of spans.
struct Collector(mpsc::UnboundedSender<String>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        for span in spans {
            self.0.send(span.name).map_err(|_| Status::unavailable("the test has ended"))?;
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn spans_are_exported_over_a_link() {
    let (sender, mut collected) = mpsc::unbounded_channel();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    let (_bed, channel) = Bed::over_streams(server).await;
    let exporter = SpanExporter::builder().with_tonic().with_channel(channel).build().expect("an exporter");
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    let tracer = provider.tracer("test");
    for n in 0..1000 {
        tracer.start(format!("span {n}")).end();
    }
    let shutdown = tokio::task::spawn_blocking(move || provider.shutdown());
    within(shutdown).await.expect("no panic").expect("all is exported");
    for n in 0..1000 {
        assert_eq!(within(collected.recv()).await, Some(format!("span {n}")));
    }
}
