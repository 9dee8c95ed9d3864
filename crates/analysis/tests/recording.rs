//! Whatever is in a recording: it is reported, or refused with one clear sentence.

#[path = "../../format/tests/support/mod.rs"]
mod support;

use std::{fs, path::Path};

use overlay_trace_analysis::{
    breakdown::{Analysis, By},
    report::{Format, Sort, report},
};
use overlay_trace_common::record::RecordHeader;
use overlay_trace_format::{HopName, Recording, Writer, encode_record};
use proptest::prelude::*;
use support::{checkpoint, write};
use tempfile::TempDir;

/// Reports a file in every way; what comes out does not matter, only that something does.
fn report_all(path: &Path) {
    let Ok(recording) = Recording::open(path) else { return };
    for by in [By::Stage, By::Anywhere, By::Layer, By::Device, By::Level] {
        let Ok(mut analysis) = Analysis::of(&recording, by) else { return };
        let rows: u128 = analysis.rows.iter().map(|row| row.raw.sum()).sum();
        assert_eq!(rows, analysis.end_to_end.sum());
        for format in [Format::Text, Format::Json, Format::Csv, Format::Folded, Format::Svg] {
            let _ = report(&mut analysis, format, Sort::Path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_recording_is_reported_or_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in any::<prop::sample::Index>(), cut in any::<bool>(),
    ) {
        let dir = TempDir::new().unwrap();
        let path = write(&dir, true);
        let mut bytes = fs::read(&path).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        report_all(&path);
    }

    /// As a broken kernel side, or somebody with bad intentions, would write them: the checksums are right.
    #[test]
    fn any_words_are_reported_or_refused(
        words in prop::collection::vec(prop_oneof![any::<u64>(), 0..300u64], 0..400),
        header in any::<[u64; 13]>(), lengths in prop::collection::vec(0..40u16, 0..12),
        stages in 0..3usize, hop in any::<u16>(),
    ) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a.otr");
        let mut about = support::header();
        match stages {
            0 => about.stages.clear(),
            1 => about.stages = about.stages.iter().cycle().take(300).cloned().collect(),
            _ => {}
        }
        let mut writer = Writer::create(&path, true, &about).unwrap();
        writer.hops(&[(hop, HopName { netns: "pod".into(), ..HopName::default() })]).unwrap();
        let mut rest = words.iter();
        for length in lengths {
            // The words are any, the length is that of the way.
            let way: Vec<u32> = rest.by_ref().take(length.into()).map(|&word| word as u32).collect();
            let [id, parent, start_ns, end_ns, drop_location, bytes, drop_reason, segments, outcome, flags, cpu, ..] =
                header.map(|word| word.rotate_left(u32::from(length)));
            let header = RecordHeader {
                id, parent, start_ns, end_ns, drop_location, bytes: bytes as u32, drop_reason: drop_reason as u32,
                segments: segments as u16, outcome: outcome as u8 % 6, flags: overlay_trace_common::flags::RecordFlags::from_bits(flags as u8), cpu: cpu as u16,
                ..RecordHeader::default()
            };
            let mut bytes = Vec::new();
            encode_record(&header, &way, &mut bytes);
            writer.records(&bytes).unwrap();
        }
        // What is left is no record at all.
        let bytes: Vec<u8> = rest.flat_map(|word| word.to_ne_bytes()).collect();
        writer.records(&bytes).unwrap();
        writer.finish(&checkpoint(1)).unwrap();
        report_all(&path);
    }
}
