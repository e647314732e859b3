//! The failure of a subcommand: one sentence for the user and an exit code.

use std::fmt;

use serde_json::{Value, json};
use tonic::Code;

/// Why a command could not do what it was asked to: what was tried, what
/// happened and what to do about it.
#[derive(Debug)]
pub struct Failure {
    sentence: String,
    exit_code: u8,
    /// What a program is told in the sentence's place.
    json: Option<Value>,
}

/// The exit code of a command that fails for any reason but a call's status.
const GENERAL: u8 = 1;
/// A call's status is added to this, so that scripts can distinguish statuses.
const STATUS_BASE: u8 = 64;

impl Failure {
    /// Creates a failure that is not the status of a call.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit_code: GENERAL, json: None }
    }

    /// Creates the failure of a call that ended with `code`.
    pub fn of_call(code: Code, sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), exit_code: STATUS_BASE + code as u8, json: None }
    }

    /// With what a program is told instead of the sentence.
    pub fn with_json(mut self, error: Value) -> Self {
        self.json = Some(error);
        self
    }

    /// Prints the sentence on standard error; or an object, for a program.
    pub fn print(&self, json: bool) {
        if json {
            eprintln!("{}", json!({ "error": self.to_json() }));
        } else {
            eprintln!("notnets: {self}");
        }
    }

    fn to_json(&self) -> Value {
        if let Some(json) = &self.json {
            return json.clone();
        }
        match self.exit_code.checked_sub(STATUS_BASE).map(|code| Code::from(i32::from(code))) {
            Some(code) => json!({"code": code as i32, "status": code_name(code), "message": self.sentence}),
            None => json!({"message": self.sentence}),
        }
    }

    /// Returns the exit code of the process.
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

/// Returns the name of a code as gRPC's documents write it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
