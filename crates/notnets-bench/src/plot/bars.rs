//! Bars.

use std::fmt::{Result, Write};

use notnets_cli_common::number::number;

use super::WIDTH;

/// A figure as a bar.
pub struct Bar<'a> {
    /// Gives it its colour.
    pub class: &'a str,
    /// Its name for people.
    pub label: &'a str,
    /// How long it is.
    pub value: f64,
}

/// Bars with their figures, on a scale that begins at zero.
pub fn bars(bars: &[Bar<'_>]) -> String {
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = draw(&mut svg, bars);
    svg
}

fn draw(svg: &mut String, bars: &[Bar<'_>]) -> Result {
    const BAR: f64 = 20.0;
    const LABELS: f64 = 82.0;
    const FIGURES: f64 = 58.0;
    let height = BAR * bars.len() as f64 + 4.0;
    let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    write!(svg, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"bars\">")?;
    for (nth, Bar { class, label, value }) in bars.iter().enumerate() {
        let top = 2.0 + BAR * nth as f64;
        let width = value / most * (WIDTH - LABELS - FIGURES);
        let middle = top + BAR / 2.0 + 3.5;
        let end = LABELS - 8.0;
        write!(svg, "<text class=\"axis\" text-anchor=\"end\" x=\"{end}\" y=\"{middle:.1}\">{label}</text>")?;
        let top = top + 3.0;
        let bar = BAR - 6.0;
        write!(
            svg,
            "<rect class=\"{class}\" x=\"{LABELS}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{bar}\" rx=\"2\"/>"
        )?;
        let x = LABELS + width + 6.0;
        let value = number(*value);
        write!(svg, "<text class=\"value\" x=\"{x:.1}\" y=\"{middle:.1}\">{value}</text>")?;
    }
    write!(svg, "</svg>")
}
