//! The states of a stream, and their transitions.

/// Where a stream is.
///
/// ```text
///                   opened, or REQUEST received
///                                |
///                  +-------------v-------------+
///         EndSent  |           Open            |  EndReceived
///       +----------+                           +----------+
///       |          +-------------+-------------+          |
///       v                        |                        v
/// HalfClosedLocal                |                HalfClosedRemote
///       |                        |                        |
///       +------------------------+------------------------+
///                                |
///      +--------------+----------+-----+-------------------+
///      | Failed       | Released       | ResponseEnded     | StatusSent, ResetReceived
///      v              v                v                   v
///  ResetSent ----> Abandoned        Closed ------------> Vacant
///      |  Released    |                ^    Released       ^
///      |              |                |                   |
///      +--------------+----------------+                   |
///       ResetAnswered +------------------------------------+
///                      ResetAnswered
/// ```
///
/// This is the whole table. An input changes nothing where a cell is empty:
///
/// | | `Open` | `HalfClosedLocal` | `HalfClosedRemote` | `ResetSent` | `Abandoned` | `Closed` |
/// | --- | --- | --- | --- | --- | --- | --- |
/// | `EndSent` | `HalfClosedLocal` | | | | | |
/// | `EndReceived` | `HalfClosedRemote` | | | | | |
/// | `StatusSent` | `Vacant` | | `Vacant` | | | |
/// | `ResponseEnded` | `Closed` | `Closed` | | | | |
/// | `ResetReceived` | `Vacant` | | `Vacant` | | | |
/// | `ResetAnswered` | | | | `Closed` | `Vacant` | |
/// | `Failed` | `ResetSent` | `ResetSent` | | | | |
/// | `Released` | `Abandoned` | `Abandoned` | `Abandoned` | `Abandoned` | | `Vacant` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is no stream: its slot is free.
    Vacant,
    /// Both sides may send.
    Open,
    /// A client's: all of the request is sent, and the response is to come.
    HalfClosedLocal,
    /// A server's: all of the request has come, and the response is to be sent.
    HalfClosedRemote,
    /// A client's: this side has reset it and waits for the peer's answer. The application has yet to read
    /// why.
    ResetSent,
    /// This side has reset it and waits for the peer's answer. The application is done with it.
    Abandoned,
    /// A client's: both directions have ended. The application has yet to take what came, or why it failed.
    Closed,
}

/// An input to a stream's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Client: the last of the request is sent.
    EndSent,
    /// Server: the last of the request has come.
    EndReceived,
    /// Server: the status is sent, and with it all of the response.
    StatusSent,
    /// Client: the response has ended, with a status, a reset, or because the server goes away.
    ResponseEnded,
    /// Server: the client has reset it.
    ResetReceived,
    /// The peer has answered this side's reset, or has itself ended or reset the stream before it saw that.
    ResetAnswered,
    /// Client: the call has failed on this side, and the application is to read why.
    Failed,
    /// The application is done with it.
    Released,
}

impl State {
    /// The state that an input leads to; `None` if it changes nothing.
    #[inline]
    pub fn next(self, input: Input) -> Option<Self> {
        use State::{Abandoned, Closed, HalfClosedLocal, HalfClosedRemote, Open, ResetSent, Vacant};
        Some(match (self, input) {
            (Open, Input::EndSent) => HalfClosedLocal,
            (Open, Input::EndReceived) => HalfClosedRemote,
            (Open | HalfClosedRemote, Input::StatusSent | Input::ResetReceived) => Vacant,
            (Open | HalfClosedLocal, Input::ResponseEnded) => Closed,
            (Open | HalfClosedLocal, Input::Failed) => ResetSent,
            (Open | HalfClosedLocal | HalfClosedRemote | ResetSent, Input::Released) => Abandoned,
            (Closed, Input::Released) => Vacant,
            (ResetSent, Input::ResetAnswered) => Closed,
            (Abandoned, Input::ResetAnswered) => Vacant,
            _ => return None,
        })
    }

    /// Returns `true` while this side may send data or a status.
    #[inline]
    pub fn may_send(self) -> bool {
        matches!(self, Self::Open | Self::HalfClosedRemote)
    }

    /// Returns `true` while the peer may send data or a status.
    #[inline]
    pub fn may_receive(self) -> bool {
        matches!(self, Self::Open | Self::HalfClosedLocal)
    }

    /// Returns `true` once all of a request or response has come that will.
    #[inline]
    pub fn has_received_all(self) -> bool {
        matches!(self, Self::HalfClosedRemote | Self::Closed)
    }

    /// Returns `true` while this side waits for the answer to its reset.
    #[inline]
    pub fn is_reset(self) -> bool {
        matches!(self, Self::ResetSent | Self::Abandoned)
    }

    /// Returns `true` while the stream counts against the server's limit of streams: the server may still
    /// know it.
    #[inline]
    pub fn counts(self) -> bool {
        !matches!(self, Self::Closed | Self::Vacant)
    }
}

#[cfg(test)]
mod tests {
    use super::Input::{
        EndReceived, EndSent, Failed, Released, ResetAnswered, ResetReceived, ResponseEnded, StatusSent,
    };
    use super::State::{Abandoned, Closed, HalfClosedLocal, HalfClosedRemote, Open, ResetSent, Vacant};
    use super::*;

    const STATES: [State; 7] =
        [Vacant, Open, HalfClosedLocal, HalfClosedRemote, ResetSent, Abandoned, Closed];
    const INPUTS: [Input; 8] =
        [EndSent, EndReceived, StatusSent, ResponseEnded, ResetReceived, ResetAnswered, Failed, Released];

    #[test]
    fn every_state_meets_every_input() {
        // In the order of INPUTS.
        let table = |state| match state {
            Vacant => [None; 8],
            Open => [
                Some(HalfClosedLocal),
                Some(HalfClosedRemote),
                Some(Vacant),
                Some(Closed),
                Some(Vacant),
                None,
                Some(ResetSent),
                Some(Abandoned),
            ],
            HalfClosedLocal => [None, None, None, Some(Closed), None, None, Some(ResetSent), Some(Abandoned)],
            HalfClosedRemote => [None, None, Some(Vacant), None, Some(Vacant), None, None, Some(Abandoned)],
            ResetSent => [None, None, None, None, None, Some(Closed), None, Some(Abandoned)],
            Abandoned => [None, None, None, None, None, Some(Vacant), None, None],
            Closed => [None, None, None, None, None, None, None, Some(Vacant)],
        };
        for state in STATES {
            assert_eq!(INPUTS.map(|input| state.next(input)), table(state), "{state:?}");
        }
    }

    /// The inputs that a side's application and peer can cause.
    const CLIENT: [Input; 5] = [EndSent, ResponseEnded, ResetAnswered, Failed, Released];
    const SERVER: [Input; 5] = [EndReceived, StatusSent, ResetReceived, ResetAnswered, Released];

    /// All states that these inputs lead to.
    fn reached(inputs: &[Input]) -> Vec<State> {
        let mut reached = vec![Open];
        let mut at = 0;
        while at < reached.len() {
            let state = reached[at];
            for next in inputs.iter().filter_map(|input| state.next(*input)) {
                if !reached.contains(&next) {
                    reached.push(next);
                }
            }
            at += 1;
        }
        reached
    }

    #[test]
    fn each_side_reaches_its_own_states() {
        let mut client = reached(&CLIENT);
        let mut server = reached(&SERVER);
        client.sort_by_key(|state| *state as u8);
        server.sort_by_key(|state| *state as u8);
        assert_eq!(client, [Vacant, Open, HalfClosedLocal, ResetSent, Abandoned, Closed]);
        assert_eq!(server, [Vacant, Open, HalfClosedRemote, Abandoned]);
    }

    #[test]
    fn every_stream_can_end() {
        for inputs in [CLIENT, SERVER] {
            for state in reached(&inputs) {
                // The application lets go, and the peer answers the reset if there was one.
                let mut end = state;
                for input in [Released, ResetAnswered] {
                    end = end.next(input).unwrap_or(end);
                }
                assert_eq!(end, Vacant, "{state:?}");
            }
        }
    }

    #[test]
    fn what_a_state_allows() {
        let those = |is: fn(State) -> bool| STATES.into_iter().filter(|state| is(*state)).collect::<Vec<_>>();
        assert_eq!(those(State::may_send), [Open, HalfClosedRemote]);
        assert_eq!(those(State::may_receive), [Open, HalfClosedLocal]);
        assert_eq!(those(State::has_received_all), [HalfClosedRemote, Closed]);
        assert_eq!(those(State::is_reset), [ResetSent, Abandoned]);
        assert_eq!(those(State::counts), [Open, HalfClosedLocal, HalfClosedRemote, ResetSent, Abandoned]);
    }
}
