//! How a subcommand fails: one sentence for the user and an exit code.

use std::fmt;

/// Why a command could not do what it was asked to: what was tried, what
/// happened and what to do about it.
#[derive(Debug)]
pub struct Failure {
    sentence: String,
    exit_code: u8,
}

/// What a command ends with when it fails for any reason but a call's status.
const GENERAL: u8 = 1;
/// A call's status is added to this, so that scripts can tell statuses apart.
const STATUS_BASE: u8 = 64;

impl Failure {
    /// A failure that is not the status of a call.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit_code: GENERAL }
    }

    /// A call that ended with `code`.
    pub fn of_call(code: tonic::Code, sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit_code: STATUS_BASE + code as u8 }
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.sentence)
    }
}

#[cfg(feature = "bench")]
impl From<Box<dyn std::error::Error + Send + Sync>> for Failure {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::new(error.to_string())
    }
}
