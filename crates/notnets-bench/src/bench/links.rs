//! The cost of idle links: memory, and processor time of their server.

use std::time::Duration;

use notnets_cli_common::number::median;
use serde::Serialize;

use super::case::{Case, Transport};
use super::pod::{Hosts, Pod};
use super::testbed::Testbed;
use crate::Result;
use crate::usage::{self, Memory};

/// The time until everything that opening links has started is finished.
const SETTLE: Duration = Duration::from_millis(500);

/// Memory that one idle link takes on both sides, each part a median.
#[derive(Clone, Debug, Serialize)]
pub struct LinkMemory {
    /// `memory`
    pub case: &'static str,
    /// The transport.
    pub transport: Transport,
    /// Between two hosts of a pod; else within one host.
    pub pod: Option<Pod>,
    /// Links between the two looks.
    pub links: u32,
    /// All parts.
    pub bytes_per_link: f64,
    /// Pages of both processes, those that they share once.
    pub pss_per_link: f64,
    /// Page tables of both.
    pub page_tables_per_link: f64,
    /// The kernel's own memory: the growth of all its slabs, to which other processes contribute.
    pub kernel_per_link: f64,
}

/// Opens links over what carries the case, several times anew.
pub async fn memory(over: &Case, links: u32, repeats: u32) -> Result<LinkMemory> {
    let mut pss = Vec::new();
    let mut page_tables = Vec::new();
    let mut kernel = Vec::new();
    let each = |before: u64, after: u64| (after as f64 - before as f64) / f64::from(links);
    for _ in 0..repeats {
        let mut testbed = Testbed::without_idle(&idle_links(over, links + 1)).await?;
        // The memory that the first link takes is not the link's own.
        testbed.hold(1).await?;
        let before = look(&testbed).await;
        let slab = usage::slab();
        testbed.hold(links).await?;
        let after = look(&testbed).await;
        let slab_after = usage::slab();
        testbed.close().await?;
        pss.push(each(before.pss, after.pss));
        page_tables.push(each(before.page_tables, after.page_tables));
        kernel.push(each(slab, slab_after).max(0.0));
    }
    let [pss, page_tables, kernel] = [pss, page_tables, kernel].map(median);
    Ok(LinkMemory {
        case: "memory",
        transport: over.transport,
        pod: over.pod.clone(),
        links,
        bytes_per_link: pss + page_tables + kernel,
        pss_per_link: pss,
        page_tables_per_link: page_tables,
        kernel_per_link: kernel,
    })
}

async fn look(testbed: &Testbed) -> Memory {
    tokio::time::sleep(SETTLE).await;
    let (server, holder) =
        (usage::memory(testbed.server()), testbed.holder().map(usage::memory).unwrap_or_default());
    Memory { pss: server.pss + holder.pss, page_tables: server.page_tables + holder.page_tables }
}

/// The activity of a server with idle links.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// `idle`
    pub case: &'static str,
    /// The transport.
    pub transport: Transport,
    /// Between two hosts of a pod; else within one host.
    pub pod: Option<Pod>,
    /// Links of the server.
    pub links: u32,
    /// For how long it was watched.
    pub seconds: f64,
    /// How often one of its threads was woken.
    pub wake_ups: u64,
    /// For how long it kept a core busy, by the scheduler's account.
    pub cpu_us: f64,
    /// For how long the agent of its host did, in a pod: both hosts' agents do the same.
    pub agent_us: f64,
}

/// The cost of idle links over one transport.
pub struct IdleCost {
    /// The case whose transport carries them.
    pub over: Case,
    /// Their memory.
    pub memory: LinkMemory,
    /// The processor time of their server.
    pub idle: Idle,
}

/// Watches a server with idle links over what carries the case, without waking it.
pub async fn idle(over: &Case, links: u32, seconds: f64) -> Result<Idle> {
    let testbed = Testbed::open(&idle_links(over, links)).await?;
    tokio::time::sleep(SETTLE).await;
    let look = || {
        let switches = usage::switches(testbed.server());
        let agent = testbed.hosts().map_or(0, Hosts::agent_time);
        (switches.voluntary + switches.involuntary, usage::time_on_core(testbed.server()).unwrap_or(0), agent)
    };
    let before = look();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let after = look();
    testbed.close().await?;
    let wake_ups = after.0 - before.0;
    let cpu = after.1.saturating_sub(before.1);
    let transport = over.transport;
    let pod = over.pod.clone();
    let cpu_us = cpu as f64 / 1000.0;
    let agent_us = after.2.saturating_sub(before.2) as f64 / 1000.0;
    Ok(Idle { case: "idle", transport, pod, links, seconds, wake_ups, cpu_us, agent_us })
}

/// Returns the case with `links` idle links and no client that makes calls.
fn idle_links(over: &Case, links: u32) -> Case {
    Case { clients: 0, links, ..over.clone() }
}
