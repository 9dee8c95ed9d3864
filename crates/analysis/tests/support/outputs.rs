//! Every output of a recording, and what all of them must keep to whatever is in the recording.

// Each test uses a part of it.
#![allow(dead_code)]

use std::path::Path;

use anyhow::Result;
use overlay_trace_analysis::{
    breakdown::{Analysis, By, Diff, Per},
    report::{DiffFormat, Format, Sort, TailFormat, WhatIfFormat, diff, picture, report, tail, what_if},
    tail::{Of, Tail, Threshold},
    what_if::{Change, WhatIf},
};
use overlay_trace_format::{Recording, printable};

/// How an output is made of a recording, and of another one where two are compared.
type Make = Box<dyn Fn(&Recording, &Recording) -> Result<Vec<u8>>>;

/// All outputs, by a name that ends in their format.
pub fn all() -> Vec<(String, Make)> {
    let mut all: Vec<(String, Make)> = Vec::new();
    for by in [By::Stage, By::Layer, By::Device, By::Level] {
        for format in [
            Format::Text,
            Format::FullText,
            Format::Json,
            Format::Folded,
            Format::Svg,
            Format::Csv,
            Format::Html,
        ] {
            for sort in [Sort::Path, Sort::Share] {
                let make = move |recording: &Recording, _: &Recording| {
                    let mut analysis = Analysis::of(recording, by)?;
                    check_sums(&analysis);
                    report(&mut analysis, format, sort)
                };
                all.push((format!("report {by:?} {sort:?} {format:?}"), Box::new(make)));
            }
        }
    }
    let make = |recording: &Recording, _: &Recording| picture(&Analysis::of(recording, By::Stage)?);
    all.push(("picture Svg".into(), Box::new(make)));
    use {DiffFormat as D, TailFormat as T};
    for format in [D::Text, D::FullText, D::Json, D::Folded, D::Svg, D::Html] {
        for by in [By::Anywhere, By::Stage] {
            let make = move |recording: &Recording, other: &Recording| {
                let analyse = |recording| Analysis::of(recording, by);
                diff(&Diff::new(analyse(other)?, analyse(recording)?, Per::Packet), format)
            };
            all.push((format!("diff {by:?} {format:?}"), Box::new(make)));
        }
    }
    for format in [T::Text, T::FullText, T::Json, T::Folded, T::Svg, T::Html] {
        for of in [Of::Packets, Of::Requests, Of::Flows] {
            let make = move |recording: &Recording, _: &Recording| {
                tail(&Tail::of(recording, of, Threshold::Quantile(0.9), 3)?, format)
            };
            all.push((format!("tail {of:?} {format:?}"), Box::new(make)));
        }
    }
    for format in [WhatIfFormat::Text, WhatIfFormat::Json, WhatIfFormat::Html] {
        let make = move |recording: &Recording, _: &Recording| {
            what_if(&WhatIf::of(recording, &Change::all(), &|_| true)?, format)
        };
        all.push((format!("what-if {format:?}"), Box::new(make)));
    }
    all
}

/// The stages' times add up to the end-to-end time.
fn check_sums(analysis: &Analysis) {
    let rows: u128 = analysis.rows.iter().map(|row| row.raw.sum()).sum();
    assert_eq!(rows, analysis.end_to_end.sum());
}

/// Checks the result of an output of this name.
pub fn check(name: &str, result: Result<Vec<u8>>) {
    let text = match result {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_else(|_| panic!("{name} is no UTF-8")),
        Err(error) => {
            let sentence = format!("{error:#}");
            assert_eq!(printable(&sentence), sentence, "{name}");
            return;
        }
    };
    for line in text.lines() {
        // A no-break space is in our own pages.
        let line = line.replace('\u{a0}', " ");
        assert_eq!(printable(&line), line, "{name}");
        assert!(!line.starts_with("FORGED"), "{name}: {line}");
        assert!(!line.starts_with("losses    0 FORGED"), "{name}: {line}");
    }
    let format = name.rsplit(' ').next();
    let is_page = matches!(format, Some("Svg" | "Html"));
    let has_script = text.contains("<script>FORGED") || text.contains("<img");
    assert!(!is_page || !has_script, "{name}: a script is injected");
    match format {
        Some("Json") => drop(serde_json::from_str::<serde_json::Value>(&text).expect(name)),
        Some("Svg") => check_xml(name, &text),
        Some("Csv") => check_csv(name, &text),
        Some("Folded") => check_folded(name, &text),
        _ => {}
    }
}

fn check_xml(name: &str, text: &str) {
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(quick_xml::events::Event::Eof) => return,
            Ok(_) => {}
            Err(error) => panic!("{name} is no XML at byte {}: {error}", reader.error_position()),
        }
    }
}

/// No cell is a formula, and all lines have the same number of cells.
fn check_csv(name: &str, text: &str) {
    for line in csv::Reader::from_reader(text.as_bytes()).records() {
        for cell in &line.expect(name) {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{name}: {cell}");
        }
    }
}

/// Each line is a stack and its values, one or two.
fn check_folded(name: &str, text: &str) {
    let values = if name.starts_with("report") { 1 } else { 2 };
    for line in text.lines() {
        let numbers = line.rsplit(' ').take_while(|word| word.parse::<f64>().is_ok()).count();
        assert_eq!(numbers, values, "{name}: {line}");
    }
}

/// Makes every output and checks it.
pub fn check_all(recording: &Path, other: &Path) -> Result<()> {
    let (recording, other) = (Recording::open(recording)?, Recording::open(other)?);
    all().into_iter().for_each(|(name, make)| check(&name, make(&recording, &other)));
    Ok(())
}
