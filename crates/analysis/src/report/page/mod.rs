//! Pages: one file that needs nothing else, neither a network nor a script to be read; on a phone, on a desk
//! and on paper.

pub mod graph;
pub mod lanes;

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page with this title and body. What is under the pointer in a graph is told in the element
/// [`reading`].
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

/// The line that tells what is under the pointer; once per page, before its graphs.
pub fn reading() -> Markup {
    html! { p #reading aria-live="polite" { "\u{a0}" } }
}

/// A number and how it is shown; without a number it sorts last.
pub struct Cell(pub Option<f64>, pub String);

impl Cell {
    /// A value as `show` shows it; a dash where there is none.
    pub fn of(value: Option<f64>, show: fn(f64) -> String) -> Cell {
        Cell(value, value.map_or("–".to_owned(), show))
    }
}

/// A table that can be sorted by each of its columns; the first one has names.
pub fn table(heading: &[String], rows: &[(String, Vec<Cell>)]) -> Markup {
    // Columns that have nothing in any row are left out.
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
