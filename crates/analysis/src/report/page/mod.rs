//! Pages: one self-contained file each. They are readable without network and without script, on a phone, on a desk and
//! on paper; the script adds zoom and search to flame graphs, and sorting and filters to tables.

pub mod chart;
pub mod graph;
pub mod lanes;

use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::{heading::Line, units::count};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A table has at most so many rows: whatever the recording, a page stays small.
const ROWS_MAX: usize = 1000;

/// Nothing is loaded, and no script but the page's own is run.
fn policy() -> String {
    let script = BASE64_STANDARD.encode(Sha256::digest(SCRIPT));
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
}

/// A page with this title and body. The text of the frame under the pointer is shown in the element [`reading`].
pub fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { (body) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// The heading's lines, each with its label.
pub(super) fn lines(lines: &[Line]) -> Markup {
    html! {
        @for Line { label, text } in lines {
            p.hint { @if !label.is_empty() { b { (label) } " " } (text) }
        }
    }
}

/// The line that shows the text of the frame under the pointer; once per page, before its graphs.
pub fn reading() -> Markup {
    html! { p #reading aria-live="polite" { "\u{a0}" } }
}

/// A number and its text; a cell without a number sorts last.
pub struct Cell(pub Option<f64>, pub String);

impl Cell {
    /// A value, formatted by `show`; a dash where there is none.
    pub fn of(value: Option<f64>, show: fn(f64) -> String) -> Cell {
        Cell(value, value.map_or("–".to_owned(), show))
    }
}

/// A table that can be sorted by each column; the first one holds names.
pub fn table(heading: &[String], rows: &[(String, Vec<Cell>)]) -> Markup {
    drawn_table(heading, rows, None)
}

/// The same with a picture for each row in a last column of this name.
pub fn drawn_table(
    heading: &[String],
    rows: &[(String, Vec<Cell>)],
    pictures: Option<(&str, &[Markup])>,
) -> Markup {
    // Columns without any value are left out.
    let has_any = |column: usize| rows.iter().any(|(_, cells)| cells[column].0.is_some());
    let columns: Vec<usize> = (0..heading.len() - 1).filter(|&column| has_any(column)).collect();
    // The last row can be the sum of all.
    let shown = (0..rows.len()).filter(|&number| number + 1 < ROWS_MAX || number + 1 == rows.len());
    html! {
        @if rows.len() > ROWS_MAX {
            p.hint { "Shown are " (count(ROWS_MAX as u64)) " of " (count(rows.len() as u64)) " rows; the format json has all." }
        }
        div.wide {
            table.sortable {
                thead {
                    tr {
                        th scope="col" { (heading[0]) }
                        @for &column in &columns { th scope="col" { (heading[column + 1]) } }
                        @if let Some((name, _)) = pictures { th.fixed scope="col" { (name) } }
                    }
                }
                tbody {
                    @for (number, (name, cells)) in shown.map(|number| (number, &rows[number])) {
                        tr {
                            th scope="row" { (name) }
                            @for &column in &columns {
                                @let Cell(value, shown) = &cells[column];
                                td data-value=[value.map(|value| format!("{value}"))] { (shown) }
                            }
                            @if let Some((_, pictures)) = pictures { td { (pictures[number]) } }
                        }
                    }
                }
            }
        }
    }
}

/// A table of words: what cannot be compared by size.
pub fn words(heading: &[&str], rows: &[Vec<String>]) -> Markup {
    html! {
        div.wide {
            table.words {
                thead { tr { @for name in heading { th scope="col" { (name) } } } }
                tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
            }
        }
    }
}
