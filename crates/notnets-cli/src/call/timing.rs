//! How long the parts of a call took.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::units::micros;

/// A stopwatch with the marks of a call.
pub struct Timing {
    began: Instant,
    connected: Duration,
    described: Duration,
    head: Option<Duration>,
    first_reply: Option<Duration>,
    ended: Duration,
    replies: u64,
}

impl Timing {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            connected: Duration::ZERO,
            described: Duration::ZERO,
            head: None,
            first_reply: None,
            ended: Duration::ZERO,
            replies: 0,
        }
    }

    /// There is a connection.
    pub fn connected(&mut self) {
        self.connected = self.began.elapsed();
    }

    /// The method is known; the call begins.
    pub fn described(&mut self) {
        self.described = self.began.elapsed();
    }

    /// The head of the response has come.
    pub fn head(&mut self) {
        self.head = Some(self.began.elapsed());
    }

    /// A reply has come.
    pub fn reply(&mut self) {
        self.replies += 1;
        self.first_reply.get_or_insert_with(|| self.began.elapsed());
    }

    /// The call is over.
    pub fn ended(&mut self) {
        self.ended = self.began.elapsed();
    }

    /// Since the call began.
    fn of_call(&self, mark: Duration) -> f64 {
        as_micros(mark.saturating_sub(self.described))
    }

    /// In a line.
    pub fn text(&self) -> String {
        let mut text = format!(
            "timing: connected in {}, method known in {}; of the call: ",
            micros(as_micros(self.connected)),
            micros(as_micros(self.described.saturating_sub(self.connected)))
        );
        for (what, mark) in [("metadata", self.head), ("first reply", self.first_reply)] {
            if let Some(mark) = mark {
                text += &format!("{what} after {}, ", micros(self.of_call(mark)));
            }
        }
        let replies = if self.replies == 1 { "reply" } else { "replies" };
        text + &format!("end after {} with {} {replies}", micros(self.of_call(self.ended)), self.replies)
    }

    /// Microseconds under `timing`.
    pub fn json(&self) -> Value {
        json!({"timing": {
            "connect_us": as_micros(self.connected),
            "describe_us": as_micros(self.described.saturating_sub(self.connected)),
            "metadata_us": self.head.map(|mark| self.of_call(mark)),
            "first_reply_us": self.first_reply.map(|mark| self.of_call(mark)),
            "call_us": self.of_call(self.ended),
            "replies": self.replies,
        }})
    }
}

fn as_micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
