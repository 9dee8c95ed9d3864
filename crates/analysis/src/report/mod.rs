//! How numbers are shown: one file per format.

mod csv;
mod diff_json;
mod diff_page;
mod diff_text;
mod flame;
mod flow;
mod folded;
pub mod frames;
mod heading;
mod json;
pub mod page;
pub mod palette;
mod picture;
pub mod table;
mod tail_json;
mod tail_page;
mod tail_tcp;
mod tail_text;
mod text;
mod traffic;
pub mod units;
mod what_if;

use anyhow::Result;
use clap::ValueEnum;

use crate::breakdown::{Analysis, Diff, Key};

use crate::tail::Tail;

use crate::what_if::WhatIf;

/// Every loss counter of a recording in words.
pub fn losses(analysis: &Analysis) -> String {
    heading::losses(analysis)
}

/// `backlog-wait at eth0 of node2 (level 1)`.
pub fn place(key: &Key) -> String {
    tail_text::at(key)
}

/// A report's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    #[default]
    Text,
    /// One object for programs; its schema is stable
    Json,
    /// Folded stacks, in ns, for tools that draw flame graphs
    Folded,
    /// A flame graph
    Svg,
    /// One line per row, for spreadsheets
    Csv,
}

/// The order of a report's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Along the packets' path
    #[default]
    Path,
    /// The largest share first
    Share,
}

/// Renders an analysis.
///
/// # Errors
///
/// A flame graph of a recording without packets, or something that cannot be encoded.
pub fn report(analysis: &mut Analysis, format: Format, sort: Sort) -> Result<Vec<u8>> {
    if sort == Sort::Share {
        analysis.rows.sort_by_key(|row| std::cmp::Reverse(row.raw.sum()));
    }
    match format {
        Format::Text => Ok(text::report(analysis, sort).into_bytes()),
        Format::Json => json::report(analysis),
        Format::Folded => Ok(folded::report(analysis).into_bytes()),
        Format::Svg => flame::report(analysis),
        Format::Csv => csv::report(analysis),
    }
}

/// A flame graph for a page of text: namespaces, levels and layers, with a key of what is narrow.
///
/// # Errors
///
/// As for [`report`].
pub fn picture(analysis: &Analysis) -> Result<Vec<u8>> {
    picture::report(analysis)
}

/// The format of a difference, or of a tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// A table for people
    #[default]
    Text,
    /// One object for programs
    Json,
    /// Folded stacks with two numbers, in ns per packet
    Folded,
    /// A flame graph of the second recording, or of the slow ones: red where it is slower, blue where it is
    /// faster
    Svg,
    /// One page that needs nothing else, with tables, the flame graph and, of a tail, timelines
    Html,
}

/// Renders a difference.
///
/// # Errors
///
/// As for [`report`].
pub fn diff(diff: &Diff, format: DiffFormat) -> Result<Vec<u8>> {
    match format {
        DiffFormat::Text => Ok(diff_text::report(diff).into_bytes()),
        DiffFormat::Json => diff_json::report(diff),
        DiffFormat::Folded => Ok(folded::diff(diff).into_bytes()),
        DiffFormat::Svg => flame::diff(diff),
        DiffFormat::Html => Ok(diff_page::report(diff).into_bytes()),
    }
}

/// Renders the slow packets against the ordinary ones.
///
/// # Errors
///
/// As for [`report`].
pub fn tail(tail: &Tail, format: DiffFormat) -> Result<Vec<u8>> {
    match format {
        DiffFormat::Text => Ok(tail_text::report(tail).into_bytes()),
        DiffFormat::Json => tail_json::report(tail),
        DiffFormat::Folded => Ok(folded::tail(tail).into_bytes()),
        DiffFormat::Svg => flame::tail(tail),
        DiffFormat::Html => Ok(tail_page::report(tail).into_bytes()),
    }
}

/// The format of a prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WhatIfFormat {
    /// A table for people
    #[default]
    Text,
    /// One object for programs
    Json,
}

/// Renders what packets would take without a part of their network.
///
/// # Errors
///
/// Something that cannot be encoded.
pub fn what_if(what_if: &WhatIf, format: WhatIfFormat) -> Result<Vec<u8>> {
    match format {
        WhatIfFormat::Text => Ok(what_if::text(what_if).into_bytes()),
        WhatIfFormat::Json => what_if::json(what_if),
    }
}
