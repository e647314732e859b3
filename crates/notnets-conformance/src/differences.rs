//! Where NotNets is meant to differ from tonic over HTTP/2, and the comparison
//! of two observations under these exceptions.

use std::collections::BTreeSet;

use crate::Observation;
use crate::transport::Transport;

/// One fact of one case that differs on purpose.
#[derive(Debug)]
pub struct Difference {
    /// The case's name.
    pub case: &'static str,
    /// The fact's name in the case's observation.
    pub fact: &'static str,
    /// What tonic over HTTP/2 shows, or [`RACE`].
    pub http2: &'static str,
    /// What NotNets shows.
    pub notnets: &'static str,
    /// The side whose doing it is.
    pub side: Side,
    /// Why NotNets does not do the same.
    pub why: &'static str,
}

/// A side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The caller's.
    Client,
    /// That of the handler.
    Server,
    /// Each of them, alone.
    Either,
    /// The one that notices first: NotNets as a client does, before a server; another client may not.
    Faster,
}

/// In place of a value over HTTP/2 that a race decides, so that none can be pinned.
pub const RACE: &str = "(a race)";

/// Every intended difference. Both values are pinned, so that an entry which is
/// no longer true fails its test.
pub const INTENDED: &[Difference] = &[
    Difference {
        case: "cancel_after_begin",
        fact: "dropped",
        http2: RACE,
        notnets: "1",
        side: Side::Server,
        why: "tonic shows a handler that awaits its request stream a good end when HTTP/2 resets it, \
              so that a cut upload may look complete; NotNets drops the handler",
    },
    Difference {
        case: "cancel_after_first_response",
        fact: "dropping the replies stops the requests",
        http2: "false",
        notnets: "true",
        side: Side::Client,
        why: "hyper resets a call once both of its halves are dropped; to NotNets, nobody who waits \
              for replies is nobody who calls",
    },
    deadline("timeout_on_sleeping_server", "unary.code"),
    deadline("timeout_on_sleeping_server", "stream.code"),
    deadline("deadline_over_upload", "code"),
    Difference {
        case: "deadline_over_upload",
        fact: "dropped",
        http2: RACE,
        notnets: "1",
        side: Side::Server,
        why: "as in cancel_after_begin: NotNets drops the handler and shows it no end",
    },
    Difference {
        case: "deadline_over_stream",
        fact: "end",
        http2: "Ok",
        notnets: "DeadlineExceeded",
        side: Side::Either,
        why: "tonic's deadline ends with the response's head, that of NotNets covers the whole call",
    },
    Difference {
        case: "deadline_over_stream",
        fact: "all chunks came",
        http2: "true",
        notnets: "false",
        side: Side::Either,
        why: "the deadline covers the whole call",
    },
    panic("panic_in_unary"),
    panic("panic_mid_stream"),
    encode_error("encode_error_on_client", "at once: the encoder is quoted"),
    encode_error("encode_error_on_client", "later: the encoder is quoted"),
    Difference {
        case: "reply_over_limit",
        fact: "sending",
        http2: "Internal",
        notnets: "OutOfRange",
        side: Side::Client,
        why: "HTTP/2 has a reset and no status for what the client itself refuses to send",
    },
    Difference {
        case: "metadata_over_limit",
        fact: "code",
        http2: "Unknown",
        notnets: "ResourceExhausted",
        side: Side::Either,
        why: "HTTP/2 answers with the HTTP status 431, for which gRPC has no code",
    },
    Difference {
        case: "unimplemented_service",
        fact: "status.message",
        http2: r#""""#,
        notnets: r#""this server has no service notnets.conformance.Unserved""#,
        side: Side::Server,
        why: "a mistake in a service's name is found sooner when the answer repeats it",
    },
];

const fn deadline(case: &'static str, fact: &'static str) -> Difference {
    Difference {
        case,
        fact,
        http2: "Cancelled",
        notnets: "DeadlineExceeded",
        side: Side::Faster,
        why: "gRPC's code for a deadline that has passed is DEADLINE_EXCEEDED",
    }
}

const fn panic(case: &'static str) -> Difference {
    Difference {
        case,
        fact: "code",
        http2: "Cancelled",
        notnets: "Internal",
        side: Side::Server,
        why: "a handler that panicked has failed; nobody cancelled the call",
    }
}

const fn encode_error(case: &'static str, fact: &'static str) -> Difference {
    Difference {
        case,
        fact,
        http2: "false",
        notnets: "true",
        side: Side::Client,
        why: "HTTP/2 resets the stream and loses the status; NotNets fails the call with it",
    }
}

/// Every fact that is not as it should be, in words: equal over both
/// transports, or as pinned by `intended`. Empty when all is well.
#[must_use]
pub fn compare(
    case: &str,
    intended: &[Difference],
    reference: (Transport, &Observation),
    other: (Transport, &Observation),
) -> Vec<String> {
    let intended: Vec<&Difference> = intended.iter().filter(|entry| entry.case == case).collect();
    // A pinned fact that neither side noted is looked at too: its entry is stale.
    let mut facts: BTreeSet<&str> = intended.iter().map(|entry| entry.fact).collect();
    facts.extend(reference.1.names().chain(other.1.names()));

    let mut faults = Vec::new();
    for fact in facts {
        if let Some(difference) = intended.iter().find(|entry| entry.fact == fact) {
            for (transport, observation) in [reference, other] {
                let pinned = difference.expected(transport);
                let found = observation.get(fact).unwrap_or(NOTHING);
                if pinned != RACE && found != pinned {
                    faults.push(format!("{fact}: over {transport} {found}, pinned is {pinned}"));
                }
            }
        } else if reference.1.get(fact) != other.1.get(fact) {
            let [left, right] =
                [reference, other].map(|(name, seen)| (name, seen.get(fact).unwrap_or(NOTHING)));
            faults.push(format!("{fact}: over {} {}, over {} {}", left.0, left.1, right.0, right.1));
        }
    }
    faults
}

/// How a fact reads that was not noted.
const NOTHING: &str = "(not noted)";

impl Difference {
    fn expected(&self, transport: Transport) -> &'static str {
        match (transport, self.side) {
            (Transport::Tcp | Transport::Uds | Transport::UdsUnlayered, _) => self.http2,
            (Transport::ToHttp2, Side::Server) | (Transport::FromHttp2, Side::Client) => self.http2,
            (Transport::ToHttp2, Side::Client) | (Transport::FromHttp2, Side::Server) => self.notnets,
            (Transport::ToHttp2 | Transport::FromHttp2, Side::Either) => self.notnets,
            (Transport::ToHttp2, Side::Faster) => self.notnets,
            (Transport::FromHttp2, Side::Faster) => RACE,
            (
                Transport::NotNets
                | Transport::NotNetsUnlayered
                | Transport::PodHardware
                | Transport::PodSoftware,
                _,
            ) => self.notnets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINNED: &[Difference] = &[Difference {
        case: "case",
        fact: "code",
        http2: "Cancelled",
        notnets: "Ok",
        side: Side::Client,
        why: "a test",
    }];

    fn seen(code: &str, reply: u32) -> Observation {
        let mut seen = Observation::new();
        // `format_args` prints the code without quotes, as `Code` does.
        seen.note("code", format_args!("{code}"));
        seen.note("reply", reply);
        seen
    }

    fn faults(case: &str, left: (Transport, Observation), right: (Transport, Observation)) -> Vec<String> {
        compare(case, PINNED, (left.0, &left.1), (right.0, &right.1))
    }

    #[test]
    fn equal_observations_have_no_fault() {
        let (left, right) = ((Transport::Tcp, seen("Ok", 1)), (Transport::NotNets, seen("Ok", 1)));
        assert_eq!(faults("another", left, right), Vec::<String>::new());
    }

    #[test]
    fn a_difference_that_nobody_intended_is_a_fault() {
        let (left, right) = ((Transport::Tcp, seen("Ok", 1)), (Transport::NotNets, seen("Ok", 2)));
        assert_eq!(faults("another", left, right), ["reply: over tcp 1, over notnets 2"]);
    }

    #[test]
    fn a_fact_missing_on_one_side_is_a_fault() {
        let (left, right) = ((Transport::Tcp, seen("Ok", 1)), (Transport::NotNets, Observation::new()));
        assert_eq!(faults("another", left, right).len(), 2);
    }

    #[test]
    fn an_intended_difference_is_pinned_on_both_sides() {
        let good = ((Transport::Uds, seen("Cancelled", 1)), (Transport::NotNets, seen("Ok", 1)));
        assert_eq!(faults("case", good.0, good.1), Vec::<String>::new());
        let same = ((Transport::Uds, seen("Ok", 1)), (Transport::NotNets, seen("Ok", 1)));
        assert_eq!(faults("case", same.0, same.1), ["code: over uds Ok, pinned is Cancelled"]);
    }

    #[test]
    fn an_intended_difference_that_no_case_notes_is_stale() {
        let (left, right) = ((Transport::Tcp, Observation::new()), (Transport::NotNets, Observation::new()));
        assert_eq!(faults("case", left, right).len(), 2);
    }
}
