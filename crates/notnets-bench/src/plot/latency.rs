//! Latencies by percentile.

use std::fmt::{Result, Write};

use notnets_cli_common::number::number;

use super::scale::LogScale;
use super::{BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH};

/// Where a percentile is marked.
const MARKED: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// How long something takes, from the fastest to the slowest in a thousand.
pub struct Line<'a> {
    /// Gives it its colour.
    pub class: &'a str,
    /// Its name for people.
    pub label: &'a str,
    /// Quantiles, and microseconds.
    pub points: Vec<(f64, f64)>,
}

/// A line for each. Both axes are logarithmic: each step to the right is a tenth as often.
pub fn latency(lines: &[Line<'_>]) -> String {
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = draw(&mut svg, lines);
    svg
}

fn draw(svg: &mut String, lines: &[Line<'_>]) -> Result {
    let times = lines.iter().flat_map(|line| &line.points).map(|(_, time)| *time).filter(|time| *time > 0.0);
    let (least, most) = times.fold((f64::MAX, f64::MIN), |(low, high), time| (low.min(time), high.max(time)));
    write!(svg, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"latency percentiles\">")?;
    if least <= most {
        let scale = LogScale::around(least, most);
        scale.draw(svg, duration)?;
        draw_percentiles(svg)?;
        for line in lines {
            draw_line(svg, &scale, line)?;
        }
    }
    write!(svg, "</svg>")
}

fn draw_percentiles(svg: &mut String) -> Result {
    for (quantile, label) in MARKED.into_iter().zip(["50 %", "90 %", "99 %", "99.9 %"]) {
        let x = x(quantile);
        let bottom = HEIGHT - BOTTOM;
        write!(svg, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>")?;
        let anchor = if quantile > 0.99 { "end" } else { "middle" };
        let x = if quantile > 0.99 { x + RIGHT } else { x };
        let y = HEIGHT - 8.0;
        write!(svg, "<text class=\"axis\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y}\">{label}</text>")?;
    }
    Ok(())
}

fn draw_line(svg: &mut String, scale: &LogScale, line: &Line<'_>) -> Result {
    let Line { class, label, points } = line;
    write!(svg, "<polyline class=\"{class}\" points=\"")?;
    for (quantile, time) in points {
        write!(svg, "{:.1},{:.1} ", x(*quantile), scale.y(*time))?;
    }
    write!(svg, "\"/>")?;
    for (quantile, time) in points.iter().filter(|(quantile, _)| MARKED.contains(quantile)) {
        let x = x(*quantile);
        let y = scale.y(*time);
        let percent = quantile * 100.0;
        write!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\">")?;
        write!(svg, "<title>{label}, {percent:.1} %: {} µs</title></circle>", number(*time))?;
    }
    Ok(())
}

/// Where a quantile stands: as far right as the rest is rare.
fn x(quantile: f64) -> f64 {
    LEFT - (1.0 - quantile).log10() / 3.0 * (WIDTH - LEFT - RIGHT)
}

/// Microseconds for an axis.
pub fn duration(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", us / 1e6),
        us if us >= 1e3 => format!("{} ms", us / 1e3),
        us => format!("{us} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rare_is_on_the_right() {
        assert!(x(0.5) < x(0.9));
        assert!((x(0.999) - (WIDTH - RIGHT)).abs() < 0.01);
    }
}
