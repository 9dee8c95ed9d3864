//! Every output of a known recording, byte for byte. After an intended change:
//! `BLESS=1 cargo test -p overlay-trace-analysis --test golden`, then review the difference.

mod support;

use overlay_trace_analysis::{
    breakdown::{Analysis, By, Diff, OverTime, Per},
    report::{DiffFormat, Format, Sort, TailFormat, WhatIfFormat, diff, report, tail, what_if},
    tail::{Of, Tail, Threshold},
    what_if::{Change, WhatIf},
};
use overlay_trace_format::{Balance, Counters, Recording};
use overlay_trace_test_support::golden::check;
use tempfile::TempDir;

fn open(dir: &TempDir, encapsulated: bool, finish: bool) -> Recording {
    let path = dir.path().join(if encapsulated { "vxlan.otr" } else { "host-gw.otr" });
    support::write(&path, encapsulated, finish);
    Recording::open(&path).unwrap()
}

fn check_report(name: &str, by: By, format: Format, sort: Sort) {
    let dir = TempDir::new().unwrap();
    let mut analysis = Analysis::of(&open(&dir, true, true), by).unwrap();
    check(name, &report(&mut analysis, format, sort).unwrap());
}

#[test]
fn text() {
    check_report("report.txt", By::Stage, Format::Text, Sort::Path);
    check_report("report-layer.txt", By::Layer, Format::Text, Sort::Path);
    check_report("report-full.txt", By::Stage, Format::FullText, Sort::Path);
    check_report("report-share.txt", By::Stage, Format::FullText, Sort::Share);
    check_report("report-layer-full.txt", By::Layer, Format::FullText, Sort::Share);
    check_report("report-device.txt", By::Device, Format::FullText, Sort::Path);
    check_report("report-level.txt", By::Level, Format::FullText, Sort::Path);
}

#[test]
fn text_of_a_killed_recording() {
    let dir = TempDir::new().unwrap();
    let mut analysis = Analysis::of(&open(&dir, true, false), By::Level).unwrap();
    check("report-killed.txt", &report(&mut analysis, Format::FullText, Sort::Path).unwrap());
}

/// The sentence on what to believe does not contradict the losses above it.
#[test]
fn nothing_is_believed_of_a_file_that_is_not_whole() {
    let dir = TempDir::new().unwrap();
    let mut analysis = Analysis::of(&open(&dir, true, true), By::Level).unwrap();
    analysis.last.counters = Counters { started: 400, finished: 400, ..Counters::default() };
    let mut text = |balance| {
        analysis.balance = balance;
        String::from_utf8(report(&mut analysis, Format::Text, Sort::Path).unwrap()).unwrap()
    };
    assert!(text(Balance::Even).contains("nothing was lost"));
    for balance in [Balance::Missing(1), Balance::Surplus(1), Balance::Unknown] {
        assert!(!text(balance).contains("nothing was lost"), "{balance:?}");
    }
}

#[test]
fn json() {
    check_report("report.json", By::Stage, Format::Json, Sort::Path);
    check_report("report-layer.json", By::Layer, Format::Json, Sort::Path);
}

#[test]
fn folded() {
    check_report("report.folded", By::Stage, Format::Folded, Sort::Path);
    check_report("report-level.folded", By::Level, Format::Folded, Sort::Path);
}

#[test]
fn svg() {
    check_report("report.svg", By::Stage, Format::Svg, Sort::Path);
}

#[test]
fn html() {
    let dir = TempDir::new().unwrap();
    let recording = open(&dir, true, true);
    let mut analysis = Analysis::of(&recording, By::Stage).unwrap();
    analysis.over_time = Some(OverTime::of(&recording).unwrap());
    check("report.html", &report(&mut analysis, Format::Html, Sort::Path).unwrap());
}

#[test]
fn csv() {
    check_report("report.csv", By::Stage, Format::Csv, Sort::Path);
}

#[test]
fn differences() {
    let dir = TempDir::new().unwrap();
    let analysis = |encapsulated| Analysis::of(&open(&dir, encapsulated, true), By::Anywhere).unwrap();
    let difference = Diff::new(analysis(false), analysis(true), Per::Packet);
    check("diff.txt", &diff(&difference, DiffFormat::Text).unwrap());
    check("diff-full.txt", &diff(&difference, DiffFormat::FullText).unwrap());
    check("diff.json", &diff(&difference, DiffFormat::Json).unwrap());
    check("diff.folded", &diff(&difference, DiffFormat::Folded).unwrap());
    check("diff.svg", &diff(&difference, DiffFormat::Svg).unwrap());
    check("diff.html", &diff(&difference, DiffFormat::Html).unwrap());
    let by_byte = Diff::new(analysis(false), analysis(true), Per::Byte);
    check("diff-per-byte.txt", &diff(&by_byte, DiffFormat::FullText).unwrap());
    check("diff-per-byte.folded", &diff(&by_byte, DiffFormat::Folded).unwrap());
}

#[test]
fn tails() {
    let dir = TempDir::new().unwrap();
    let slow = Tail::of(&open(&dir, true, true), Of::Packets, Threshold::Quantile(0.95), 2).unwrap();
    check("tail.txt", &tail(&slow, TailFormat::Text).unwrap());
    check("tail-full.txt", &tail(&slow, TailFormat::FullText).unwrap());
    check("tail.json", &tail(&slow, TailFormat::Json).unwrap());
    check("tail.folded", &tail(&slow, TailFormat::Folded).unwrap());
    check("tail.svg", &tail(&slow, TailFormat::Svg).unwrap());
    check("tail.html", &tail(&slow, TailFormat::Html).unwrap());
}

#[test]
fn pages_need_nothing_else() {
    let dir = TempDir::new().unwrap();
    let slow = Tail::of(&open(&dir, true, true), Of::Packets, Threshold::Quantile(0.95), 3).unwrap();
    let page = String::from_utf8(tail(&slow, TailFormat::Html).unwrap()).unwrap();
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!outside.contains(word), "{word}");
    }
    assert_eq!(page.matches("<figure class=\"packet\">").count(), 3);
    // Every step of the slowest packets' paths has a bar with a text, and is in a table.
    let steps: usize = slow.slowest.iter().map(|packet| packet.steps.len()).sum();
    assert_eq!(page.matches("<title>at +").count(), steps);
    assert_eq!(page.matches("<td class=\"name\">L").count(), steps);
}

#[test]
fn predictions() {
    let dir = TempDir::new().unwrap();
    let predicted = WhatIf::of(&open(&dir, true, true), &Change::all(), &|_| true).unwrap();
    check("what-if.txt", &what_if(&predicted, WhatIfFormat::Text).unwrap());
    check("what-if.html", &what_if(&predicted, WhatIfFormat::Html).unwrap());
    check("what-if.json", &what_if(&predicted, WhatIfFormat::Json).unwrap());
}
