//! The testbed of a case: its servers, its clients, and one more process that holds idle connections.

use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use tempfile::TempDir;

use notnets_core::cgroup::Throttling;

use super::case::{Case, Transport, Work};
use super::control::{Answer, Ask, Connect, Load, Serve, Setup};
use super::figures::{Figures, ResourceUsage};
use super::neighbours::Neighbours;
use super::pod::{Hosts, Place};
use super::process::{PATIENCE, Process};
use super::quota::Quota;
use super::recorder::Sample;
use crate::Result;
use crate::usage::{self, Switches};

/// All clients begin at one time, which lies this far ahead when the first of them gets its order, plus
/// [`HEAD_START_EACH`] for each.
const HEAD_START: Duration = Duration::from_millis(3);
const HEAD_START_EACH: Duration = Duration::from_micros(200);

/// The number of servers in a chain, and of those that a fan-out asks.
const CHAIN: usize = 3;
const FAN_OUT: usize = 8;

/// The processes of a case that can be measured again and again. Between measurements they do nothing.
pub struct Testbed {
    case: Case,
    /// A server comes after those that it asks.
    servers: Vec<Process>,
    clients: Vec<Process>,
    /// The process that holds the idle connections.
    holder: Option<Process>,
    address: String,
    /// In a pod: the two hosts that the processes are on.
    hosts: Option<Hosts>,
    /// What servers, clients and the holder have to share. Dropped when those are gone.
    quota: Option<Quota>,
    // Dropped last, when the processes are gone.
    directory: TempDir,
}

impl Testbed {
    /// In a pod: its hosts.
    pub fn hosts(&self) -> Option<&Hosts> {
        self.hosts.as_ref()
    }

    /// Starts servers and clients, and connects them.
    ///
    /// # Errors
    /// When the case is impossible, or a process can't follow its orders.
    pub async fn open(case: &Case) -> Result<Self> {
        let mut testbed = Self::without_idle(case).await?;
        if case.links > 0 {
            testbed.hold(case.links).await?;
        }
        Ok(testbed)
    }

    /// Starts and connects servers and clients, without idle connections. There is room for as many as the
    /// case has;
    /// `hold` makes them.
    ///
    /// # Errors
    /// When the case is impossible, or a process can't follow its orders.
    pub async fn without_idle(case: &Case) -> Result<Self> {
        case.check()?;
        let directory = tempfile::Builder::new().prefix("notnets-bench-").tempdir()?;
        let hosts = case.pod.as_ref().map(|pod| Hosts::open(case, pod, directory.path())).transpose()?;
        let quota = match case.quota {
            Some(cores) => Some(Quota::open(group_name(directory.path()), cores).await?),
            None => None,
        };
        let mut testbed = Self {
            case: case.clone(),
            servers: Vec::new(),
            clients: Vec::new(),
            holder: None,
            address: String::new(),
            hosts,
            quota,
            directory,
        };
        testbed.start_servers().await?;
        for nth in 0..case.clients as usize {
            let client = testbed.start_client(testbed.core(nth + 1)).await?;
            testbed.clients.push(client);
        }
        Ok(testbed)
    }

    async fn start_servers(&mut self) -> Result {
        match self.case.work {
            // Calls go nowhere.
            _ if self.case.transport == Transport::Null => {}
            Work::Chain => {
                let mut upstream = Vec::new();
                for nth in 0..CHAIN {
                    upstream = vec![self.start_server(nth, upstream).await?];
                }
                self.address = upstream.concat();
            }
            Work::FanOut => {
                let mut upstream = Vec::new();
                for nth in 0..FAN_OUT {
                    upstream.push(self.start_server(nth, Vec::new()).await?);
                }
                self.address = self.start_server(FAN_OUT, upstream).await?;
            }
            _ => {
                for nth in 0..self.case.replicas.max(1) as usize {
                    self.address = self.start_server(nth, Vec::new()).await?;
                }
            }
        }
        Ok(())
    }

    async fn start_server(&mut self, nth: usize, upstream: Vec<String>) -> Result<String> {
        let work = self.case.work;
        let hop = match work {
            Work::Chain => CHAIN - nth,
            Work::FanOut if nth < FAN_OUT => 2,
            _ => 1,
        };
        let setup = self.setup(hop, self.core(nth));
        let name = self.name(if self.case.replicas > 0 { 0 } else { nth });
        let order = Serve { setup, work, name, upstream, spoil: false };
        let mut server = self.start_process("bench-server")?;
        let address = server.be(&Ask::Serve(order)).await?;
        self.servers.push(server);
        Ok(address)
    }

    async fn start_client(&self, core: Option<usize>) -> Result<Process> {
        let setup = self.setup(0, core);
        let order = Connect { setup, address: self.address.clone(), connections: self.case.connections };
        let mut client = self.start_process("bench-client")?;
        client.be(&Ask::Connect(order)).await?;
        Ok(client)
    }

    /// Starts a process under the case's quota, if it has one.
    fn start_process(&self, subcommand: &str) -> Result<Process> {
        let process = Process::start(subcommand)?;
        if let Some(quota) = &self.quota {
            quota.add(process.pid)?;
        }
        Ok(process)
    }

    /// Returns a process's setup for that hop, on the way from the clients.
    fn setup(&self, hop: usize, core: Option<usize>) -> Setup {
        Setup {
            transport: self.case.transport,
            api: self.case.api,
            place: self.place(hop),
            wait: self.case.wait.unwrap_or_default(),
            workers: self.case.workers,
            core,
            directory: self.directory.path().to_owned(),
            trusted: self.case.trusted,
            by_name: self.case.replicas > 0,
        }
    }

    /// Returns where in its pod a process is that calls pass on that hop.
    fn place(&self, hop: usize) -> Option<Place> {
        self.hosts.as_ref().map(|hosts| hosts.place(hop))
    }

    /// Returns the name of the nth server. All cases over a given region share a pod, so there each case has
    /// names of its own.
    fn name(&self, nth: usize) -> String {
        let case = self.directory.path().file_name().filter(|_| self.hosts.is_some());
        format!("{}-{nth}", case.map_or("server".into(), |name| name.to_string_lossy()))
    }

    /// Returns the core of the nth process, if processes are pinned.
    fn core(&self, nth: usize) -> Option<usize> {
        let cores = available_parallelism().map_or(1, usize::from);
        self.case.pinned.then_some(nth % cores)
    }

    /// Makes `links` more idle connections.
    ///
    /// # Errors
    /// When they can't be made.
    pub async fn hold(&mut self, links: u32) -> Result {
        if self.holder.is_none() {
            self.holder = Some(self.start_client(None).await?);
        }
        let holder = self.holder.as_mut().ok_or("just made")?;
        holder.be(&Ask::Links(links)).await?;
        Ok(())
    }

    /// Returns the process id of the first server.
    pub fn server(&self) -> u32 {
        self.servers[0].pid
    }

    /// Returns the id of the process that holds idle connections, if there is one.
    pub fn holder(&self) -> Option<u32> {
        self.holder.as_ref().map(|holder| holder.pid)
    }

    /// Makes calls for a number of seconds, after a warm-up that does not count. The case's neighbours are
    /// there meanwhile.
    ///
    /// # Errors
    /// When a call fails, or its reply is wrong.
    pub async fn measure(&mut self, warm_up: f64, seconds: f64, seed: u64) -> Result<Figures> {
        let neighbours = Neighbours::start(self.case.neighbours).await?;
        self.load(warm_up, u64::MAX >> 16).await?;
        let figures = self.measure_beside(&neighbours, seconds, seed).await?;
        neighbours.end().await?;
        Ok(figures)
    }

    async fn measure_beside(&mut self, neighbours: &Neighbours, seconds: f64, seed: u64) -> Result<Figures> {
        let cpu = self.servers_cpu().await?;
        let switches = self.switches();
        let throttling = self.throttling();
        let neighbours_cpu = neighbours.cpu_time();
        let busy = usage::host_busy();
        let (to_server, to_client) = self.lines().await?;
        let samples = self.load(seconds, seed).await?;
        let lines = self.lines().await?;
        let switched = self.switches();
        let host_busy = usage::host_busy() - busy;
        let neighbours_cpu = neighbours.cpu_time().saturating_sub(neighbours_cpu);
        let throttling = self.throttling().since(throttling);
        let round = ResourceUsage {
            servers_cpu: self.servers_cpu().await? - cpu,
            neighbours_cpu,
            throttling,
            switches: Switches {
                voluntary: switched.voluntary.saturating_sub(switches.voluntary),
                involuntary: switched.involuntary.saturating_sub(switches.involuntary),
            },
            host_busy,
            lines: (lines.0 - to_server, lines.1 - to_client),
        };
        Ok(Figures::new(&samples, &round))
    }

    async fn load(&mut self, seconds: f64, seed: u64) -> Result<Vec<Sample>> {
        let Case { work, size, outstanding, burn_ms, rate, clients, shared, read, .. } = self.case;
        let burn_ns = (burn_ms.unwrap_or_default() * 1e6) as u64;
        let head_start = HEAD_START + HEAD_START_EACH * clients;
        let start = usage::now() + head_start.as_nanos() as u64;
        let rate = rate.map(|rate| rate / f64::from(clients));
        for (nth, client) in self.clients.iter_mut().enumerate() {
            let seed = seed << 16 | nth as u64;
            let load = Load { work, size, outstanding, burn_ns, shared, read, rate, start, seconds, seed };
            client.tell(&Ask::Load(load)).await?;
        }
        let patience = PATIENCE + Duration::from_secs_f64(seconds);
        let mut samples = Vec::new();
        for client in &mut self.clients {
            match client.answer(patience).await? {
                Answer::Loaded(sample) => samples.push(sample),
                other => return Err(format!("a client answered {other:?}").into()),
            }
        }
        Ok(samples)
    }

    async fn servers_cpu(&mut self) -> Result<u64> {
        let mut nanos = 0;
        for server in &mut self.servers {
            nanos += server.cpu_time().await?;
        }
        Ok(nanos)
    }

    /// Returns the lines that servers and clients have fetched from the other host. 0 within one host.
    async fn lines(&mut self) -> Result<(u64, u64)> {
        let mut lines = (0, 0);
        if self.hosts.is_some() {
            for server in &mut self.servers {
                lines.0 += server.lines().await?;
            }
            for client in &mut self.clients {
                lines.1 += client.lines().await?;
            }
        }
        Ok(lines)
    }

    fn throttling(&self) -> Throttling {
        self.quota.as_ref().map(Quota::throttling).unwrap_or_default()
    }

    fn switches(&self) -> Switches {
        let mut all = Switches::default();
        for process in self.servers.iter().chain(&self.clients) {
            let theirs = usage::switches(process.pid);
            all.voluntary += theirs.voluntary;
            all.involuntary += theirs.involuntary;
        }
        all
    }

    /// Ends all processes and waits until they are gone.
    ///
    /// # Errors
    /// When one does not end as it should.
    pub async fn close(self) -> Result {
        // Those that ask go before those that they ask.
        let askers = self.clients.into_iter().chain(self.holder);
        let mut processes: Vec<_> = askers.chain(self.servers.into_iter().rev()).collect();
        processes.iter_mut().for_each(Process::tell_to_end);
        for process in processes {
            process.end().await?;
        }
        match self.quota {
            Some(quota) => quota.close().await,
            None => Ok(()),
        }
    }
}

/// Returns the name of a case's group: that of its directory, which no other case has.
fn group_name(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
