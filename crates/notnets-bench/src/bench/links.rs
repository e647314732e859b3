//! What links cost that nobody uses: memory, and processor time of their server.

use std::time::Duration;

use notnets_cli_common::number::median;
use serde::Serialize;

use super::bed::Bed;
use super::case::{Case, Transport};
use super::pod::Pod;
use super::usage::{self, Memory};
use crate::Result;

/// What opening links has set off has ended so long after.
const SETTLE: Duration = Duration::from_millis(500);

/// Memory that one idle link takes on both sides, each part a median.
#[derive(Clone, Debug, Serialize)]
pub struct LinkMemory {
    /// `memory`
    pub case: &'static str,
    /// What carries the calls.
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
    let (mut pss, mut page_tables, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
    let each = |before: u64, after: u64| (after as f64 - before as f64) / f64::from(links);
    for _ in 0..repeats {
        let mut bed = Bed::without_idle(&resting(over, links + 1)).await?;
        // What the first link takes is not for the link.
        bed.hold(1).await?;
        let (before, slab) = (look(&bed).await, usage::slab());
        bed.hold(links).await?;
        let (after, slab_after) = (look(&bed).await, usage::slab());
        bed.close().await?;
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

async fn look(bed: &Bed) -> Memory {
    tokio::time::sleep(SETTLE).await;
    let (server, holder) = (usage::memory(bed.server()), bed.holder().map(usage::memory).unwrap_or_default());
    Memory { pss: server.pss + holder.pss, page_tables: server.page_tables + holder.page_tables }
}

/// What a server with idle links does.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// `idle`
    pub case: &'static str,
    /// What carries the calls.
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
}

/// Watches a server with idle links over what carries the case, without waking it.
pub async fn idle(over: &Case, links: u32, seconds: f64) -> Result<Idle> {
    let bed = Bed::open(&resting(over, links)).await?;
    tokio::time::sleep(SETTLE).await;
    let look = || {
        let switches = usage::switches(bed.server());
        (switches.voluntary + switches.involuntary, usage::time_on_core(bed.server()).unwrap_or(0))
    };
    let before = look();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let after = look();
    bed.close().await?;
    let (wake_ups, cpu) = (after.0 - before.0, after.1.saturating_sub(before.1));
    let (transport, pod, cpu_us) = (over.transport, over.pod.clone(), cpu as f64 / 1000.0);
    Ok(Idle { case: "idle", transport, pod, links, seconds, wake_ups, cpu_us })
}

/// So many links over what carries the case, on which nobody calls.
fn resting(over: &Case, links: u32) -> Case {
    Case { clients: 0, links, ..over.clone() }
}
