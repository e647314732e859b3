//! All services of the server, as one `tower` service.

use tonic::service::Routes;

use crate::probe::pb::probe_server::ProbeServer;
use crate::probe::{DESCRIPTORS, ProbeService};
use crate::trailers::EchoMetadata;

/// `Probe`, health and reflection in both versions.
pub async fn all() -> EchoMetadata<Routes> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ProbeServer<ProbeService>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection().build_v1().expect("the descriptors were compiled with this");
    let v1alpha = reflection().build_v1alpha().expect("the descriptors were compiled with this");
    let routes = Routes::new(ProbeServer::new(ProbeService::default()))
        .add_service(health)
        .add_service(v1)
        .add_service(v1alpha)
        .prepare();
    EchoMetadata { inner: routes }
}
