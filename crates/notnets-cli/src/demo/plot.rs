//! The report's plots, as SVG that needs nothing but a style sheet.
//!
//! Classes: `t-tcp`, `t-uds` and `t-notnets` colour a transport; `grid`, `axis` and `value` are
//! lines and texts.

use std::fmt::{Result, Write};

use super::load::QUANTILES;
use super::measure::Row;
use crate::number::number;

/// How long a journey takes, from the fastest to the slowest in a thousand: a line for each row.
///
/// Both axes are logarithmic: each step to the right is a tenth as often.
pub fn latency(rows: &[&Row]) -> String {
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = draw_latency(&mut svg, rows);
    svg
}

/// A bar for each row, with its figure, on a scale that begins at zero.
pub fn bars(rows: &[&Row], figure: impl Fn(&Row) -> f64) -> String {
    let mut svg = String::new();
    let _ = draw_bars(&mut svg, rows, figure);
    svg
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;

fn draw_latency(svg: &mut String, rows: &[&Row]) -> Result {
    let times = rows.iter().flat_map(|row| &row.quantiles_us).copied().filter(|time| *time > 0.0);
    let (least, most) = times.fold((f64::MAX, f64::MIN), |(low, high), time| (low.min(time), high.max(time)));
    write!(svg, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"latency percentiles\">")?;
    if least <= most {
        let scale = LogScale::around(least, most);
        draw_axes(svg, &scale)?;
        for row in rows {
            draw_line(svg, &scale, row)?;
        }
    }
    write!(svg, "</svg>")
}

fn draw_axes(svg: &mut String, scale: &LogScale) -> Result {
    for time in scale.ticks() {
        let y = scale.y(time);
        write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            WIDTH - RIGHT
        )?;
        let (x, y, time) = (LEFT - 6.0, y + 3.5, duration(time));
        write!(svg, "<text class=\"axis\" text-anchor=\"end\" x=\"{x:.1}\" y=\"{y:.1}\">{time}</text>")?;
    }
    for (quantile, label) in [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")] {
        let (x, bottom) = (x(quantile), HEIGHT - BOTTOM);
        write!(svg, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>")?;
        let anchor = if quantile > 0.99 { "end" } else { "middle" };
        let (x, y) = (if quantile > 0.99 { x + RIGHT } else { x }, HEIGHT - 8.0);
        write!(svg, "<text class=\"axis\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y}\">{label}</text>")?;
    }
    Ok(())
}

fn draw_line(svg: &mut String, scale: &LogScale, row: &Row) -> Result {
    let transport = row.transport;
    write!(svg, "<polyline class=\"t-{transport}\" points=\"")?;
    let points =
        || QUANTILES.iter().zip(&row.quantiles_us).map(|(q, time)| (*q, *time, x(*q), scale.y(*time)));
    for (_, _, x, y) in points() {
        write!(svg, "{x:.1},{y:.1} ")?;
    }
    write!(svg, "\"/>")?;
    for (quantile, time, x, y) in points().filter(|(quantile, ..)| [0.5, 0.9, 0.99, 0.999].contains(quantile))
    {
        write!(svg, "<circle class=\"t-{transport}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\">")?;
        let (label, percent) = (transport.label(), quantile * 100.0);
        write!(svg, "<title>{label}, {percent:.1} %: {} µs</title></circle>", number(time))?;
    }
    Ok(())
}

/// Where a quantile stands: as far right as the rest is rare.
fn x(quantile: f64) -> f64 {
    LEFT - (1.0 - quantile).log10() / 3.0 * (WIDTH - LEFT - RIGHT)
}

/// Times from bottom to top, between two round ones.
struct LogScale {
    least: f64,
    most: f64,
}

impl LogScale {
    fn around(least: f64, most: f64) -> Self {
        let below = steps().take_while(|step| *step <= least).last().unwrap_or(least);
        let above = steps().find(|step| *step > most).unwrap_or(most * 2.0);
        Self { least: below, most: above }
    }

    fn y(&self, time: f64) -> f64 {
        let part = (time.max(self.least) / self.least).ln() / (self.most / self.least).ln();
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (least, most) = (self.least, self.most);
        steps().filter(move |step| (least..=most).contains(step))
    }
}

/// 1, 2, 5, 10 … from a tenth of a microsecond to beyond a minute.
fn steps() -> impl Iterator<Item = f64> {
    (-1..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
}

fn duration(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", us / 1e6),
        us if us >= 1e3 => format!("{} ms", us / 1e3),
        us => format!("{us} µs"),
    }
}

fn draw_bars(svg: &mut String, rows: &[&Row], figure: impl Fn(&Row) -> f64) -> Result {
    const BAR: f64 = 20.0;
    const LABELS: f64 = 82.0;
    const FIGURES: f64 = 58.0;
    let height = BAR * rows.len() as f64 + 4.0;
    let most = rows.iter().map(|row| figure(row)).fold(f64::MIN_POSITIVE, f64::max);
    write!(svg, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"bars\">")?;
    for (nth, row) in rows.iter().enumerate() {
        let (value, top) = (figure(row), 2.0 + BAR * nth as f64);
        let (width, middle) = (value / most * (WIDTH - LABELS - FIGURES), top + BAR / 2.0 + 3.5);
        let (transport, label, end) = (row.transport, row.transport.label(), LABELS - 8.0);
        write!(svg, "<text class=\"axis\" text-anchor=\"end\" x=\"{end}\" y=\"{middle:.1}\">{label}</text>")?;
        let (top, bar) = (top + 3.0, BAR - 6.0);
        write!(
            svg,
            "<rect class=\"t-{transport}\" x=\"{LABELS}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{bar}\" rx=\"2\"/>"
        )?;
        let (x, value) = (LABELS + width + 6.0, number(value));
        write!(svg, "<text class=\"value\" x=\"{x:.1}\" y=\"{middle:.1}\">{value}</text>")?;
    }
    write!(svg, "</svg>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_figures_and_keep_the_order() {
        let scale = LogScale::around(130.0, 4100.0);
        assert_eq!((scale.least, scale.most), (100.0, 5000.0));
        assert_eq!(scale.ticks().collect::<Vec<_>>(), [100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]);
        assert!(scale.y(130.0) > scale.y(4100.0), "longer is higher up");
        assert_eq!((scale.y(100.0), scale.y(5000.0)), (HEIGHT - BOTTOM, TOP));
        assert!(x(0.5) < x(0.9));
        assert!((x(0.999) - (WIDTH - RIGHT)).abs() < 0.01);
    }
}
