//! A recording of version 4, whose stages do not say what they mean, is read as one of this version.

mod support;

use std::{fs, path::Path};

use overlay_trace_analysis::{
    breakdown::{Analysis, By},
    report::{Format, Sort, TailFormat, WhatIfFormat, report, tail, what_if},
    tail::{Of, Tail, Threshold},
    what_if::{Change, WhatIf},
};
use overlay_trace_format::{Behaviour, Header, Recording, StageRow, extract};
use overlay_trace_test_support::chunks::write_before_version_6;
use tempfile::TempDir;

/// Writes the recording again as version 4 did.
fn write_as_version_4(recording: &Recording, path: &Path) {
    let without =
        |row: &StageRow| StageRow { link_kind: None, behaviour: Behaviour::default(), ..row.clone() };
    let stages = recording.header.stages.iter().map(without).collect();
    let header = Header { stages, ..recording.header.clone() };
    extract(recording, |_| true, path, &header, &recording.traffic).unwrap();
    write_before_version_6(path, 4);
}

#[test]
fn is_reported_as_one_of_this_version() {
    let dir = TempDir::new().unwrap();
    let (now, then) = (dir.path().join("now"), dir.path().join("then"));
    fs::create_dir(&now).unwrap();
    fs::create_dir(&then).unwrap();
    let (now, then) = (now.join("a.otr"), then.join("a.otr"));
    let source = dir.path().join("source.otr");
    support::write(&source, true, true);
    let first = Recording::open(&source).unwrap();
    write_as_version_4(&first, &then);
    // The counters of a part are not those of the whole: both are parts.
    extract(&first, |_| true, &now, &first.header, &first.traffic).unwrap();
    let (now, then) = (Recording::open(&now).unwrap(), Recording::open(&then).unwrap());
    assert_eq!(now.header, then.header);
    let outputs = |recording: &Recording| {
        let mut outputs = Vec::new();
        for by in [By::Stage, By::Layer, By::Device, By::Level] {
            let mut analysis = Analysis::of(recording, by).unwrap();
            outputs.push(report(&mut analysis, Format::Json, Sort::Path).unwrap());
        }
        let slow = Tail::of(recording, Of::Packets, Threshold::Quantile(0.95), 2).unwrap();
        outputs.push(tail(&slow, TailFormat::Json).unwrap());
        let predicted = WhatIf::of(recording, &Change::all(), &|_| true).unwrap();
        outputs.push(what_if(&predicted, WhatIfFormat::Json).unwrap());
        outputs.into_iter().map(|output| String::from_utf8(output).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(outputs(&now), outputs(&then));
}
