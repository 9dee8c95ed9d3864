//! Names are chosen by containers, and names and times by the author of a recording. Every text of a recording is fed through
//! every output, and so are times that no packet can take.

#[path = "support/outputs.rs"]
mod outputs;
mod support;

use std::{fs, path::PathBuf};

use overlay_trace_analysis::{
    breakdown::{Analysis, By},
    report::{Format, Sort, report},
};
use overlay_trace_common::{
    path::{NS_MAX, Span},
    record::Outcome,
};
use overlay_trace_format::{Checkpoint, Counters, Recording, Writer, encode_path, encode_record};
use overlay_trace_test_support::chunks::Parts;
use tempfile::TempDir;

/// What a name can be that was made to deceive.
const HOSTILE: [&str; 15] = [
    "\x1b[31m\x07\x1b]0;title\x07",
    "\u{9b}2J\u{85}\u{90}",
    "\nFORGED",
    "\r\nlosses    0 FORGED",
    "\u{202e}\u{2066}\u{200b}\u{2028}FORGED",
    "\0\u{7f}\u{ffff}\u{fffe}\u{feff}",
    "</title><script>FORGED()</script>",
    "\"'><img src=x onerror=FORGED()>",
    "]]><!-- &lt; &#27; &nosuch; --",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1",
    "@SUM(A1)",
    ";a;b;c 12 13",
    "\\",
];

/// Texts that are words of the format: with another one the recording is another one, or none.
const WORDS: [&str; 6] = [".kind", ".level", ".outcome", ".probe", ".probe_set", ".link_kind"];

fn is_word(place: &str) -> bool {
    WORDS.iter().any(|word| place.ends_with(word)) && !place.starts_with("hops")
        || place.contains(".behaviour.")
}

/// Writes a recording whose texts are hostile, each another one; returns how many.
fn write(dir: &TempDir, hostile: &str, words_too: bool) -> (PathBuf, usize) {
    let path = dir.path().join("a\x1b[31m\nFORGED.otr");
    support::write(&path, true, true);
    let mut parts = Parts::of(&fs::read(&path).unwrap());
    let mut number = 0;
    parts.replace_texts(&mut |place, text| {
        let is_read_as_is = place == "header.byte_order" || place.ends_with(".probe");
        if is_read_as_is || is_word(place) && !words_too || text.is_empty() {
            return None;
        }
        number += 1;
        // Different, so that rows stay apart; what is hostile stands at the beginning and at the end.
        Some(format!("{hostile}{}{hostile}", number / 2))
    });
    fs::write(&path, parts.bytes()).unwrap();
    (path, number)
}

#[test]
fn no_name_gets_into_an_output_unescaped() {
    for hostile in HOSTILE {
        let dir = TempDir::new().unwrap();
        let (path, number) = write(&dir, hostile, false);
        assert!(number > 80, "{number}");
        outputs::check_all(&path, &path).unwrap();
    }
}

#[test]
fn nor_does_a_word_of_the_format() {
    for hostile in HOSTILE {
        let dir = TempDir::new().unwrap();
        let (path, _) = write(&dir, hostile, true);
        outputs::check_all(&path, &path).unwrap();
    }
}

#[test]
fn a_hostile_name_is_shown_as_what_it_is() {
    let dir = TempDir::new().unwrap();
    let (path, _) = write(&dir, "\x1b[31m", false);
    let recording = Recording::open(&path).unwrap();
    assert!(recording.hops[&1].netns.starts_with("\\x1b[31m"), "{:?}", recording.hops[&1]);
    let mut analysis = Analysis::of(&recording, By::Stage).unwrap();
    let text = String::from_utf8(report(&mut analysis, Format::Text, Sort::Path).unwrap()).unwrap();
    assert!(text.contains("node \\x1b[31m"), "{text}");
}

#[test]
fn a_text_of_any_length_is_cut() {
    let dir = TempDir::new().unwrap();
    let (path, _) = write(&dir, &"x".repeat(100_000), false);
    let recording = Recording::open(&path).unwrap();
    assert!(recording.hops[&1].netns.chars().count() < 1000);
    let mut analysis = Analysis::of(&recording, By::Device).unwrap();
    assert!(report(&mut analysis, Format::Text, Sort::Path).unwrap().len() < 1 << 20);
}

#[test]
fn times_of_any_length_are_drawn_or_refused() {
    // The longest time of a span, so many to a packet, and so many packets.
    for (spans, packets, is_drawn) in
        [(1, 1, true), (240, 1, true), (240, 60, true), (240, 80, false), (240, 300, false)]
    {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a.otr");
        let mut writer = Writer::create(&path, true, &support::header()).unwrap();
        writer.hops(&support::hops()).unwrap();
        let span = Span { ns: NS_MAX, hop: 1, stage: support::stage("udp-send"), ..Span::default() };
        let way = vec![span; spans];
        let mut bytes = Vec::new();
        for id in 1..=packets {
            let header = support::record(id, 0, &way, Outcome::Delivered);
            encode_record(&header, &encode_path(&way), &mut bytes);
        }
        writer.records(&bytes).unwrap();
        let counters = Counters { started: packets, finished: packets, ..Counters::default() };
        writer.finish(&Checkpoint { duration_ns: 1, counters, clocks: None }).unwrap();
        outputs::check_all(&path, &path).unwrap();
        let mut analysis = Analysis::of(&Recording::open(&path).unwrap(), By::Stage).unwrap();
        let sum = u128::from(NS_MAX) * spans as u128 * u128::from(packets);
        assert_eq!(analysis.end_to_end.sum(), sum);
        match report(&mut analysis, Format::Svg, Sort::Path) {
            Ok(_) => assert!(is_drawn, "{packets} packets"),
            Err(error) => {
                let said = error.to_string();
                assert!(!is_drawn && said.contains("146 years"), "{packets} packets: {said}");
            }
        }
    }
}
