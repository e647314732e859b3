//! A figure over the levels of a factor.

use std::fmt::{Result, Write};

use notnets_cli_common::number::number;

use super::scale::LogScale;
use super::{BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH};

/// A figure at some of the levels.
pub struct Dots<'a> {
    /// Gives them their colour.
    pub class: &'a str,
    /// Their name for people.
    pub label: &'a str,
    /// The nth level, and the figure there.
    pub points: Vec<(usize, f64)>,
}

/// Dots over `names` of levels, joined by lines if what is between two levels can be imagined. The figures'
/// axis is logarithmic.
pub fn levels(names: &[String], all: &[Dots<'_>], joined: bool) -> String {
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = draw(&mut svg, names, all, joined);
    svg
}

fn draw(svg: &mut String, names: &[String], all: &[Dots<'_>], joined: bool) -> Result {
    let figures = all.iter().flat_map(|dots| &dots.points).map(|(_, figure)| *figure).filter(|y| *y > 0.0);
    let (least, most) = figures.fold((f64::MAX, f64::MIN), |(low, high), y| (low.min(y), high.max(y)));
    write!(svg, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"figures by level\">")?;
    if least <= most {
        let scale = LogScale::around(least, most);
        scale.draw(svg, short)?;
        draw_names(svg, names)?;
        for dots in all {
            draw_dots(svg, names, &scale, dots, joined)?;
        }
    }
    write!(svg, "</svg>")
}

fn draw_names(svg: &mut String, names: &[String]) -> Result {
    // More names than this would run into each other.
    let every = names.len().div_ceil(8);
    for (nth, name) in names.iter().enumerate().step_by(every) {
        let x = x(nth, names.len());
        let y = HEIGHT - 8.0;
        let bottom = HEIGHT - BOTTOM;
        write!(svg, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>")?;
        write!(svg, "<text class=\"axis\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{y}\">{name}</text>")?;
    }
    Ok(())
}

fn draw_dots(svg: &mut String, names: &[String], scale: &LogScale, dots: &Dots<'_>, joined: bool) -> Result {
    let Dots { class, label, points } = dots;
    let points = || points.iter().filter(|(_, figure)| *figure > 0.0);
    if joined {
        write!(svg, "<polyline class=\"{class}\" points=\"")?;
        for (nth, figure) in points() {
            write!(svg, "{:.1},{:.1} ", x(*nth, names.len()), scale.y(*figure))?;
        }
        write!(svg, "\"/>")?;
    }
    for (nth, figure) in points() {
        let x = x(*nth, names.len());
        let y = scale.y(*figure);
        let name = &names[*nth];
        write!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\">")?;
        write!(svg, "<title>{label}, {name}: {}</title></circle>", number(*figure))?;
    }
    Ok(())
}

/// Returns where the nth of `of` levels stands.
fn x(nth: usize, of: usize) -> f64 {
    LEFT + (nth as f64 + 0.5) / of as f64 * (WIDTH - LEFT - RIGHT)
}

fn short(figure: f64) -> String {
    match figure {
        figure if figure >= 1e6 => format!("{} M", figure / 1e6),
        figure if figure >= 1e3 => format!("{} k", figure / 1e3),
        figure => format!("{figure}"),
    }
}
