//! Names that are served in pods, and the links that other hosts make to them. Clients of the own host come
//! by listeners as to any other name.

use std::future::pending;
use std::sync::Arc;
use std::time::Instant;

use notnets_core::link::accept::Refused;
use notnets_core::link::admission::Rejection;
use notnets_core::link::candidate::Candidate;
use notnets_core::link::quota::UserLink;
use notnets_core::link::rendezvous::Listener;
use notnets_core::name::{Name, Uri};
use notnets_pod::member::{AGENT_TIMEOUT, Arrival, Member};
use tokio::sync::mpsc;

use super::accept::serve_link;
use super::context::ServerContext;
use crate::Error;
use crate::error::Cause;
use crate::http::ConnectInfo;
use crate::log::LINK;
use crate::options::LinkOptions;

/// Names in pods, served until this is dropped.
pub(super) struct PodNames {
    served: Vec<(Member, Name)>,
    /// Where processes of this host come, until they are taken.
    pub(super) here: Vec<Listener>,
    arrivals: mpsc::UnboundedReceiver<(Member, Arrival)>,
}

impl PodNames {
    /// Serves names, each in its pod.
    pub(super) fn serve(uris: Vec<Uri>, link: &LinkOptions) -> Result<Self, Error> {
        let directory = &link.directory;
        let (sender, arrivals) = mpsc::unbounded_channel();
        let mut names = Self { served: Vec::new(), here: Vec::new(), arrivals };
        for uri in uris {
            let Some(pod) = uri.pod() else { continue };
            let deadline = Instant::now() + AGENT_TIMEOUT;
            let failed = |error| Cause::ServePod { uri: uri.clone(), error };
            let member = Member::of(directory, pod, deadline).map_err(failed)?;
            if let Some(latency) = link.wake_latency {
                member.wake_within(latency);
            }
            let (sender, from) = (sender.clone(), member.downgrade());
            let on_arrival = Box::new(move |arrival| {
                if let Some(member) = from.upgrade()
                    && let Err(mpsc::error::SendError((member, arrival))) = sender.send((member, arrival))
                {
                    refuse(&member, &arrival, &Rejection::ShuttingDown);
                }
            });
            match member.listen_local(directory, uri.name()) {
                Ok(listener) => names.here.push(listener),
                Err(error) => tracing::warn!(%error, "clients of this host come through the pod's region"),
            }
            member.serve(uri.name(), on_arrival, deadline).map_err(failed)?;
            names.served.push((member, uri.name().clone()));
        }
        Ok(names)
    }

    /// Returns `true` if no name is served in a pod.
    pub(super) fn is_empty(&self) -> bool {
        self.served.is_empty()
    }

    /// The next client that wants a link.
    pub(super) async fn next(&mut self) -> Option<(Member, Arrival)> {
        if self.served.is_empty() { pending().await } else { self.arrivals.recv().await }
    }

    /// Serves the names no more. Links go on. Clients that have come are told, and go on to another server.
    pub(super) fn give_up(&mut self) {
        for (member, name) in self.served.drain(..) {
            member.unserve(&name);
        }
        self.arrivals.close();
        while let Ok((member, arrival)) = self.arrivals.try_recv() {
            refuse(&member, &arrival, &Rejection::ShuttingDown);
        }
    }
}

impl Drop for PodNames {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn refuse(member: &Member, arrival: &Arrival, why: &Rejection) {
    member.refuse(arrival, why.refusal(), &why.to_string());
}

/// Serves a client of another host to its end.
pub(super) async fn serve_arrival(shared: Arc<ServerContext>, member: Member, arrival: Arrival) {
    let client = member.client(&arrival);
    let admitted = client
        .clone()
        .and_then(|client| shared.policy.admit(&Candidate::known_by(client), shared.occupancy()));
    let place = match admitted {
        Ok(place) => place,
        Err(rejection) => {
            refuse(&member, &arrival, &rejection);
            return shared.refuse(&Refused { rejection, client: client.ok() });
        }
    };
    let config = UserLink::limit(place.as_ref(), shared.settings.link.config_between_hosts());
    let answering =
        tokio::task::spawn_blocking(move || member.answer(arrival, config, Instant::now() + AGENT_TIMEOUT));
    let served = match answering.await {
        Ok(Ok(established)) => serve_link(&shared, established.of_user(place), ConnectInfo::unknown()).await,
        Ok(Err(error)) => Err(std::io::Error::other(error)),
        Err(error) => Err(std::io::Error::other(error)),
    };
    if let Err(error) = served {
        tracing::warn!(target: LINK, %error, "a client of another host got no link");
    }
}
