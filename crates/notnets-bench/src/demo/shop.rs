//! A running shop: eight services and its customers, each a process of its own.

use std::time::Duration;

use clap::ValueEnum;
use tempfile::TempDir;

use super::control::{Answer, Ask};
use super::load::{Order, Sample};
use super::services::Name;
use super::transport::Transport;
use crate::Result;
use crate::child::{Child, PATIENCE};

/// All processes of a shop, over one transport.
pub struct Shop {
    services: Vec<Child>,
    customers: Child,
    // Dropped last, when the processes are gone.
    _directory: TempDir,
}

impl Shop {
    /// Starts the services, those first that others ask, and then the customers.
    pub async fn open(transport: Transport, workers: usize) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("notnets-demo-").tempdir()?;
        let start = |arguments: &[&str], peers: &[(Name, String)]| {
            Child::start(|command| {
                command.args(arguments).arg("--directory").arg(directory.path());
                command.args(["--transport", transport.as_str(), "--workers", &workers.to_string()]);
                command
                    .args(peers.iter().map(|(name, address)| format!("--peer={}={address}", name.as_str())));
                command.env("NOTNETS_DIR", directory.path());
            })
        };
        let mut services = Vec::new();
        let mut addresses = Vec::<(Name, String)>::new();
        for name in Name::value_variants() {
            let known = |(peer, _): &&(Name, String)| name.peers().contains(peer);
            let peers: Vec<_> = addresses.iter().filter(known).cloned().collect();
            let mut process = start(&["demo-service", name.as_str()], &peers)?;
            let address = process
                .answer(PATIENCE)
                .await
                .and_then(ready)
                .map_err(|error| format!("{}: {error}", name.as_str()))?;
            addresses.push((*name, address));
            services.push(process);
        }
        addresses.retain(|(name, _)| *name == Name::Storefront);
        let mut customers = start(&["demo-customers"], &addresses)?;
        customers
            .answer(PATIENCE)
            .await
            .and_then(ready)
            .map_err(|error| format!("the customers: {error}"))?;
        Ok(Self { services, customers, _directory: directory })
    }

    /// Lets the customers in.
    pub async fn load(&mut self, order: Order) -> Result<Sample> {
        let patience = PATIENCE + Duration::from_secs_f64(order.seconds);
        self.customers.tell(&Ask::Load(order)).await?;
        match self.customers.answer(patience).await? {
            Answer::Loaded(sample) => Ok(sample),
            other => Err(format!("the customers answered {other:?}").into()),
        }
    }

    /// For how long all processes together have kept processors busy since they were started.
    pub async fn cpu_time(&mut self) -> Result<Duration> {
        let mut nanos = 0;
        for process in self.services.iter_mut().chain([&mut self.customers]) {
            process.tell(&Ask::CpuTime).await?;
            match process.answer(PATIENCE).await? {
                Answer::CpuTime(theirs) => nanos += theirs,
                other => return Err(format!("a process answered {other:?}").into()),
            }
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Ends all processes and waits until they are gone.
    pub async fn close(self) -> Result {
        // Those that ask go before those that they ask.
        self.customers.end().await?;
        for process in self.services.into_iter().rev() {
            process.end().await?;
        }
        Ok(())
    }
}

/// The address of a process that has started.
pub fn ready(process: Answer) -> Result<String> {
    match process {
        Answer::Ready(address) => Ok(address),
        other => Err(format!("answered {other:?} before it was ready").into()),
    }
}
