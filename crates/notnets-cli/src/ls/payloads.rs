//! How a server's large payloads went and came, and the memory that its links have for them.

use std::collections::BTreeMap;

use notnets_core::stats::Snapshot;
use serde::Serialize;

use super::Served;
use crate::table::aligned;

/// What a server's counters say. All is `None` if it gives none.
#[derive(Debug, Default, Serialize)]
pub struct Memory {
    /// Those of which there were any, over all links so far.
    pub payloads: Option<BTreeMap<&'static str, Tally>>,
    /// Of the links that are open now.
    pub segments: Option<Segments>,
}

/// Frames with payloads of one kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tally {
    /// How many.
    pub frames: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Bytes of further segments.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Segments {
    /// The server's own.
    pub offered: u64,
    /// Its clients'.
    pub mapped: u64,
}

impl Memory {
    /// What these counters say.
    pub fn new(counters: Option<&Snapshot>) -> Self {
        let Some(counters) = counters else { return Self::default() };
        let counts = counters.counts();
        let present = counts.payloads.present();
        let payloads =
            present.map(|(kind, tally)| (kind.name(), Tally { frames: tally.frames, bytes: tally.bytes }));
        let (offered, mapped) = counters.segment_bytes();
        let segments = Segments { offered, mapped };
        Self { payloads: Some(payloads.collect()), segments: Some(segments) }
    }
}

/// A table of those servers that have anything to tell.
pub fn table(served: &[Served]) -> String {
    let mut rows = Vec::new();
    for server in served {
        let mut add = |what: String, frames: String, bytes: u64| {
            rows.push([server.address(), what, frames, bytes.to_string()]);
        };
        for (kind, tally) in server.memory.payloads.iter().flatten() {
            add(kind.replace('_', " "), tally.frames.to_string(), tally.bytes);
        }
        let segments = server.memory.segments.map_or([0; 2], |segments| [segments.offered, segments.mapped]);
        for (what, bytes) in ["segments offered", "segments mapped"].into_iter().zip(segments) {
            if bytes > 0 {
                add(what.to_owned(), "-".to_owned(), bytes);
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{}", aligned(["NAME", "LARGE PAYLOADS", "FRAMES", "BYTES"], rows.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(memory: Memory) -> Served {
        Served {
            name: "pictures".to_owned(),
            replica: None,
            pid: None,
            uid: 0,
            since: None,
            links: None,
            calls: None,
            refused: None,
            memory,
        }
    }

    #[test]
    fn what_there_is_to_tell_is_a_table() {
        let tally = |frames, bytes| Tally { frames, bytes };
        let payloads =
            [("sent_shared", tally(2, 2_097_152)), ("received_copied_untrusted", tally(10, 655_360))];
        let segments = Segments { offered: 0, mapped: 1_048_576 };
        let memory = Memory { payloads: Some(payloads.into_iter().collect()), segments: Some(segments) };
        let expected = "
NAME                 LARGE PAYLOADS  FRAMES    BYTES
pictures  received copied untrusted      10   655360
pictures                sent shared       2  2097152
pictures            segments mapped       -  1048576
";
        assert_eq!(table(&[served(Memory::default()), served(memory)]), expected);
    }

    #[test]
    fn where_there_is_nothing_there_is_no_table() {
        let nothing = Memory::new(Some(&Snapshot::default()));
        assert_eq!(table(&[served(Memory::default()), served(nothing)]), "");
    }
}
