//! All services of the server, as one `tower` service.

use tonic::service::{Routes, RoutesBuilder};

use super::probe::pb::probe_server::ProbeServer;
use super::probe::{DESCRIPTORS, ProbeService};
use super::trailers::EchoMetadata;

/// Which versions of server reflection there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reflection {
    /// As a current server has it.
    Both,
    /// As an old server has it.
    V1Alpha,
    /// Not at all.
    Neither,
}

/// `Probe`, health and reflection.
pub async fn all() -> EchoMetadata<Routes> {
    some(Reflection::Both).await
}

/// The same with less reflection.
pub async fn some(versions: Reflection) -> EchoMetadata<Routes> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ProbeServer<ProbeService>>().await;
    let mut routes = RoutesBuilder::default();
    routes.add_service(ProbeServer::new(ProbeService::default())).add_service(health);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    if versions == Reflection::Both {
        routes.add_service(reflection().build_v1().expect("the descriptors were compiled with this"));
    }
    if versions != Reflection::Neither {
        routes.add_service(reflection().build_v1alpha().expect("the descriptors were compiled with this"));
    }
    EchoMetadata { inner: routes.routes().prepare() }
}
