//! Metrics as text, in version 0.0.4 of Prometheus' exposition format.

use std::fmt::{Display, Write};

/// What a metric is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The text so far.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// Labels of a series, as text has them between its braces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(String);

impl Labels {
    pub fn new<const N: usize>(labels: [(&str, &str); N]) -> Self {
        labels.into_iter().fold(Self(String::new()), |labels, (name, value)| labels.with(name, value))
    }

    /// These and one more.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let separator = if self.0.is_empty() { "" } else { "," };
        Self(format!("{}{separator}{name}=\"{}\"", self.0, escaped(value)))
    }
}

impl Exposition {
    /// Begins a metric, all of whose series follow.
    pub fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    /// Adds a series' value.
    pub fn value(&mut self, name: &str, labels: &Labels, value: impl Display) {
        self.line(format_args!("{name}{{{}}} {value}", labels.0));
    }

    /// Adds a value without labels.
    pub fn bare(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("{name} {value}"));
    }

    pub fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("strings take everything");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let labels = Labels::new([("a", "x"), ("b", "\"q\" \\ \n")]);
        let mut exposition = Exposition::default();
        exposition.metric("m_total", Kind::Counter, "What it counts.");
        exposition.value("m_total", &labels.with("c", ""), 7);
        let expected = "# HELP m_total What it counts.\n# TYPE m_total counter\n\
                        m_total{a=\"x\",b=\"\\\"q\\\" \\\\ \\n\",c=\"\"} 7\n";
        assert_eq!(exposition.into_text(), expected);
    }
}
