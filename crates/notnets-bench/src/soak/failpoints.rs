//! Processes die at steps of the protocol, one after the other, and others take their places.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use notnets_core::failpoint;
use rustix::process::Signal;

use super::{Args, Kind, LOOK, Soak, Starting, signal};
use crate::Result;

/// How long a process may live that does not come to its failpoint, and how much longer once it was asked to
/// end: then it comes to those of ending.
const LIFE: Duration = Duration::from_millis(300);
const END: Duration = Duration::from_millis(200);
/// How often processes are looked at.
const TICK: Duration = Duration::from_millis(2);

/// The life of a process that is to die.
struct Life {
    point: String,
    began: Instant,
    was_asked: bool,
}

/// Returns `true` if a process that was asked to end has: it may have been asked before it listens for that.
fn is_end(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(Signal::TERM.as_raw())
}

/// A server in a pod ends when its agent is away for longer than the lease.
fn is_in_pod(kind: &Kind) -> bool {
    matches!(kind, Kind::Server { uri, .. } if !uri.starts_with("notnets:///"))
}

/// Returns `false` if no process of that kind comes to the point.
fn can_reach(kind: &Kind, point: &str) -> bool {
    const OF_CLIENTS: [&str; 12] = [
        "hello written",
        "hello sent",
        "welcome read",
        "pod hello posted",
        "sending request",
        "sent request",
        "taken response",
        "taken trailers",
        "taken goaway",
        "pod asked to join",
        "pod joined",
        "sending pong",
    ];
    const OF_SERVERS: [&str; 15] = [
        "name locked",
        "name bound",
        "name served",
        "name removed",
        "hello read",
        "welcome sent",
        "handler begun",
        "handler ended",
        "pod welcome posted",
        "taken request",
        "sending response",
        "sent response",
        "sending trailers",
        "sent trailers",
        "sending goaway",
    ];
    match kind {
        Kind::Agent { .. } => point.starts_with("agent"),
        Kind::Client => !point.starts_with("agent") && !OF_SERVERS.contains(&point),
        Kind::Server { uri, .. } => {
            let in_pod = !uri.starts_with("notnets:///");
            !point.starts_with("agent")
                && (in_pod || !OF_CLIENTS.contains(&point) && !point.starts_with("pod"))
        }
    }
}

/// Lets processes die until this number have at failpoints.
///
/// # Errors
/// When anything was wrong.
pub async fn run(args: &Args, seed: u64, kills: u64) -> Result {
    if !failpoint::IS_ON {
        return Err("this build has no failpoints: make a debug build with the feature `failpoints`".into());
    }
    let points: Vec<_> = failpoint::all().collect();
    let mut soak = Soak::start(args, seed).await?;
    let mut died = BTreeMap::<String, u64>::new();
    let mut lives: Vec<Option<Life>> = soak.mortal.iter().map(|_| None).collect();
    let mut looked = Instant::now();
    let mut count = 0;
    while count < kills {
        tokio::time::sleep(TICK).await;
        for (index, life) in lives.iter_mut().enumerate() {
            let place = &mut soak.mortal[index];
            let ended = place.child.ended();
            if let (Some(status), Some(life)) = (ended, life.as_ref()) {
                if status.signal() == Some(Signal::KILL.as_raw()) {
                    *died.entry(life.point.clone()).or_default() += 1;
                    count += 1;
                } else if !(is_in_pod(&place.kind) || life.was_asked && is_end(status)) {
                    return Err(format!("{:?} ended with {status}: see above", place.kind).into());
                }
            }
            if let (None, Some(life)) = (ended, life.as_mut()) {
                let age = life.began.elapsed();
                if age < LIFE {
                    continue;
                }
                // It may end by itself between the look and the signal.
                if !std::mem::replace(&mut life.was_asked, true) && matches!(place.kind, Kind::Server { .. })
                {
                    let _ = signal(&place.child, Signal::TERM);
                }
                if age < LIFE + END {
                    continue;
                }
            }
            let candidates: Vec<_> = points.iter().filter(|point| can_reach(&place.kind, point)).collect();
            let point = candidates[soak.random.below(candidates.len() as u64) as usize].clone();
            let most = soak.random.one_of(&[1, 4, 40]);
            let reach = 1 + soak.random.below(most);
            let mut starting = Starting {
                work: soak.work.path().to_owned(),
                uris: soak.uris.clone(),
                clients: soak.clients,
                seed: soak.random.bits(),
                dies: Some(format!("{point}:{reach}")),
            };
            // The old one, if it is still there, is killed when it is dropped.
            place.child = starting.spawn(&place.kind)?;
            soak.clients = starting.clients;
            *life = Some(Life { point, began: Instant::now(), was_asked: false });
        }
        if looked.elapsed() > LOOK {
            looked = Instant::now();
            soak.look(count > kills / 5)?;
        }
    }
    let never: Vec<_> = points.iter().filter(|point| !died.contains_key(*point)).collect();
    println!("{count} processes died at {} of {} failpoints: {died:?}", died.len(), points.len());
    println!("at none of {never:?}");
    // Those that are there last are not to die any more: all are reachable.
    for index in 0..soak.mortal.len() {
        // It may have ended by itself meanwhile.
        let _ = signal(&soak.mortal[index].child, Signal::KILL);
        drop(soak.start_again(index).await?);
    }
    soak.reach_all().await?;
    soak.end().await
}
