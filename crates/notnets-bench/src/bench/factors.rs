//! The matrix's factors: each varies one thing around the base case of 64 bytes and one open call.

use super::case::{Api, Case, Transport, Wait, Work};
use super::sizes::{Profile, Size};

/// One thing that is varied.
pub struct Factor {
    /// Its name.
    pub name: &'static str,
    /// Its description.
    pub what: &'static str,
    /// Whether values between two levels make sense, so that a plot joins them by lines.
    pub steady: bool,
    /// The values that it takes.
    pub levels: Vec<Level>,
}

/// One value of a factor, and the cases that are measured for it in turns.
pub struct Level {
    /// Its name on an axis.
    pub name: String,
    /// The cases.
    pub cases: Vec<Case>,
}

/// The transports that everything is measured over.
const ALL: [Transport; 3] = [Transport::Tcp, Transport::Uds, Transport::NotNets];

fn level(name: impl ToString, case: Case) -> Level {
    Level { name: name.to_string(), cases: over_all(&case) }
}

/// Returns a case over each transport.
pub fn over_all(case: &Case) -> Vec<Case> {
    ALL.map(|transport| case.over(transport)).into()
}

fn base() -> Case {
    Case::default()
}

/// Keeps few and cheap levels of each factor, for a check that everything works.
pub fn shortened(mut factors: Vec<Factor>) -> Vec<Factor> {
    for factor in &mut factors {
        factor.levels.retain(|level| level.cases.iter().all(|case| case.clients <= 8 && case.links <= 64));
    }
    factors
}

/// Returns all factors.
pub fn all() -> Vec<Factor> {
    vec![
        floor(),
        waiting(),
        api(),
        factor("payload", "Bytes of a request, which comes back", true, payloads(Work::Echo, &ECHOES)),
        factor("small-reply", "Bytes of a request; the reply has 8", true, payloads(Work::Ask, &QUESTIONS)),
        factor("profile", "Distributions of sizes", false, profiles()),
        factor("outstanding", "Calls open at once", true, outstanding()),
        factor("clients", "Client processes, each with one open call", true, clients()),
        factor("links", "Idle connections beside", true, links()),
        open_loop(),
        factor("topology", "Several servers for one call, 1 KiB", false, topologies()),
        factor("streams", "Kinds of streams, 64-byte messages", false, streams()),
        factor("runtime", "64 open calls by runtime and connections", false, runtimes()),
        factor(
            "placement",
            "One open call, with processes free to move and on cores of their own",
            false,
            pinned(),
        ),
        factor("lives", "Connecting with a first call, and cancelling", false, lifecycle()),
    ]
}

fn factor(name: &'static str, what: &'static str, steady: bool, levels: Vec<Level>) -> Factor {
    Factor { name, what, steady, levels }
}

fn floor() -> Factor {
    let level = |work: Work| Level { name: work.to_string(), cases: vec![Case::floor(work)] };
    let works = [Work::Line, Work::Ring, Work::Socket, Work::Eventfd];
    factor("floor", "What two processes can do without any RPC", false, works.map(level).into())
}

fn waiting() -> Factor {
    let level = |outstanding: u32| Level {
        name: format!("{outstanding} open"),
        cases: [Wait::Spin, Wait::Adaptive, Wait::Park]
            .map(|wait| Case { wait: Some(wait), outstanding, ..base() })
            .into(),
    };
    factor("waiting", "How NotNets waits", false, [1, 64].map(level).into())
}

fn api() -> Factor {
    let level = |wait: Wait| {
        let tonic = Case { wait: Some(wait), pinned: true, ..base() };
        Level { name: wait.to_string(), cases: vec![tonic.clone(), Case { api: Api::Core, ..tonic }] }
    };
    let waits = [Wait::Spin, Wait::Adaptive, Wait::Park];
    factor("api", "NotNets by tonic's stubs and by its blocking API", false, waits.map(level).into())
}

const ECHOES: [&str; 11] = ["0", "16", "64", "256", "1k", "4k", "16k", "64k", "256k", "1m", "4m"];
const QUESTIONS: [&str; 7] = ["0", "256", "4k", "64k", "256k", "1m", "4m"];

fn payloads(work: Work, sizes: &[&str]) -> Vec<Level> {
    let level = |text: &&str| level(text, Case { work, size: text.parse().expect("a size"), ..base() });
    sizes.iter().map(level).collect()
}

fn profiles() -> Vec<Level> {
    let level = |profile| {
        let size = Size::Profile(profile);
        level(size, Case { work: Work::Ask, size, ..base() })
    };
    [Profile::Tiny, Profile::Fleet, Profile::Tail, Profile::Bulk].map(level).into()
}

fn outstanding() -> Vec<Level> {
    [1, 16, 64, 256].map(|outstanding| level(outstanding, Case { outstanding, ..base() })).into()
}

fn clients() -> Vec<Level> {
    [1, 2, 8, 26, 64].map(|clients| level(clients, Case { clients, ..base() })).into()
}

fn links() -> Vec<Level> {
    [0, 64, 1000].map(|links| level(links, Case { links, ..base() })).into()
}

fn open_loop() -> Factor {
    let levels = [1000, 5000, 20_000].map(|rate| {
        let case = Case { rate: Some(f64::from(rate)), ..base() };
        let mut level = level(format!("{rate}/s"), case.clone());
        level.cases.insert(0, case.over(Transport::Null));
        level
    });
    factor(
        "open-loop",
        "Calls begun per second, whatever comes back; timed from when they were due",
        true,
        levels.into(),
    )
}

fn topologies() -> Vec<Level> {
    let size = Size::Bytes(1024);
    [Work::Echo, Work::Chain, Work::FanOut].map(|work| level(work, Case { work, size, ..base() })).into()
}

fn streams() -> Vec<Level> {
    let works = [Work::Echo, Work::Upload, Work::Download, Work::Chat];
    works.map(|work| level(work, Case { work, ..base() })).into()
}

fn runtimes() -> Vec<Level> {
    let level = |(workers, connections)| {
        let threads = if workers == 0 { "1 thread".to_owned() } else { format!("{workers} workers") };
        let case = Case { outstanding: 64, workers, connections, ..base() };
        level(format!("{threads} × {connections}"), case)
    };
    [(0, 1), (0, 2), (2, 1), (2, 2)].map(level).into()
}

fn pinned() -> Vec<Level> {
    [("free", false), ("pinned", true)].map(|(name, pinned)| level(name, Case { pinned, ..base() })).into()
}

fn lifecycle() -> Vec<Level> {
    [Work::Connect, Work::Cancel].map(|work| level(work, Case { work, ..base() })).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_cases_are_possible() {
        for factor in all() {
            for case in factor.levels.iter().flat_map(|level| &level.cases) {
                assert_eq!(case.check(), Ok(()), "{}: {case:?}", factor.name);
            }
        }
        assert!(shortened(all()).iter().all(|factor| !factor.levels.is_empty()));
    }
}
