//! `notnets proxy`: a bridge between shared memory and HTTP/2, in either
//! direction, so that clients and servers in any language take part.
//!
//! It calls as clients do (`Channel::named`), with channels of its own for each of its clients. Between
//! them and the [`listeners`] stand the [`routes`].

mod clients;
mod config;
mod health;
mod listeners;
mod routes;
mod signals;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notnets_cli_common::duration;
use notnets_memory::descriptors;
use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;

use self::clients::Clients;
use self::config::{Config, Pick};
use self::listeners::Listeners;
use self::routes::{Upstream, warn_if_missing};
use self::signals::{Asked, Signals};
use crate::announce::announce;
use crate::failure::Failure;
use crate::place::Servers;
use crate::service_manager::{Standing, Watchdog, notify};
use crate::target::{Settings, Target};
use crate::tls::{OfListener, OfServers};

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints `READY ADDRESS...` once clients can connect. On SIGINT or SIGTERM no new calls are taken and
open ones may end; a second signal cuts them off. On SIGHUP the file of --config, certificates and keys
are read again: calls that are open go on, and if a file is not right all stays as it was.

The file is JSON. The first route that matches a call takes it:

  {\"listeners\": [{
    \"listen\": \"https://0.0.0.0:50051, unix:/run/proxy.sock\",
    \"clients\": {\"admit\": \"1001,gid:500\", \"socket_mode\": \"0660\"},
    \"tls\": {\"certificate\": \"tls.crt\", \"key\": \"tls.key\", \"client_ca\": \"ca.crt\"},
    \"routes\": [
      {\"service\": \"shop.Cart\", \"to\": \"cart, http://cart-a:50051 http://cart-b:50051\"},
      {\"authority\": \"orders.internal\", \"to\": \"dns:///orders:50051\", \"pick\": \"round_robin\"},
      {\"service\": \"shop.Bank\", \"to\": \"https://bank:443\", \"tls\": {\"ca\": \"bank.crt\"}},
      {\"to\": \"notnets:///inventory\", \"service_config\": {\"methodConfig\": []}}
    ]
  }]}

Examples:
  notnets proxy --listen 127.0.0.1:50051 --to notnets:///inventory
  notnets proxy --listen notnets:///inventory --to unix:/run/inventory.sock
  notnets proxy --listen https://0.0.0.0:50051 --cert tls.crt --key tls.key --to notnets:///inventory
  notnets proxy --config proxy.json --health 127.0.0.1:50050")]
pub struct Args {
    /// Where clients connect: HOST:PORT (port 0 takes a free one), https://HOST:PORT, unix:/PATH or
    /// notnets:///NAME; several with commas between them
    #[arg(long, value_name = "ADDRESS", required_unless_present = "config")]
    listen: Option<Target>,
    /// Where their calls go: notnets:///NAME, http://HOST:PORT, https://HOST:PORT, dns:///HOST:PORT or
    /// unix:/PATH; behind commas, where they go when no server before takes calls. Spaces stand between
    /// servers that are equally near
    #[arg(long, value_name = "ADDRESS", required_unless_present = "config")]
    to: Option<Target>,
    /// How to choose among servers that are equally near [default: least_outstanding]
    #[arg(long, value_enum, conflicts_with = "config")]
    pick: Option<Pick>,
    #[command(flatten)]
    tls: Option<OfListener>,
    /// A file that says where clients connect, and where which of their calls go
    #[arg(long, value_name = "FILE", conflicts_with_all = ["listen", "to"])]
    config: Option<PathBuf>,
    /// Find out whether the file of --config is right, and end
    #[arg(long, requires = "config")]
    check: bool,
    /// Where gRPC's health service says how the proxy itself is
    #[arg(long, value_name = "ADDRESS")]
    health: Option<Target>,
    /// How long open calls may go on after the first signal
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    grace: Duration,
    /// How long a server may take to be connected
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    connect_timeout: Duration,
    /// How long a server with open calls, or a client, may be silent before it is pinged; 0s never pings
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    keepalive_interval: Duration,
    /// How long a ping may remain unanswered before the connection is given up
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    keepalive_timeout: Duration,
    /// Say in JSON that clients can connect, and that the file was read again: objects with `event` and
    /// `addresses`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    clients: Clients,
    #[command(flatten)]
    servers: Servers,
}

impl Args {
    fn settings(&self) -> Settings {
        Settings {
            connect_timeout: self.connect_timeout,
            keepalive_interval: self.keepalive_interval,
            keepalive_timeout: self.keepalive_timeout,
            servers: self.servers.clone(),
        }
    }

    /// Returns `true` if there are files to read again.
    fn is_reloaded(&self) -> bool {
        self.config.is_some() || self.tls.is_some() || self.servers.tls != OfServers::default()
    }

    /// What is wanted now.
    fn wanted(&self) -> Result<Config, Failure> {
        match (&self.config, &self.listen, &self.to) {
            (Some(path), ..) => Config::read(path),
            (None, Some(listen), Some(to)) => {
                Ok(Config::simple(listen.clone(), self.tls.clone(), to.clone(), self.pick))
            }
            _ => Err(Failure::new("give --listen and --to, or --config")),
        }
    }
}

/// Forwards calls until a signal comes.
///
/// # Errors
/// When an address cannot be used.
pub async fn run(args: Args) -> Result<(), Failure> {
    let wanted = args.wanted()?;
    if args.check {
        return listeners::check(&wanted, &args.settings());
    }
    raise_descriptors();
    let mut signals = Signals::new(args.is_reloaded())
        .map_err(|error| Failure::new(format!("cannot wait for signals: {error}")))?;
    let mut listeners = Listeners::new(args.settings(), args.clients.clone(), args.grace);
    look_for(listeners.change(wanted).await?);
    let (tell, state) = watch::channel(health::State::default());
    let services = listeners.services();
    tell.send_modify(|state| state.services = services);
    let probes = match &args.health {
        Some(address) => Some(health::serve(address.clone(), args.settings(), state).await?),
        None => None,
    };
    announce("READY", listeners.addresses(), args.json);
    notify(Standing::Ready);
    if let Some(watchdog) = Watchdog::from_env() {
        tokio::spawn(feed(watchdog));
    }
    loop {
        tokio::select! {
            ended = listeners.ended() => return ended,
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => {
                    notify(Standing::Reloading);
                    if let Err(failure) = reload(&args, &mut listeners).await {
                        tracing::error!("all stays as it was: {failure}");
                    }
                    let services = listeners.services();
                    tell.send_modify(|state| state.services = services);
                    notify(Standing::Ready);
                }
            },
        }
    }
    notify(Standing::Stopping);
    signals.end_at_next();
    tell.send_modify(|state| state.is_stopping = true);
    let stopped = listeners.stop().await;
    drop(probes);
    stopped
}

async fn reload(args: &Args, listeners: &mut Listeners) -> Result<(), Failure> {
    look_for(listeners.change(args.wanted()?).await?);
    announce("RELOADED", listeners.addresses(), args.json);
    Ok(())
}

/// Feeds the service manager's watchdog for as long as the runtime has turns for it.
async fn feed(mut watchdog: Watchdog) {
    let mut due = tokio::time::interval(watchdog.interval());
    loop {
        due.tick().await;
        watchdog.feed();
    }
}

/// Warns of upstreams that can't be reached.
fn look_for(upstreams: Vec<Arc<Upstream>>) {
    for upstream in upstreams {
        tokio::spawn(warn_if_missing(upstream));
    }
}

/// Each client takes some descriptors, so there may be as many as the system allows.
fn raise_descriptors() {
    if let Err(error) = descriptors::raise_limit() {
        let current = getrlimit(Resource::Nofile).current;
        tracing::debug!("the number of open files stays at {current:?}: {error}");
    }
}
