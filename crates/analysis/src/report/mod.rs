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
mod html;
mod json;
pub mod nics;
mod overview;
pub mod page;
pub mod palette;
mod picture;
mod place;
mod short_diff;
mod short_text;
pub mod table;
mod tail;
mod text;
mod traffic;
pub mod units;
mod what_if;
mod what_if_page;

use anyhow::{Result, ensure};
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

/// How much a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// What fits a screen.
    Short,
    Full,
}

/// A report's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables that fit a screen
    #[default]
    Text,
    /// Tables with every row
    #[value(skip)]
    FullText,
    /// One JSON object with a stable schema
    Json,
    /// Folded stacks in ns, the input of flame graph tools
    Folded,
    /// A flame graph with zoom and search
    Svg,
    /// One line per row, for spreadsheets
    Csv,
    /// A self-contained page: flame graph with zoom and search, the path, tables, distributions
    Html,
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
    // The short text needs the order of the path, and shows its largest rows anyway.
    if sort == Sort::Share && format != Format::Text {
        analysis.rows.sort_by_key(|row| std::cmp::Reverse(row.raw.sum()));
    }
    match format {
        Format::Text => Ok(short_text::report(analysis).into_bytes()),
        Format::FullText => Ok(text::report(analysis, sort).into_bytes()),
        Format::Json => json::report(analysis),
        Format::Folded => Ok(folded::report(analysis).into_bytes()),
        Format::Svg => flame::report(analysis),
        Format::Csv => csv::report(analysis),
        Format::Html => Ok(page_with(analysis, &[]).into_bytes()),
    }
}

/// The report as a page, with lines of text behind the answer.
pub fn page_with(analysis: &Analysis, preface: &[String]) -> String {
    html::report(analysis, preface)
}

/// A flame graph for a page of text: namespaces, levels and layers, with a key of what is narrow.
///
/// # Errors
///
/// As for [`report`].
pub fn picture(analysis: &Analysis) -> Result<Vec<u8>> {
    picture::report(analysis)
}

/// The format of a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// Tables that fit a screen
    #[default]
    Text,
    /// Tables with every row
    #[value(skip)]
    FullText,
    /// One JSON object with a stable schema
    Json,
    /// Folded stacks with two values in ns per packet, the input of differential flame graph tools
    Folded,
    /// A flame graph of the second recording, red where it is slower than the first, blue where faster
    Svg,
    /// A self-contained page with the flame graph and tables
    Html,
}

/// The format of a tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TailFormat {
    /// Causes and tables that fit a screen
    #[default]
    Text,
    /// All causes, and tables with every row
    #[value(skip)]
    FullText,
    /// One JSON object with a stable schema
    Json,
    /// Folded stacks with two values in ns per packet, of ordinary and of slow packets
    Folded,
    /// A flame graph of the slow packets, red where they are slower than ordinary ones, blue where faster
    Svg,
    /// A self-contained page with causes, the flame graph, timelines of the slowest packets, and tables
    Html,
}

/// The formats that have a short and a full text.
pub trait TextFormat: Copy + PartialEq {
    const TEXT: Self;
    const FULL_TEXT: Self;

    /// The full text instead of the short one.
    ///
    /// # Errors
    ///
    /// It is another format: that has every row.
    fn full(self) -> Result<Self> {
        ensure!(self == Self::TEXT, "--full is for the text: other formats have every row anyway");
        Ok(Self::FULL_TEXT)
    }
}

impl TextFormat for Format {
    const TEXT: Format = Format::Text;
    const FULL_TEXT: Format = Format::FullText;
}

impl TextFormat for DiffFormat {
    const TEXT: DiffFormat = DiffFormat::Text;
    const FULL_TEXT: DiffFormat = DiffFormat::FullText;
}

impl TextFormat for TailFormat {
    const TEXT: TailFormat = TailFormat::Text;
    const FULL_TEXT: TailFormat = TailFormat::FullText;
}

/// Renders a difference.
///
/// # Errors
///
/// As for [`report`].
pub fn diff(diff: &Diff, format: DiffFormat) -> Result<Vec<u8>> {
    match format {
        DiffFormat::Text => Ok(short_diff::report(diff).into_bytes()),
        DiffFormat::FullText => Ok(diff_text::report(diff).into_bytes()),
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
pub fn tail(tail: &Tail, format: TailFormat) -> Result<Vec<u8>> {
    match format {
        TailFormat::Text => Ok(tail::text(tail, Detail::Short).into_bytes()),
        TailFormat::FullText => Ok(tail::text(tail, Detail::Full).into_bytes()),
        TailFormat::Json => tail::json(tail),
        TailFormat::Folded => Ok(folded::tail(tail).into_bytes()),
        TailFormat::Svg => flame::tail(tail),
        TailFormat::Html => Ok(tail::page(tail).into_bytes()),
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
    /// A self-contained page with each prediction and its interval
    Html,
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
        WhatIfFormat::Html => Ok(what_if_page::page(what_if).into_bytes()),
    }
}
