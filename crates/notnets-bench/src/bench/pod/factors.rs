//! The matrix between hosts: what far memory costs, and what it costs with what calls.

use super::super::case::Api;
use super::super::case::{Case, Transport};
use super::super::factors::{self, Factor, Level};
use super::super::sizes::Size;
use super::{Memory, Pod};

/// Nanoseconds to fetch a line: none beyond what it takes here, then what is reported of CXL memory near and
/// far.
pub const LATENCIES: [u64; 5] = [0, 115, 250, 400, 1000];

/// Three that only far memory has, and all those of one host that are about NotNets.
pub fn all(pods: &[Pod]) -> Vec<Factor> {
    let far = |name, what, case: &Case| Factor { name, what, steady: true, levels: by_latency(pods, case) };
    let typical = typical(pods);
    let mut all = vec![
        far(
            "null",
            "The null round trip: 32 bytes by the blocking API, both sides spinning, by what a line takes",
            &Case::core(),
        ),
        far("line-latency", "A call of 64 bytes by tonic's stubs, by what a line takes", &Case::default()),
    ];
    all.push(Factor {
        name: "memory",
        what: "A mebibyte over and back, and 64 bytes, by our stubs: this machine's memory, and models of others",
        steady: false,
        levels: by_memory(pods),
    });
    all.extend(factors::all().into_iter().map(|factor| between(factor, &typical)));
    all.retain(|factor| !factor.levels.is_empty());
    all
}

fn by_latency(pods: &[Pod], case: &Case) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    for pod in pods {
        let name = format!("{} ns", pod.memory.line_ns);
        let case = Case { pod: Some(pod.clone()), ..case.clone() };
        match levels.last_mut().filter(|level| level.name == name) {
            Some(level) => level.cases.push(case),
            None => levels.push(Level { name, cases: vec![case] }),
        }
    }
    levels
}

/// A level for each kind of memory, with the coherences that were asked for. A region that was given is no
/// other than it is.
fn by_memory(pods: &[Pod]) -> Vec<Level> {
    let mut coherences = Vec::new();
    for pod in pods.iter().filter(|pod| pod.given.is_none()) {
        if !coherences.contains(&pod.coherence) {
            coherences.push(pod.coherence);
        }
    }
    if coherences.is_empty() {
        return Vec::new();
    }
    let of = |(name, memory): (&str, Memory)| {
        let sizes = [64, 1 << 20].map(Size::Bytes);
        let pods = coherences.iter().map(|coherence| Pod { coherence: *coherence, memory, given: None });
        let case = |pod: Pod| {
            sizes.map(|size| Case { api: Api::Stubs, size, pod: Some(pod.clone()), ..Case::default() })
        };
        Level { name: name.to_owned(), cases: pods.flat_map(case).collect() }
    };
    Memory::KINDS.into_iter().map(of).collect()
}

/// Factors other than the latency.
pub fn typical(pods: &[Pod]) -> Vec<Pod> {
    let typical = Memory::TYPICAL.line_ns;
    let has_typical = pods.iter().any(|pod| pod.memory.line_ns == typical);
    let chosen = if has_typical { typical } else { pods.first().map_or(0, |pod| pod.memory.line_ns) };
    pods.iter().filter(|pod| pod.memory.line_ns == chosen).cloned().collect()
}

/// A factor of one host: each case of NotNets within one host and between hosts, and what its generator
/// costs.
fn between(factor: Factor, pods: &[Pod]) -> Factor {
    let levels = factor.levels.iter().flat_map(|level| levels(level, pods)).collect();
    Factor { levels, ..factor }
}

/// A level for each case of NotNets, named by what distinguishes it from the others.
fn levels(level: &Level, pods: &[Pod]) -> Vec<Level> {
    let of = |transport| level.cases.iter().filter(move |case| case.transport == transport);
    let ours: Vec<_> = of(Transport::NotNets).collect();
    let named = |case: &Case| {
        let mut name = level.name.clone();
        if ours.iter().any(|other| other.api != case.api) {
            name = format!("{name}, {}", case.api);
        }
        match case.wait.filter(|wait| ours.iter().any(|other| other.wait != Some(*wait))) {
            Some(wait) => format!("{name}, {wait}"),
            None => name,
        }
    };
    let split = |case: &&Case| {
        let cases = of(Transport::Null).cloned().chain(beside(case, pods)).collect();
        Level { name: named(case), cases }
    };
    ours.iter().map(split).collect()
}

/// A case within one host, and between the hosts of each pod.
pub fn beside(case: &Case, pods: &[Pod]) -> Vec<Case> {
    let far = pods.iter().map(|pod| Case { pod: Some(pod.clone()), ..case.clone() });
    std::iter::once(case.clone()).chain(far).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Coherence, Memory};
    use super::*;

    fn pods() -> Vec<Pod> {
        let of = |line_ns| {
            Coherence::ALL.map(|coherence| Pod { coherence, memory: Memory::line(line_ns), given: None })
        };
        LATENCIES.into_iter().flat_map(of).collect()
    }

    #[test]
    fn all_cases_are_possible() {
        for factor in all(&pods()) {
            for case in factor.levels.iter().flat_map(|level| &level.cases) {
                assert_eq!(case.check(), Ok(()), "{}: {case:?}", factor.name);
            }
        }
    }

    #[test]
    fn all_of_one_host_is_measured_between_hosts() {
        let between = all(&pods());
        let [null, latency, memory, ..] = &*between else { panic!() };
        assert_eq!((memory.levels.len(), memory.levels[0].cases.len()), (4, 4));
        assert!([null, latency].iter().all(|factor| factor.levels.len() == LATENCIES.len()));
        let typical =
            Coherence::ALL.map(|coherence| Pod { coherence, memory: Memory::line(250), given: None });
        let places: Vec<_> = std::iter::once(None).chain(typical.map(Some)).collect();
        let payload = between.iter().find(|factor| factor.name == "payload").unwrap();
        assert!(payload.levels[0].cases.iter().map(|case| &case.pod).eq(&places));
        for case in factors::all().iter().flat_map(|factor| &factor.levels).flat_map(|level| &level.cases) {
            let cases = || between.iter().flat_map(|factor| &factor.levels).flat_map(|level| &level.cases);
            let found =
                |place: &Option<Pod>| cases().any(|far| *far == Case { pod: place.clone(), ..case.clone() });
            assert_eq!(places.iter().all(found), case.transport == Transport::NotNets, "{case:?}");
        }
    }

    #[test]
    fn levels_are_named_by_what_they_differ_in() {
        for (factor, names) in [
            ("waiting", vec!["1 open, spin", "1 open, adaptive", "1 open, park"]),
            ("api", vec!["spin, tonic", "spin, core", "adaptive, tonic"]),
            ("clients", vec!["1", "2", "8"]),
        ] {
            let factor = all(&pods()).into_iter().find(|one| one.name == factor).unwrap();
            let levels: Vec<_> = factor.levels.iter().map(|level| &level.name).take(3).collect();
            assert_eq!(levels, names);
        }
    }
}
