//! Findings: sentences, each with its level and what to do about it.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// It works, and not as well or as safely as it could.
    Warning,
    /// It keeps a pod from working.
    Fault,
}

/// One thing that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The subject, in a word.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// The finding.
    pub text: String,
    /// The remedy.
    pub todo: Option<String>,
}

impl Finding {
    fn new(level: Level, check: &'static str, text: impl Into<String>) -> Self {
        Self { check, level, text: text.into(), todo: None }
    }

    pub fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, text)
    }

    pub fn note(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Note, check, text)
    }

    pub fn warning(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Warning, check, text)
    }

    pub fn fault(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Fault, check, text)
    }

    /// Adds what to do about it.
    pub fn todo(self, todo: impl Into<String>) -> Self {
        Self { todo: Some(todo.into()), ..self }
    }
}

/// The measurements between two hosts.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// A line over and back, as the region is kept coherent: the least of many, in nanoseconds.
    pub line_round_trip_ns: f64,
    /// Bytes written (and written back) in a second, in GB.
    pub write_gb_per_s: f64,
    /// Bytes of the other host read (and invalidated before) in a second, in GB.
    pub read_gb_per_s: f64,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Findings {
    region: String,
    /// The pod's name.
    pub pod: Option<String>,
    /// Which host this is.
    pub host: Option<u16>,
    /// Which host the other doctor was on.
    pub peer: Option<u16>,
    /// The measured quantity.
    pub figures: Option<Figures>,
    findings: Vec<Finding>,
}

impl Findings {
    pub fn new(region: &Path) -> Self {
        let region = region.display().to_string();
        Self { region, pod: None, host: None, peer: None, figures: None, findings: Vec::new() }
    }

    pub fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Returns the number of findings that keep a pod from working.
    pub fn faults(&self) -> usize {
        self.findings.iter().filter(|finding| finding.level == Level::Fault).count()
    }

    /// Returns one JSON object, for programs.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("plain structs always serialise") + "\n"
    }

    /// Returns lines of text, for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { check, level, text: sentence, todo } in &self.findings {
            let level = match level {
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Warning => "WARNING",
                Level::Fault => "FAULT",
            };
            writeln!(text, "{level:<8}{check:<11} {sentence}").expect("a string");
            if let Some(todo) = todo {
                writeln!(text, "{:<20}→ {todo}", "").expect("a string");
            }
        }
        text
    }
}
