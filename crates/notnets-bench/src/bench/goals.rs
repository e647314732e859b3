//! The goals of NotNets, and whether a run reached them.

use std::fmt::Write;

use notnets_cli_common::number::{median, number};
use serde::Serialize;

/// The number of cores that other processes may keep busy before a verdict mentions it.
const DISTURBED: f64 = 0.1;

/// The good side of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The ratio has to be at least the bound.
    AtLeast,
    /// The ratio may be at most the bound.
    AtMost,
}

/// One thing to reach.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Goal {
    /// Its name.
    pub goal: &'static str,
    /// The ratio or figure, in words.
    pub what: &'static str,
    /// Which way is good.
    pub better: Better,
    /// The value to reach.
    pub reach: f64,
    /// A better value still.
    pub stretch: Option<f64>,
    /// The unit, unless it is a ratio.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub unit: &'static str,
}

/// A goal and what was measured for it.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The goal.
    #[serde(flatten)]
    pub goal: Goal,
    /// The measured value.
    pub ratio: f64,
    /// Whether the reach was met.
    pub met: bool,
    /// Whether the stretch was.
    pub stretch_met: Option<bool>,
    /// The figures behind the ratio, with remarks.
    pub from: String,
    /// Cores that others kept busy meanwhile, where that was looked at.
    pub disturbance: Option<f64>,
}

const fn at_least(goal: &'static str, what: &'static str, reach: f64, stretch: f64) -> Goal {
    Goal { goal, what, better: Better::AtLeast, reach, stretch: Some(stretch), unit: "" }
}

const fn at_most(goal: &'static str, what: &'static str, reach: f64, stretch: f64) -> Goal {
    Goal { goal, what, better: Better::AtMost, reach, stretch: Some(stretch), unit: "" }
}

pub const CORE: Goal = at_most("core", "core API, 32 B round trip ÷ cache line over and back", 3.0, 2.0);
pub const STUBS_P50: Goal =
    at_least("stubs-p50", "our stubs, 64 B, 1 open: tonic-UDS p50 ÷ ours", 30.0, 50.0);
pub const STUBS_THROUGHPUT: Goal =
    at_least("stubs-throughput", "our stubs, 64 B, 64 open: our calls/s ÷ tonic-UDS", 8.0, 14.0);
pub const STUBS_CPU: Goal =
    at_least("stubs-cpu", "our stubs, 64 B, 64 open: tonic-UDS CPU µs per call ÷ ours", 8.0, 14.0);
pub const LARGE: Goal = at_least("large", "our stubs, 1 MiB, read whole: tonic-UDS p50 ÷ ours", 4.0, 6.0);
pub const LARGE_SHARED: Goal =
    at_least("large-shared", "our stubs, 1 MiB shared, read whole: tonic-UDS p50 ÷ ours", 6.0, 10.0);
pub const LARGE_UNREAD: Goal =
    at_least("large-unread", "our stubs, 1 MiB shared, not read: tonic-UDS p50 ÷ ours", 80.0, 200.0);
pub const LARGE_SMALL: Goal =
    at_most("large-small", "our stubs, 1 MiB shared, not read: p50 ÷ that of 64 B", 3.0, 1.5);
pub const LARGE_CHAIN: Goal = at_least(
    "large-chain",
    "our stubs, 3 hops, 1 MiB shared, read at the end: tonic-UDS p50 ÷ ours",
    15.0,
    30.0,
);
pub const LARGE_POD_HARDWARE: Goal =
    at_most("large-pod-hardware", "pod, 250 ns a line, hardware: 1 MiB shared, p50 ÷ that of 64 B", 3.0, 1.5);
pub const LARGE_POD_SOFTWARE: Goal =
    at_most("large-pod-software", "pod, 250 ns a line, software: 1 MiB shared, p50 ÷ that of 64 B", 3.0, 1.5);
pub const POD_LARGE_HARDWARE: Goal = at_most(
    "pod-large-hardware",
    "pod, hardware: 1 MiB over and back, p50 ÷ (within a host + model)",
    1.3,
    1.1,
);
pub const POD_LARGE_SOFTWARE: Goal = at_most(
    "pod-large-software",
    "pod, software: 1 MiB over and back, p50 ÷ (within a host + model)",
    1.6,
    1.2,
);
pub const POD_STREAM_HARDWARE: Goal =
    at_least("pod-stream-hardware", "pod, hardware: stream of 1 MiB, bytes/s ÷ model's bandwidth", 0.7, 0.9);
pub const POD_STREAM_SOFTWARE: Goal =
    at_least("pod-stream-software", "pod, software: stream of 1 MiB, bytes/s ÷ model's bandwidth", 0.7, 0.9);
pub const POD_MEMORY: Goal =
    Goal { unit: "KiB", ..at_most("pod-memory", "pod: memory of an idle link, both sides", 64.0, 32.0) };
pub const POD_TAIL_HARDWARE: Goal =
    at_most("pod-tail-hardware", "pod, 250 ns a line, hardware: 64 B, 1 open: p99 ÷ p50", 4.0, 2.0);
pub const POD_TAIL_SOFTWARE: Goal =
    at_most("pod-tail-software", "pod, 250 ns a line, software: 64 B, 1 open: p99 ÷ p50", 4.0, 2.0);
pub const POD_CLIENTS_HARDWARE: Goal =
    at_least("pod-clients-hardware", "pod, hardware: 64 clients: calls/s ÷ within a host", 0.6, 0.8);
pub const POD_CLIENTS_SOFTWARE: Goal =
    at_least("pod-clients-software", "pod, software: 64 clients: calls/s ÷ within a host", 0.6, 0.8);
pub const POD_NULL: Goal =
    at_most("pod-null", "pod, 0 ns a line, hardware: null round trip ÷ core API within a host", 1.3, 1.1);
pub const POD_IDLE_HARDWARE: Goal = Goal {
    unit: "%",
    ..at_most("pod-idle-hardware", "pod, hardware: a host with 1000 idle links", 2.0, 0.5)
};
pub const POD_IDLE_SOFTWARE: Goal = Goal {
    unit: "%",
    ..at_most("pod-idle-software", "pod, software: a host with 1000 idle links", 2.0, 0.5)
};
pub const P50: Goal = at_least("p50", "64 B, 1 open: tonic-UDS p50 ÷ ours", 12.0, 25.0);
pub const P99: Goal = at_least("p99", "64 B, 1 open: tonic-UDS p99 ÷ ours", 6.0, 12.0);
pub const THROUGHPUT: Goal = at_least("throughput", "64 B, 64 open: our calls/s ÷ tonic-UDS", 6.0, 10.0);
pub const CPU: Goal = at_least("cpu", "64 B, 64 open: tonic-UDS CPU µs per call ÷ ours", 4.0, 6.0);
pub const PARK: Goal = at_most("park", "Wait::Park, 64 B, 1 open: our p50 ÷ doorbell round trip", 1.15, 1.05);
pub const CLIENTS: Goal =
    at_least("clients", "26 clients, 1 open each: calls/s ÷ best client count", 0.65, 0.8);
pub const CLIENTS_UDS: Goal =
    at_least("clients-uds", "26 clients, 1 open each: our calls/s ÷ tonic-UDS", 6.0, 8.0);
pub const CHAIN: Goal = at_least("chain", "3 hops, 1 KiB: tonic-UDS p50 ÷ ours", 3.0, 6.0);
pub const OPEN_LOOP: Goal =
    at_least("open-loop", "open loop, 20 % of tonic-UDS's best rate: its p99 ÷ ours, no more CPU", 3.0, 5.0);
pub const NAMED: Goal = Goal {
    stretch: None,
    ..at_most("named", "64 B, 1 open, by a name, one replica: p50 ÷ that of a plain channel", 1.03, 0.0)
};
pub const REPLICAS: Goal = Goal {
    stretch: None,
    ..at_least("replicas", "64 B, 64 open, 4 replicas: calls/s ÷ one replica", 0.95, 0.0)
};
pub const STREAMS: Goal = Goal {
    stretch: None,
    ..at_least("streams", "64 B, 1 open: tonic-UDS p50 ÷ tonic over our byte streams", 1.5, 0.0)
};
pub const IDLE_LINKS: Goal = at_most("idle-links", "p50 with 1000 idle links beside ÷ alone", 1.2, 1.05);
pub const MEMORY: Goal =
    Goal { unit: "KiB", ..at_most("memory", "memory of an idle link, both sides", 64.0, 24.0) };
pub const IDLE_CPU: Goal = Goal {
    stretch: None,
    unit: "wake-ups",
    ..at_most("idle-cpu", "idle server with 1000 links, 10 s", 0.0, 0.0)
};
pub const CONNECT: Goal =
    Goal { unit: "ms", ..at_most("connect", "connect and first call, median", 1.0, 0.3) };
pub const CANCEL: Goal =
    Goal { stretch: None, unit: "ms", ..at_most("cancel", "cancel to handler dropped, p99", 1.0, 0.0) };

// Beside as many busy loops as there are cores.
pub const NEIGHBOURS_THROUGHPUT: Goal =
    at_least("neighbours-throughput", "beside busy loops, 1 open: our calls/s ÷ tonic-UDS", 1.8, 2.5);
pub const NEIGHBOURS_P99: Goal =
    at_least("neighbours-p99", "beside busy loops, 1 open: tonic-UDS p99 ÷ ours", 1.0, 1.5);
pub const NEIGHBOURS_OPEN_LOOP_P50: Goal = Goal {
    stretch: None,
    ..at_least("neighbours-open-loop-p50", "beside busy loops, 8,000 calls/s: tonic-UDS p50 ÷ ours", 7.0, 0.0)
};
pub const NEIGHBOURS_OPEN_LOOP_P99: Goal = Goal {
    stretch: None,
    ..at_least("neighbours-open-loop-p99", "beside busy loops, 8,000 calls/s: tonic-UDS p99 ÷ ours", 1.2, 0.0)
};
pub const NEIGHBOURS_16: Goal =
    at_least("neighbours-16", "beside busy loops, 16 open: our calls/s ÷ tonic-UDS", 5.0, 7.0);
pub const NEIGHBOURS_CHAIN: Goal =
    at_least("neighbours-chain", "beside busy loops, 3 hops: tonic-UDS p50 ÷ ours", 6.0, 8.0);

pub const QUOTA: Goal = Goal {
    stretch: None,
    ..at_least("quota", "0.6 cores for both sides, 8,000 calls/s: tonic-UDS p99 ÷ ours", 5.0, 0.0)
};

// Runtimes with several workers.
pub const WORKERS_P99: Goal =
    Goal { unit: "µs", ..at_most("workers-p99", "2 workers, 1 open: p99", 12.0, 6.0) };
pub const WORKERS_THROUGHPUT: Goal =
    at_least("workers-throughput", "2 workers, 64 open: calls/s ÷ current thread's", 0.85, 1.0);
pub const BURN: Goal = Goal {
    stretch: None,
    ..at_most("burn", "8 computing handlers of one channel, 4 workers: our time ÷ tonic-UDS", 1.1, 0.0)
};
pub const BLOCKED: Goal = Goal {
    stretch: None,
    unit: "ms",
    ..at_most("blocked", "calls beside a handler in block_in_place, 4 workers: p99", 2.0, 0.0)
};
pub const BLOCKED_WORKER: Goal = Goal {
    stretch: None,
    ..at_most("blocked-worker", "calls beside a blocked worker of 4: our p99 ÷ tonic-UDS", 1.0, 0.0)
};

/// All goals, in the order in which they are measured.
pub const ALL: [Goal; 52] = [
    CORE,
    P50,
    STUBS_P50,
    P99,
    THROUGHPUT,
    CPU,
    STUBS_THROUGHPUT,
    STUBS_CPU,
    OPEN_LOOP,
    PARK,
    CLIENTS,
    CLIENTS_UDS,
    CHAIN,
    NAMED,
    REPLICAS,
    STREAMS,
    LARGE,
    LARGE_SHARED,
    LARGE_UNREAD,
    LARGE_SMALL,
    LARGE_CHAIN,
    LARGE_POD_HARDWARE,
    LARGE_POD_SOFTWARE,
    POD_LARGE_HARDWARE,
    POD_LARGE_SOFTWARE,
    POD_STREAM_HARDWARE,
    POD_STREAM_SOFTWARE,
    POD_MEMORY,
    POD_TAIL_HARDWARE,
    POD_TAIL_SOFTWARE,
    POD_CLIENTS_HARDWARE,
    POD_CLIENTS_SOFTWARE,
    POD_NULL,
    POD_IDLE_HARDWARE,
    POD_IDLE_SOFTWARE,
    IDLE_LINKS,
    CONNECT,
    CANCEL,
    MEMORY,
    IDLE_CPU,
    NEIGHBOURS_THROUGHPUT,
    NEIGHBOURS_P99,
    NEIGHBOURS_OPEN_LOOP_P50,
    NEIGHBOURS_OPEN_LOOP_P99,
    NEIGHBOURS_16,
    NEIGHBOURS_CHAIN,
    QUOTA,
    WORKERS_P99,
    WORKERS_THROUGHPUT,
    BURN,
    BLOCKED,
    BLOCKED_WORKER,
];

impl Goal {
    /// Returns `true` if this is the goal of that name, or one of those whose names go on with a hyphen.
    pub fn is_of(&self, name: &str) -> bool {
        self.goal.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Judges a measured value.
    pub fn judge(self, ratio: f64, from: String) -> Verdict {
        Verdict {
            goal: self,
            ratio,
            met: self.better.holds(ratio, self.reach),
            stretch_met: self.stretch.map(|stretch| self.better.holds(ratio, stretch)),
            from,
            disturbance: None,
        }
    }
}

impl Verdict {
    /// Notes the disturbance of the rows that it was made of.
    pub fn disturbed_by(self, disturbance: f64) -> Self {
        Self { disturbance: Some(disturbance), ..self }
    }
}

impl Better {
    fn holds(self, ratio: f64, bound: f64) -> bool {
        match self {
            Self::AtLeast => ratio >= bound,
            Self::AtMost => ratio <= bound,
        }
    }

    fn sign(self) -> char {
        match self {
            Self::AtLeast => '≥',
            Self::AtMost => '≤',
        }
    }
}

/// Renders a line for each verdict.
pub fn render(verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for Verdict { goal, ratio, met, stretch_met, from, .. } in verdicts {
        let sign = goal.better.sign();
        let unit = goal.unit;
        let ratio = number(*ratio);
        let word = match (met, stretch_met) {
            (_, Some(true)) => "met, and the stretch",
            (true, _) => "met",
            (false, _) => "not met",
        };
        let stretch = goal.stretch.map_or(String::new(), |stretch| format!(", stretch {sign} {stretch}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<70} {ratio:>8} {unit:<9} {sign} {}{stretch}: {word}\n    {from}",
            goal.what, goal.reach
        );
    }
    let met = verdicts.iter().filter(|verdict| verdict.met).count();
    let _ = writeln!(text, "{met} of {} met", verdicts.len());
    let disturbances = verdicts.iter().filter_map(|verdict| verdict.disturbance);
    let disturbance = median(disturbances.collect());
    if disturbance > DISTURBED {
        let _ = writeln!(
            text,
            "Other processes kept {disturbance:.1} cores busy meanwhile: measure again without them."
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_on_their_side() {
        let word = |verdict: Verdict| (verdict.met, verdict.stretch_met);
        assert_eq!(word(P50.judge(11.9, String::new())), (false, Some(false)));
        assert_eq!(word(P50.judge(12.0, String::new())), (true, Some(false)));
        assert_eq!(word(PARK.judge(1.1, String::new())), (true, Some(false)));
        assert_eq!(word(PARK.judge(1.0, String::new())), (true, Some(true)));
        assert_eq!(word(IDLE_CPU.judge(1.0, String::new())), (false, None));
    }

    #[test]
    fn a_name_stands_for_a_goal_and_those_below() {
        let of = |name: &str| ALL.iter().filter(|goal| goal.is_of(name)).count();
        assert_eq!((of("p50"), of("neighbours-open-loop"), of("neighbours"), of("workers")), (1, 2, 6, 2));
        assert_eq!((of(""), of("p"), of("neighbours-"), of("weather")), (0, 0, 0, 0));
    }

    #[test]
    fn verdicts_as_they_are_read_by_programs() {
        let line = serde_json::to_value(P50.judge(30.0, "why".into())).unwrap();
        assert_eq!(line["goal"], "p50");
        assert_eq!((&line["ratio"], &line["reach"]), (&30.0.into(), &12.0.into()));
        assert_eq!((&line["met"], &line["stretch_met"]), (&true.into(), &true.into()));
    }
}
