//! A channel's server that is reached over HTTP/2.
//!
//! To the channel it is a server like any other: at the other end of a link, which lies within this process.
//! What serves that end passes each call on. So calls go the same way wherever their server is, and one that
//! goes through memory knows nothing of HTTP/2. The link is wound up when no connection is left that takes
//! calls: then the channel makes another one, or goes elsewhere.

use std::error::Error as _;
use std::sync::Arc;

use http::Request;
use http::uri::Authority;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service as _;

use super::Address;
use super::bridge::{Bridge, forward};
use super::client::{Client, Options};
use super::pings::KeepAlive;
use crate::Error;
use crate::client::{Dial, Established, Reach};
use crate::error::Cause;
use crate::http::{AnyService, BoxResponse, RetrySafe, respond};
use crate::rpc::{Code, ResponseHalf, Serving, Turn};
use crate::server::serve_within;
use crate::tls::ClientTls;

/// A server that is reached over HTTP/2.
#[derive(Debug)]
pub(crate) struct Peer {
    address: Address,
    /// What calls say whom they want, if that is not the address.
    host: Option<Authority>,
    /// In place of the system's.
    tls: Option<ClientTls>,
}

impl Peer {
    pub(crate) fn new(address: Address, host: Option<Authority>, tls: Option<ClientTls>) -> Self {
        Self { address, host, tls }
    }
}

impl Reach for Peer {
    fn establish(&self, dial: Dial) -> Established {
        let (address, host, tls) = (self.address.clone(), self.host.clone(), self.tls.clone());
        Box::pin(async move {
            let Dial { link, user_agent, timeout, keepalive } = dial;
            let keep_alive = KeepAlive::of_link(keepalive);
            let options = Options { connect_timeout: timeout, keep_alive };
            let client = Client::with(address, options, tls, host);
            let refused = |status: Status| Cause::Http2(status.message().to_owned());
            client.ready().await.map_err(refused)?;
            let (stop, stopped) = watch::channel(false);
            let forwarding = Arc::new(Forward(client.clone()));
            let (link, serving) = serve_within(forwarding, &link, &user_agent, stopped)?;
            tokio::spawn(async move {
                let winding_up = async {
                    client.lost().await;
                    stop.send_replace(true);
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = serving => {}
                    () = winding_up => {}
                }
            });
            Ok::<_, Error>(link)
        })
    }

    fn address(&self) -> String {
        self.address.to_string()
    }
}

/// Passes calls on.
struct Forward(Client);

impl AnyService for Forward {
    fn call(&self, request: Request<Body>) -> BoxResponse {
        let response = Bridge::new(self.0.clone()).call(request);
        Box::pin(async move { response.await.unwrap_or_else(|never| match never {}) })
    }

    fn serve(&self, request: Request<Body>, mut turn: Turn, half: ResponseHalf) -> Serving {
        let client = self.0.clone();
        Box::pin(async move {
            turn.come().await;
            match forward(client.clone(), request).await {
                Ok(response) => respond(response, half).await,
                Err(status) if status.source().is_some_and(|source| source.is::<RetrySafe>()) => {
                    tracing::debug!(%status, "a call was not processed");
                    half.turn_away(
                        Code::UNAVAILABLE,
                        "its HTTP/2 server has not taken the call",
                        client.is_lost(),
                    );
                }
                Err(status) => respond(status.into_http(), half).await,
            }
        })
    }
}
