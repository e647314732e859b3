//! How a page is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Cell as Drawn, Paragraph, Row as DrawnRow, Table as DrawnTable, TableState};

use super::app::{App, Page};
use super::tables::{Cell, Table};

/// Findings that are shown at most: they must not take the tables' place.
const FINDINGS: usize = 5;

/// So much of the first column is shown at least. Columns to the right are left out for that.
const FIRST: u16 = 16;

const KEYS: &str = "Enter more  Esc back  Tab table  s sort  r reverse  / filter  q end";

/// Draws a page.
pub fn draw(frame: &mut Frame<'_>, page: &Page, app: &App) {
    let findings = page.findings.len().min(FINDINGS) as u16;
    let heights =
        [Constraint::Length(1), Constraint::Length(findings), Constraint::Fill(1), Constraint::Length(1)];
    let [title, said, tables, keys] = Layout::vertical(heights).areas(frame.area());
    frame.render_widget(Line::styled(page.title.as_str(), Modifier::BOLD), title);
    let lines = page.findings.iter().take(FINDINGS).map(|finding| Line::raw(format!("! {finding}")));
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), said);
    let areas = Layout::vertical(page.tables.iter().map(|_| Constraint::Fill(1))).split(tables);
    for (pane, (content, area)) in page.tables.iter().zip(areas.iter()).enumerate() {
        let chosen = (pane == page.pane).then_some((page.row, page.sort));
        table(frame, *area, content, chosen);
    }
    frame.render_widget(Line::styled(last_line(app), Modifier::DIM), keys);
}

fn last_line(app: &App) -> String {
    match (app.is_typing, app.filter.as_str()) {
        (true, filter) => format!("/{filter}_"),
        (false, "") => KEYS.to_owned(),
        (false, filter) => format!("only with {filter:?} (Esc: all)  {KEYS}"),
    }
}

/// `chosen` are the row and the column by which it is sorted, of the table that keys go to.
fn table(frame: &mut Frame<'_>, area: Rect, table: &Table, chosen: Option<(usize, usize)>) {
    let widths = widths(table, area.width.saturating_sub(2));
    let shown = widths.len();
    let headings = table.headings.iter().enumerate().take(shown).map(|(column, heading)| {
        let is_sorted = chosen.is_some_and(|(_, sort)| sort == column);
        let style = if is_sorted { Modifier::BOLD | Modifier::UNDERLINED } else { Modifier::BOLD };
        drawn(heading, column, table).style(Style::default().add_modifier(style))
    });
    let rows = table.rows.iter().map(|row| {
        let cells = row.cells.iter().enumerate().take(shown);
        DrawnRow::new(cells.map(|(column, cell)| drawn(cell.text(), column, table)))
    });
    let mut state = TableState::default().with_selected(chosen.map(|(row, _)| row));
    let mut title = if chosen.is_some() { format!("> {}", table.title) } else { table.title.clone() };
    let hidden = table.headings.len() - shown;
    if hidden > 0 {
        title += &format!(", {hidden} more columns in a wider terminal");
    }
    let widget = DrawnTable::new(rows, widths)
        .header(DrawnRow::new(headings))
        .row_highlight_style(Modifier::REVERSED)
        .block(Block::bordered().title(title));
    frame.render_stateful_widget(widget, area, &mut state);
}

/// Numbers stand to the right, texts to the left.
fn drawn<'a>(text: &'a str, column: usize, table: &Table) -> Drawn<'a> {
    let text = Text::raw(text);
    let is_number = table.rows.first().is_some_and(|row| matches!(row.cells[column], Cell::Number(..)));
    Drawn::from(if is_number { text.right_aligned() } else { text })
}

/// The widths of the columns that fit: where there is no room the first one gives way, and then the last ones
/// are left out, since of a number that is cut off another one would be read.
fn widths(table: &Table, room: u16) -> Vec<Constraint> {
    let width = |column: usize| {
        let cells = table.rows.iter().map(|row| row.cells[column].text().chars().count());
        cells.chain([table.headings[column].len()]).max().unwrap_or(0) as u16
    };
    let mut used = width(0).min(FIRST);
    let others = (1..table.headings.len()).map(width).take_while(|width| {
        used += width + 1;
        used <= room
    });
    std::iter::once(Constraint::Fill(1)).chain(others.map(Constraint::Length)).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::*;
    use crate::top::rates::{Interval, LinkRates, MethodRates, ProcessRates};

    fn drawn(app: &mut App, interval: &Interval) -> Vec<String> {
        drawn_in(110, app, interval)
    }

    fn drawn_in(width: u16, app: &mut App, interval: &Interval) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, 20)).expect("a buffer");
        let page = app.page(interval);
        terminal.draw(|frame| draw(frame, &page, app)).expect("a buffer");
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..20).map(line).collect()
    }

    fn interval() -> Interval {
        let mut process = ProcessRates { pid: 42, command: "shop".to_owned(), ..ProcessRates::default() };
        process.served.calls.calls_per_second = 1234.0;
        process.served.links = 1;
        process.findings = (1..9).map(|n| format!("finding {n}")).collect();
        let mut link = LinkRates { link: 1, role: "server", name: "cart".to_owned(), ..LinkRates::default() };
        link.parked = true;
        link.activity.calls.calls_per_second = 99.0;
        process.links = vec![link];
        process.methods = vec![MethodRates { method: "/s.S/M".to_owned(), ..MethodRates::default() }];
        Interval { seconds: 1.0, processes: vec![process] }
    }

    #[test]
    fn processes_are_drawn() {
        let lines = drawn(&mut App::default(), &interval());
        assert!(lines[0].starts_with("notnets top: 1 processes"), "{lines:?}");
        assert!(lines[2].contains("PROCESS") && lines[2].contains("SERVED/s"), "{lines:?}");
        assert!(lines[3].contains("shop") && lines[3].contains(" 1234 "), "{lines:?}");
        assert!(lines[19].starts_with("Enter more"), "{lines:?}");
    }

    #[test]
    fn a_process_is_drawn_with_its_findings() {
        let (mut app, interval) = (App::default(), interval());
        app.press(KeyCode::Enter.into(), &interval);
        let lines = drawn(&mut app, &interval);
        assert_eq!((lines[0].as_str(), lines[1].as_str()), ("process 42 (shop)", "! finding 1"));
        assert!(lines[6].contains("> links"), "{lines:?}");
        assert!(lines[8].contains("1: cart <- ?") && lines[8].contains("parked"), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("/s.S/M")), "{lines:?}");
        app.press(KeyCode::Char('/').into(), &interval);
        app.press(KeyCode::Char('x').into(), &interval);
        let lines = drawn(&mut app, &interval);
        assert_eq!(lines[19], "/x_");
        assert!(!lines.iter().any(|line| line.contains("/s.S/M")), "{lines:?}");
    }

    #[test]
    fn columns_without_room_are_left_out_and_not_cut() {
        let (mut app, mut interval) = (App::default(), interval());
        app.press(KeyCode::Enter.into(), &interval);
        interval.processes[0].links[0].activity.calls.calls_per_second = 1_234_567.0;
        let lines = drawn_in(62, &mut app, &interval);
        assert!(lines[6].contains("> links, ") && lines[6].contains(" more columns in a wider"), "{lines:?}");
        let headings: Vec<_> = lines[7].trim_matches('│').split_whitespace().collect();
        assert!(headings.starts_with(&["LINK", "BY", "STATE", "CALLS/s"]), "{lines:?}");
        let all = super::super::tables::links(&interval.processes[0]).headings;
        assert!(headings.len() < all.len() && all.starts_with(&headings), "{lines:?}");
        assert!(lines[8].contains("1: cart <- ?") && lines[8].contains(" 1234567 "), "{lines:?}");
    }

    #[test]
    fn the_smallest_terminal_is_no_reason_to_panic() {
        let (mut app, interval) = (App::default(), interval());
        app.press(KeyCode::Enter.into(), &interval);
        for (width, height) in [(1, 1), (3, 2), (10, 4), (40, 8)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a buffer");
            let page = app.page(&interval);
            terminal.draw(|frame| draw(frame, &page, &app)).expect("a buffer");
        }
    }
}
