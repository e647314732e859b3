//! A server of one link within its client's process.

use std::future::Future;
use std::sync::Arc;

use notnets_core::link::Established;
use notnets_core::link::handshake::pair;
use tokio::sync::watch;

use super::Server;
use super::accept::serve_link;
use super::context::ServerContext;
use super::services::Services;
use crate::Error;
use crate::error::Cause;
use crate::http::{AnyService, ConnectInfo};
use crate::http2::MAX_METADATA;
use crate::options::LinkOptions;

/// Makes a link within this process. Returns the client's end, and what serves the other one until the client
/// lets go of the link, or until `stop` says that it is to be wound up.
///
/// # Errors
/// When there are no descriptors or no memory for it.
pub(crate) fn serve_within(
    service: Arc<dyn AnyService>,
    client: &LinkOptions,
    user_agent: &str,
    stop: watch::Receiver<bool>,
) -> Result<(Established, impl Future<Output = ()> + Send + 'static + use<>), Error> {
    let mut server = Server::builder().max_metadata_size(MAX_METADATA);
    server.config.link.wait = client.wait;
    let settings = server.config;
    let (ours, theirs) = pair(client.config(), settings.link.config(), user_agent).map_err(Cause::Within)?;
    let context = Arc::new(ServerContext::new(String::new(), Services::of_http(service), settings, stop)?);
    let serving = async move {
        if let Err(error) = serve_link(&context, theirs, ConnectInfo::unknown()).await {
            tracing::warn!(%error, "a link within the process could not be served");
        }
    };
    Ok((ours, serving))
}
