//! The plot of the project's README, drawn from the table of figures in `docs/benchmarking.md`.

use std::path::Path;
use std::{env, fs};

use super::{Bar, STYLE, bars};

/// A journey of the demo, with its calls per second over a Unix socket and over NotNets.
struct Row<'a> {
    journey: &'a str,
    uds: f64,
    notnets: f64,
}

/// Reads the demo's table. Columns 5 to 7 are calls per second over TCP, Unix sockets and NotNets.
fn rows(page: &str) -> Vec<Row<'_>> {
    let table = page.lines().skip_while(|line| !line.starts_with("| journey |")).skip(2);
    table.take_while(|line| line.starts_with('|')).map(row).collect()
}

fn row(line: &str) -> Row<'_> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let figure = |column: usize| cells[column].replace(',', "").parse().unwrap();
    Row { journey: cells[0], uds: figure(6), notnets: figure(7) }
}

/// Draws calls per second as a file that brings its style along.
fn draw<'a>(rows: &[Row<'a>]) -> String {
    let pair = |row: &Row<'a>| {
        [
            Bar { class: "t-uds", label: row.journey, value: row.uds },
            Bar { class: "t-notnets", label: "", value: row.notnets },
        ]
    };
    let drawn = bars(&rows.iter().flat_map(pair).collect::<Vec<_>>());
    let opening = "<svg xmlns=\"http://www.w3.org/2000/svg\" ";
    let background = "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>";
    let (attributes, content) = drawn.strip_prefix("<svg ").unwrap().split_once('>').unwrap();
    format!("{opening}{attributes}><style>{STYLE}</style>{background}{content}\n")
}

/// With `UPDATE_PLOTS` set it writes the plot, otherwise it compares.
#[test]
fn readme_plot_is_that_of_the_figures() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = fs::read_to_string(docs.join("benchmarking.md")).unwrap();
    let rows = rows(&page);
    assert!(!rows.is_empty());

    let plot = draw(&rows);
    if env::var_os("UPDATE_PLOTS").is_some() {
        fs::write(docs.join("calls.svg"), &plot).unwrap();
    }
    assert_eq!(
        plot,
        fs::read_to_string(docs.join("calls.svg")).unwrap(),
        "draw it again with UPDATE_PLOTS=1"
    );
}
