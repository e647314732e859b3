//! The matrix between hosts: what far memory costs, and what it costs with what calls.

use super::super::case::{Case, Work};
use super::super::factors::{Factor, Level};
use super::super::sizes::Size;
use super::Pod;

/// Nanoseconds to fetch a line: none beyond what it takes here, then what is told of CXL memory near and far.
pub const LATENCIES: [u64; 5] = [0, 115, 250, 400, 1000];
/// Where something else is varied it is this one, if it is among those asked for.
const TYPICAL: u64 = 250;

const PAYLOADS: [&str; 6] = ["0", "64", "1k", "16k", "64k", "1m"];

/// All of them, for these pods.
pub fn all(pods: &[Pod]) -> Vec<Factor> {
    let factor = |name, what, steady, levels| Factor { name, what, steady, levels };
    let null = Case::core();
    vec![
        factor(
            "null",
            "The null round trip: 32 bytes by the blocking API, both sides spinning, by what a line takes",
            true,
            by_latency(pods, &null),
        ),
        factor(
            "line-latency",
            "A call of 64 bytes by tonic's stubs, by what a line takes",
            true,
            by_latency(pods, &Case::default()),
        ),
        factor("payload", "Bytes of a request, which comes back", true, payloads(pods)),
        factor("outstanding", "Calls open at once", true, outstanding(pods)),
        factor("streams", "Kinds of calls, 64-byte messages", false, streams(pods)),
    ]
}

fn by_latency(pods: &[Pod], case: &Case) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    for pod in pods {
        let name = format!("{} ns", pod.line_ns);
        let case = Case { pod: Some(pod.clone()), ..case.clone() };
        match levels.last_mut().filter(|level| level.name == name) {
            Some(level) => level.cases.push(case),
            None => levels.push(Level { name, cases: vec![case] }),
        }
    }
    levels
}

/// Within one host, and between hosts.
fn level(pods: &[Pod], name: impl ToString, case: &Case) -> Level {
    let typical = pods.iter().any(|pod| pod.line_ns == TYPICAL);
    let chosen = if typical { TYPICAL } else { pods.first().map_or(0, |pod| pod.line_ns) };
    let chosen = pods.iter().filter(|pod| pod.line_ns == chosen);
    let between = chosen.map(|pod| Case { pod: Some(pod.clone()), ..case.clone() });
    Level { name: name.to_string(), cases: std::iter::once(case.clone()).chain(between).collect() }
}

fn payloads(pods: &[Pod]) -> Vec<Level> {
    let size = |text: &str| text.parse::<Size>().expect("a size");
    PAYLOADS.map(|text| level(pods, text, &Case { size: size(text), ..Case::default() })).into()
}

fn outstanding(pods: &[Pod]) -> Vec<Level> {
    [1, 16, 64].map(|outstanding| level(pods, outstanding, &Case { outstanding, ..Case::default() })).into()
}

fn streams(pods: &[Pod]) -> Vec<Level> {
    let works = [Work::Upload, Work::Download, Work::Chat, Work::Chain];
    works.map(|work| level(pods, work, &Case { work, ..Case::default() })).into()
}

#[cfg(test)]
mod tests {
    use super::super::Coherence;
    use super::*;

    #[test]
    fn all_cases_are_possible() {
        let coherences = [Coherence::Hardware, Coherence::Software];
        let of = |line_ns| coherences.map(|coherence| Pod { coherence, line_ns, given: None });
        let pods: Vec<_> = LATENCIES.into_iter().flat_map(of).collect();
        for factor in all(&pods) {
            for case in factor.levels.iter().flat_map(|level| &level.cases) {
                assert_eq!(case.check(), Ok(()), "{}: {case:?}", factor.name);
            }
        }
        let [null, latency, payload, ..] = &*all(&pods) else { panic!() };
        assert!([null, latency].iter().all(|factor| factor.levels.len() == LATENCIES.len()));
        let over: Vec<_> = payload.levels[0].cases.iter().map(|case| case.pod.clone()).collect();
        assert_eq!(over, [None, Some(of(250)[0].clone()), Some(of(250)[1].clone())]);
    }
}
