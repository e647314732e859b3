//! Tables and their cells.

use std::io::{self, IsTerminal};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ratatui::crossterm::terminal;

/// The end of a column at which its cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// The columns that a line of the terminal has, or `COLUMNS` says. `None` where lines may have any length.
pub fn width() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let seen = || io::stdout().is_terminal().then(terminal::size)?.ok().map(|(columns, _)| columns.into());
    said.or_else(seen).filter(|columns| *columns > 0)
}

/// A table whose first column is aligned to the left, and all others to the right.
pub fn aligned<const N: usize>(headings: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let sides: [Side; N] = std::array::from_fn(|column| if column == 0 { Side::Left } else { Side::Right });
    let rows: Vec<_> = rows.map(Vec::from).collect();
    table(&headings, &sides, &rows, width())
}

/// A table; where it is wider than `width`, a block of lines for each row, with a cell in each line.
pub fn table(headings: &[&str], sides: &[Side], rows: &[Vec<String>], width: Option<usize>) -> String {
    let headings: Vec<_> = headings.iter().map(|&heading| heading.to_owned()).collect();
    let longest = |column: usize| {
        let cells = rows.iter().map(|row| &row[column]).chain([&headings[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..headings.len()).map(longest).collect();
    let all = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    if width.is_some_and(|width| all > width) && !rows.is_empty() {
        return blocks(&headings, rows);
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).zip(sides).map(|((cell, width), side)| match side {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    std::iter::once(&headings).chain(rows).map(line).collect()
}

fn blocks(headings: &[String], rows: &[Vec<String>]) -> String {
    let width = headings.iter().map(|heading| heading.chars().count()).max().unwrap_or(0);
    let block = |row: &Vec<String>| {
        let cells = headings.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
        cells.map(|(heading, cell)| format!("{heading:<width$}  {cell}\n")).collect::<String>()
    };
    rows.iter().map(block).collect::<Vec<_>>().join("\n")
}

/// A value, or a question mark.
pub fn known(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| value.to_string())
}

/// How long ago, in its two largest units.
pub fn age(since: u64, now: SystemTime) -> String {
    let since = UNIX_EPOCH + Duration::from_secs(since);
    let seconds = now.duration_since(since).unwrap_or_default().as_secs();
    let minutes = seconds / 60;
    let hours = seconds / 3600;
    let days = seconds / 86_400;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_in_a_line_is_a_block() {
        let rows =
            [["inventory", "12", ""], ["cart", "3", "full"]].map(|row| row.map(str::to_owned).to_vec());
        let sides = [Side::Left, Side::Right, Side::Left];
        let of_width = |width| table(&["NAME", "CALLS", "WHY"], &sides, &rows, width);
        let wide = "NAME       CALLS  WHY\ninventory     12\ncart           3  full\n";
        assert_eq!([of_width(None), of_width(Some(22))], [wide, wide]);
        let narrow = "NAME   inventory\nCALLS  12\n\nNAME   cart\nCALLS  3\nWHY    full\n";
        assert_eq!(of_width(Some(21)), narrow);
    }
}
