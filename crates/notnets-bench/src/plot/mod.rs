//! Plots for reports, as SVG that needs nothing but the style sheet in [`STYLE`].
//!
//! A line, dot or bar has a class, which gives it its colour: `t-tcp`, `t-uds`, `t-notnets` and the like;
//! `grid`, `axis` and `value` are lines and texts.

mod bars;
mod latency;
mod levels;
#[cfg(test)]
mod readme_plot;
mod scale;

use std::path::Path;

pub use bars::{Bar, bars};
pub use latency::{Line, latency};
pub use levels::{Dots, levels};

/// The style sheet of reports and their plots.
pub const STYLE: &str = include_str!("style.css");

/// Checks that a report can be written there, before anything is measured. Leaves nothing behind, not even if
/// the process is killed.
pub fn check_writable(report: &Path) -> Result<(), String> {
    let directory = report.parent().filter(|parent| !parent.as_os_str().is_empty());
    tempfile::tempfile_in(directory.unwrap_or(Path::new("."))).map_err(|error| {
        format!("cannot write the report to {}: {error}; name another place with --report", report.display())
    })?;
    Ok(())
}

/// Escapes text for a page.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;
