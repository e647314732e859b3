//! Which tables are shown, in which order, and what keys do to that.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::rates::Interval;
use super::tables::{self, Subject, Table};

/// What is shown.
#[derive(Debug, Default)]
pub struct App {
    view: View,
    /// Only rows with this text are shown.
    pub filter: String,
    /// Keys go to the filter.
    pub is_typing: bool,
    /// The table that keys go to.
    pane: usize,
    /// The row that is chosen in it; the first one while that is not there.
    chosen: Option<Subject>,
    /// The column by which that table is sorted, if it was chosen.
    sort: Option<usize>,
    is_reversed: bool,
}

#[derive(Debug, Default, PartialEq)]
enum View {
    #[default]
    Processes,
    Process(u32),
    Link(u32, Subject),
}

/// The tables that are shown.
#[derive(Debug)]
pub struct Page {
    pub title: String,
    pub findings: Vec<String>,
    pub tables: Vec<Table>,
    /// Which one keys go to, the row of it that is chosen, and the column by which it is sorted.
    pub pane: usize,
    pub row: usize,
    pub sort: usize,
}

impl App {
    pub fn new(filter: &str) -> Self {
        Self { filter: filter.to_owned(), ..Self::default() }
    }

    /// What is shown of an interval. Goes back as far as it must if what was shown has ended.
    pub fn page(&mut self, interval: &Interval) -> Page {
        let mut page = self.unsorted(interval);
        self.pane = self.pane.min(page.tables.len() - 1);
        page.pane = self.pane;
        for (pane, table) in page.tables.iter_mut().enumerate() {
            let chosen = self.sort.filter(|column| pane == self.pane && *column < table.headings.len());
            let column = chosen.unwrap_or(table.busiest);
            table.filter(&self.filter);
            table.sort(column, self.is_reversed && pane == self.pane);
            if pane == self.pane {
                page.sort = column;
                let is_chosen = |of: &Subject| self.chosen.as_ref() == Some(of);
                page.row = table.rows.iter().position(|row| is_chosen(&row.of)).unwrap_or(0);
            }
        }
        page
    }

    fn unsorted(&mut self, interval: &Interval) -> Page {
        let title = tables::heading(interval);
        let page = |title, findings, tables| Page { title, findings, tables, pane: 0, row: 0, sort: 0 };
        let find = |pid| interval.processes.iter().find(|process| process.pid == pid);
        match &self.view {
            View::Processes => return page(title, Vec::new(), vec![tables::processes(interval)]),
            View::Process(pid) => {
                if let Some(process) = find(*pid) {
                    let title = format!("process {pid} ({})", process.command);
                    let tables = vec![tables::links(process), tables::methods(*pid, &process.methods)];
                    return page(title, process.findings.clone(), tables);
                }
            }
            View::Link(pid, of) => {
                if let Some(process) = find(*pid)
                    && let Some(link) = tables::find_link(process, of)
                {
                    let title = format!("link {} of process {pid} ({})", link.link, process.command);
                    let failed = Some(format!("last failure: {}", link.last_failure));
                    let findings = failed.filter(|_| !link.last_failure.is_empty());
                    let tables =
                        vec![tables::methods(*pid, &link.methods), tables::open_calls(&link.open_calls)];
                    return page(title, findings.into_iter().collect(), tables);
                }
            }
        }
        self.go_back();
        self.unsorted(interval)
    }

    /// All of an interval as plain text.
    pub fn everything(&self, interval: &Interval) -> String {
        let mut text = String::new();
        let mut add = |title: &str, mut table: Table| {
            table.filter(&self.filter);
            table.sort(table.busiest, false);
            if !table.rows.is_empty() {
                text += &format!("{title}{}\n", table.text());
            }
        };
        add("", tables::processes(interval));
        for process in &interval.processes {
            let title = format!("process {} ({})\n", process.pid, process.command);
            add(&title, tables::links(process));
            add("", tables::methods(process.pid, &process.methods));
        }
        for process in interval.processes.iter() {
            for finding in &process.findings {
                text += &format!("! process {} ({}): {finding}\n", process.pid, process.command);
            }
        }
        if text.is_empty() {
            text = "no process with counters can be seen that matches\n".to_owned();
        }
        text
    }

    /// Returns `false` for a key that ends the program.
    pub fn press(&mut self, key: KeyEvent, interval: &Interval) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return key.code != KeyCode::Char('c');
        }
        if self.is_typing {
            self.type_key(key.code);
            return true;
        }
        let page = self.page(interval);
        let table = &page.tables[page.pane];
        match key.code {
            KeyCode::Char('q') => return false,
            KeyCode::Up | KeyCode::Char('k') => self.choose(table, page.row.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.choose(table, page.row + 1),
            KeyCode::Home => self.choose(table, 0),
            KeyCode::End => self.choose(table, table.rows.len()),
            KeyCode::Enter => {
                if let Some(row) = table.rows.get(page.row) {
                    self.go_to(row.of.clone());
                }
            }
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc | KeyCode::Backspace => self.go_back(),
            KeyCode::Tab => self.show(None, (page.pane + 1) % page.tables.len()),
            KeyCode::Char('s') => self.sort = Some((page.sort + 1) % table.headings.len()),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.is_typing = true,
            _ => {}
        }
        true
    }

    fn type_key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char(character) => self.filter.push(character),
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            _ => {}
        }
    }

    fn choose(&mut self, table: &Table, row: usize) {
        let last = table.rows.len().saturating_sub(1);
        self.chosen = table.rows.get(row.min(last)).map(|row| row.of.clone());
    }

    fn go_to(&mut self, of: Subject) {
        match of {
            Subject::Process(pid) => self.show(Some(View::Process(pid)), 0),
            Subject::Link { pid, .. } => self.show(Some(View::Link(pid, of)), 0),
            Subject::Method { .. } | Subject::OpenCall(_) => return,
        }
        // What led here need not be in the names of what is here.
        self.filter.clear();
    }

    /// What was gone to is chosen again.
    fn go_back(&mut self) {
        let (before, chosen) = match std::mem::take(&mut self.view) {
            View::Processes => return,
            View::Process(pid) => (View::Processes, Subject::Process(pid)),
            View::Link(pid, of) => (View::Process(pid), of),
        };
        self.show(Some(before), 0);
        self.chosen = Some(chosen);
    }

    fn show(&mut self, view: Option<View>, pane: usize) {
        self.view = view.unwrap_or_else(|| std::mem::take(&mut self.view));
        self.pane = pane;
        self.chosen = None;
        self.sort = None;
        self.is_reversed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::rates::{LinkRates, ProcessRates};

    fn interval() -> Interval {
        let link = |link| LinkRates { link, role: "server", name: "x".to_owned(), ..LinkRates::default() };
        let process = |pid, command: &str| ProcessRates {
            pid,
            command: command.to_owned(),
            links: vec![link(1), link(2)],
            ..ProcessRates::default()
        };
        Interval { seconds: 1.0, processes: vec![process(1, "apple"), process(2, "pear")] }
    }

    fn press(app: &mut App, interval: &Interval, keys: &[KeyCode]) {
        assert!(keys.iter().all(|key| app.press((*key).into(), interval)));
    }

    #[test]
    fn enter_shows_more_and_escape_less() {
        let (mut app, interval) = (App::default(), interval());
        press(&mut app, &interval, &[KeyCode::Down, KeyCode::Down, KeyCode::Enter]);
        let page = app.page(&interval);
        assert_eq!((page.title.as_str(), page.tables.len()), ("process 2 (pear)", 2));
        press(&mut app, &interval, &[KeyCode::Char('j'), KeyCode::Enter]);
        assert_eq!(app.page(&interval).title, "link 2 of process 2 (pear)");
        press(&mut app, &interval, &[KeyCode::Esc]);
        let page = app.page(&interval);
        assert_eq!((page.title.as_str(), page.row), ("process 2 (pear)", 1));
        press(&mut app, &interval, &[KeyCode::Tab]);
        assert_eq!(app.page(&interval).pane, 1);
        press(&mut app, &interval, &[KeyCode::Esc]);
        assert_eq!(app.page(&interval).row, 1);
        assert!(!app.press(KeyCode::Char('q').into(), &interval));
    }

    #[test]
    fn what_has_ended_is_left() {
        let (mut app, mut interval) = (App::default(), interval());
        press(&mut app, &interval, &[KeyCode::Enter, KeyCode::Enter]);
        assert_eq!(app.page(&interval).title, "link 1 of process 1 (apple)");
        interval.processes[0].links.remove(0);
        assert_eq!(app.page(&interval).title, "process 1 (apple)");
        interval.processes.clear();
        let page = app.page(&interval);
        assert!(page.title.starts_with("notnets top") && page.tables[0].rows.is_empty());
        press(&mut app, &interval, &[KeyCode::Enter, KeyCode::Up, KeyCode::Down, KeyCode::Esc]);
    }

    #[test]
    fn rows_are_filtered_and_sorted() {
        let (mut app, interval) = (App::default(), interval());
        let keys = "/PEq".chars().map(KeyCode::Char);
        press(&mut app, &interval, &keys.collect::<Vec<_>>());
        assert_eq!(app.page(&interval).tables[0].rows.len(), 0);
        press(&mut app, &interval, &[KeyCode::Backspace, KeyCode::Enter]);
        let page = app.page(&interval);
        assert_eq!((page.tables[0].rows.len(), page.tables[0].rows[0].of.clone()), (1, Subject::Process(2)));
        press(&mut app, &interval, &[KeyCode::Esc, KeyCode::Char('r')]);
        let headings = app.page(&interval).tables[0].headings.len();
        // All columns, to the first: the other way round, so that z is before a.
        while app.page(&interval).sort != 0 {
            press(&mut app, &interval, &[KeyCode::Char('s')]);
        }
        let page = app.page(&interval);
        assert!(page.tables[0].rows[0].of == Subject::Process(2) && headings > 10);
    }
}
