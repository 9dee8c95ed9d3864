//! Pages: one self-contained file each. They are readable without network and without script, on a phone, on a desk and
//! on paper.

pub mod graph;
pub mod lanes;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::heading::Line;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page with this title and body. The text of the frame under the pointer is shown in the element [`reading`].
pub fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
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
    // Columns without any value are left out.
    let has_any = |column: usize| rows.iter().any(|(_, cells)| cells[column].0.is_some());
    let columns: Vec<usize> = (0..heading.len() - 1).filter(|&column| has_any(column)).collect();
    html! {
        div.wide {
            table.sortable {
                thead {
                    tr {
                        th scope="col" { (heading[0]) }
                        @for &column in &columns { th scope="col" { (heading[column + 1]) } }
                    }
                }
                tbody {
                    @for (name, cells) in rows {
                        tr {
                            th scope="row" { (name) }
                            @for &column in &columns {
                                @let Cell(value, shown) = &cells[column];
                                td data-value=[value.map(|value| format!("{value}"))] { (shown) }
                            }
                        }
                    }
                }
            }
        }
    }
}
