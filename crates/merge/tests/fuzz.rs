//! Recordings of a guest and its hypervisor, one of which nobody's recorder wrote: whatever is in it, they are merged to a
//! recording whose times add up, or there is one sentence.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use overlay_trace_format::{Recording, printable};
use overlay_trace_merge::{Options, merge};
use overlay_trace_test_support::{
    chunks::Parts,
    fuzz::{Target, mutate, run_case, try_cases},
};
use tempfile::TempDir;

/// Merges them, and checks what comes of it.
fn check(files: &[PathBuf], output: &Path) {
    let merged = || -> Result<()> {
        let recordings = files.iter().map(Recording::open).collect::<Result<Vec<_>, _>>()?;
        let summary = merge(recordings, &Options::default(), output, true)?;
        let text = summary.text();
        text.lines().for_each(|line| assert_eq!(printable(line), line));
        serde_json::to_vec(&summary)?;
        let merged = Recording::open(output).expect("the merged recording is one");
        let (mut count, mut sum) = (0, 0);
        let whole = merged.for_each_record(|record| {
            let spans: u128 = record.spans().map(|span| u128::from(span.ns)).sum();
            assert_eq!(spans, u128::from(record.header.end_ns - record.header.start_ns), "{text}");
            (count, sum) = (count + 1, sum + spans);
        });
        whole.expect("the merged records are whole");
        assert_eq!((count, sum), (summary.end_to_end_ns.count, summary.end_to_end_ns.sum), "{text}");
        Ok(())
    };
    if let Err(error) = merged() {
        let sentence = format!("{error:#}");
        assert_eq!(printable(&sentence), sentence);
    }
}

#[test]
fn a_mutated_recording_is_merged_or_refused() {
    let dir = TempDir::new().unwrap();
    let files = support::recordings(dir.path());
    let seeds: Vec<Parts> = files.iter().map(|file| Parts::of(&fs::read(file).unwrap())).collect();
    let targets = [Target::Records, Target::Names, Target::Header, Target::Chunks];
    let output = dir.path().join("merged.otr");
    let mut merged = 0;
    let cases = try_cases("merge", |mut random, name| {
        let (changed, target) = (random.below(2), targets[random.below(targets.len())]);
        let mut case = files.clone();
        case[changed] = dir.path().join("mutated.otr");
        fs::write(&case[changed], mutate(&mut seeds[changed].clone(), target, &mut random)).unwrap();
        let _ = fs::remove_file(&output);
        let (input, written) = (case[changed].clone(), output.clone());
        run_case(&input, &format!("{name} {target:?}"), move || check(&case, &written));
        merged += u64::from(output.exists());
    });
    assert!(merged * 10 > cases, "only {merged} of {cases} were merged: the rest says nothing of merging");
}
