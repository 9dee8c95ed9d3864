//! Recordings that nobody's recorder wrote: known ones, mutated by a seeded generator, with right checksums, so that what
//! lies behind them is reached. Whatever comes, every reader gives an output that keeps to its form, or one sentence: no
//! panic, no endless loop, and times that add up.
//!
//! `overlay_trace_test_support::fuzz` says for how long, and where inputs that fail are kept. What is in `tests/corpus` is
//! tried first, by every reader.

#[path = "support/outputs.rs"]
mod outputs;
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use overlay_trace_format::Recording;
use overlay_trace_test_support::{
    chunks::Parts,
    fuzz::{Random, Target, mutate, run_case, try_cases},
    workspace,
};
use tempfile::TempDir;

/// Outputs that are made of each mutated recording.
const OUTPUTS: usize = 3;

/// The recordings that are mutated.
fn seeds(dir: &TempDir) -> Vec<Parts> {
    let path = dir.path().join("seed.otr");
    let mut seeds = Vec::new();
    for (encapsulated, finish) in [(true, true), (false, false)] {
        support::write(&path, encapsulated, finish);
        seeds.push(Parts::of(&fs::read(&path).unwrap()));
    }
    for folder in ["tests/recordings", "tests/corpus"] {
        seeds.extend(files(folder).iter().map(|file| Parts::of(&fs::read(file).unwrap())));
    }
    seeds
}

/// The recordings in a folder of the workspace, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(workspace().join(folder)).expect(folder);
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "otr"));
    files.sort();
    files
}

/// Makes some of the outputs, chosen by `choice`.
fn try_outputs(path: &Path, other: &Path, choice: &mut Random) {
    let recording = match Recording::open(path) {
        Ok(recording) => recording,
        Err(error) => return outputs::check("opening", Err(error.into())),
    };
    let other = Recording::open(other).unwrap();
    let all = outputs::all();
    for _ in 0..OUTPUTS {
        let (name, make) = &all[choice.below(all.len())];
        outputs::check(name, make(&recording, &other));
    }
}

fn fuzz(target: Target) {
    let dir = TempDir::new().unwrap();
    let seeds = seeds(&dir);
    let other = dir.path().join("other.otr");
    support::write(&other, true, true);
    try_cases(&format!("{target:?}"), |mut random, name| {
        let mut parts = seeds[random.below(seeds.len())].clone();
        let bytes = mutate(&mut parts, target, &mut random);
        let (path, other) = (dir.path().join(format!("{name}.otr")), other.clone());
        fs::write(&path, bytes).unwrap();
        let input = path.clone();
        run_case(&path, name, move || try_outputs(&input, &other, &mut random));
        fs::remove_file(&path).unwrap();
    });
}

#[test]
fn records() {
    fuzz(Target::Records);
}

#[test]
fn names_and_counters() {
    fuzz(Target::Names);
}

#[test]
fn header() {
    fuzz(Target::Header);
}

#[test]
fn chunks() {
    fuzz(Target::Chunks);
}

#[test]
fn the_corpus_is_read_by_every_reader() {
    let dir = TempDir::new().unwrap();
    let other = dir.path().join("other.otr");
    support::write(&other, true, true);
    for file in files("tests/corpus") {
        let (path, other) = (file.clone(), other.clone());
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        run_case(&file, &name, move || {
            if let Err(error) = outputs::check_all(&path, &other) {
                outputs::check("opening", Err(error));
            }
        });
    }
}
