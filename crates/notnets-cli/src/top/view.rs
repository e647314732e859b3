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
    let headings = table.headings.iter().enumerate().map(|(column, heading)| {
        let is_sorted = chosen.is_some_and(|(_, sort)| sort == column);
        let style = if is_sorted { Modifier::BOLD | Modifier::UNDERLINED } else { Modifier::BOLD };
        drawn(heading, column, table).style(Style::default().add_modifier(style))
    });
    let rows = table.rows.iter().map(|row| {
        DrawnRow::new(row.cells.iter().enumerate().map(|(column, cell)| drawn(cell.text(), column, table)))
    });
    let mut state = TableState::default().with_selected(chosen.map(|(row, _)| row));
    let title = if chosen.is_some() { format!("> {}", table.title) } else { table.title.clone() };
    let widget = DrawnTable::new(rows, widths(table))
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

/// The first column gives way where there is no room.
fn widths(table: &Table) -> impl Iterator<Item = Constraint> {
    (0..table.headings.len()).map(|column| {
        let cells = table.rows.iter().map(|row| row.cells[column].text().chars().count());
        let width = cells.chain([table.headings[column].len()]).max().unwrap_or(0) as u16;
        if column == 0 { Constraint::Fill(1) } else { Constraint::Length(width) }
    })
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::*;
    use crate::top::rates::{Interval, LinkRates, MethodRates, ProcessRates};

    fn drawn(app: &mut App, interval: &Interval) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(110, 20)).expect("a buffer");
        let page = app.page(interval);
        terminal.draw(|frame| draw(frame, &page, app)).expect("a buffer");
        let buffer = terminal.backend().buffer();
        let line = |y| (0..110).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
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
