//! Rendering: text, JSON, CSV, folded stacks, flame graphs and pages.

mod counters;
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
pub mod nics;
pub mod page;
pub mod palette;
mod picture;
mod place;
pub mod table;
mod tail;
mod text;
mod traffic;
pub mod units;
mod what_if;

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    breakdown::{Analysis, Diff},
    tail::Tail,
    what_if::WhatIf,
};
pub use place::place;

/// Every loss counter of a recording, by name.
pub fn losses(analysis: &Analysis) -> String {
    heading::losses(analysis)
}

/// A report's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables
    #[default]
    Text,
    /// One JSON object with a stable schema
    Json,
    /// Folded stacks in ns, the input of flame graph tools
    Folded,
    /// A flame graph with zoom and search
    Svg,
    /// One line per row, for spreadsheets
    Csv,
}

/// The order of a report's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// In the order of the packets' path
    #[default]
    Path,
    /// The largest share first
    Share,
}

/// Renders an analysis.
///
/// # Errors
///
/// The format is a flame graph and the recording has no packets, or encoding fails.
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

/// The format of a difference or of a tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// Tables
    #[default]
    Text,
    /// One JSON object with a stable schema
    Json,
    /// Folded stacks with two values in ns per packet, the input of differential flame graph tools
    Folded,
    /// A differential flame graph: the second recording (or the slow packets), red where slower, blue where faster
    Svg,
    /// A self-contained page with tables, the flame graph and, of a tail, timelines
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

/// Renders the slow packets compared with the ordinary ones.
///
/// # Errors
///
/// As for [`report`].
pub fn tail(tail: &Tail, format: DiffFormat) -> Result<Vec<u8>> {
    match format {
        DiffFormat::Text => Ok(tail::text(tail).into_bytes()),
        DiffFormat::Json => tail::json(tail),
        DiffFormat::Folded => Ok(folded::tail(tail).into_bytes()),
        DiffFormat::Svg => flame::tail(tail),
        DiffFormat::Html => Ok(tail::page(tail).into_bytes()),
    }
}

/// The format of a prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WhatIfFormat {
    /// Tables
    #[default]
    Text,
    /// One JSON object with a stable schema
    Json,
}

/// Renders predicted times without a part of the network.
///
/// # Errors
///
/// Encoding fails.
pub fn what_if(what_if: &WhatIf, format: WhatIfFormat) -> Result<Vec<u8>> {
    match format {
        WhatIfFormat::Text => Ok(what_if::text(what_if).into_bytes()),
        WhatIfFormat::Json => what_if::json(what_if),
    }
}
