//! A recording in which one record stands for several packets gives the numbers of one with all of them.

use overlay_trace_analysis::{
    breakdown::{Analysis, By},
    report::{self, Format, Sort, TailFormat},
    tail::{Of, Tail, Threshold},
};

use overlay_trace_common::{path::Span, record::Outcome};
use overlay_trace_format::{
    Checkpoint, Counters, Header, Recording, Sampling, Writer, encode_path, encode_record,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::support;

/// A packet's way, and for how many packets its record stands.
type Sample = (Vec<Span>, u32);

prop_compose! {
    fn sample()(
        parts in prop::collection::vec((0..22u8, 0..3u8, 0..10u16, 1u64..1 << 30, 0..30u32), 1..20), times in 1..9u32
    ) -> Sample {
        let segment = |(stage, level, hop, ns, less): (u8, u8, u16, u64, u32)| Span { ns: ns >> less, hop, level, stage, cpu: None };
        (parts.into_iter().map(segment).collect(), times)
    }
}

/// Writes the samples: as they are, or each as often as it stands for packets.
fn write(dir: &TempDir, samples: &[Sample], header: &Header, expanded: bool) -> Recording {
    let path = dir.path().join("a.otr");
    let mut writer = Writer::create(&path, true, header).unwrap();
    writer.hops(&support::hops()).unwrap();
    let mut id = 0;
    for (at, (way, times)) in samples.iter().enumerate() {
        for _ in 0..if expanded { *times } else { 1 } {
            id += 1;
            let outcome = if at % 7 == 3 { Outcome::Dropped } else { Outcome::Delivered };
            let mut record = support::record(id, 1000 * at as u64, way, outcome);
            record.weight = if expanded { 0 } else { *times };
            let mut bytes = Vec::new();
            encode_record(&record, &encode_path(way), &mut bytes);
            writer.records(&bytes).unwrap();
        }
    }
    let finished: u64 = samples.iter().map(|(_, times)| u64::from(*times)).sum();
    let counters = Counters { finished, left_out: finished - id, ..Counters::default() };
    writer.finish(&Checkpoint { counters, ..Checkpoint::default() }).unwrap();
    Recording::open(&path).unwrap()
}

fn text(of: anyhow::Result<Vec<u8>>) -> String {
    String::from_utf8(of.unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_record_counts_as_often_as_it_stands_for_packets(samples in prop::collection::vec(sample(), 1..40)) {
        let dir = TempDir::new().unwrap();
        let numbers = |expanded| {
            let recording = write(&dir, &samples, &support::header(), expanded);
            let mut analysis = Analysis::of(&recording, By::Stage).unwrap();
            assert_eq!(analysis.records, if expanded { analysis.packets() } else { samples.len() as u64 });
            let finished = analysis.packets();
            // What the kernel side would have counted.
            analysis.last.counters = Counters { started: finished, finished, ..Counters::default() };
            let report = text(report::report(&mut analysis, Format::Json, Sort::Path));
            let tails = [Of::Packets, Of::Flows].map(|of| {
                let mut tail = Tail::of(&recording, of, Threshold::Quantile(0.8), 0).unwrap();
                tail.analysis.last.counters = analysis.last.counters.clone();
                assert_eq!(tail.rows.iter().map(|row| row.dominant).sum::<u64>(), tail.slow.packets);
                text(report::tail(&tail, TailFormat::Folded))
            });
            (report, tails)
        };
        prop_assert_eq!(numbers(false), numbers(true));
    }
}

#[test]
fn the_report_says_which_packets_have_records() {
    let dir = TempDir::new().unwrap();
    let header =
        Header { sampling: Some(Sampling { above: "p99.9".into(), one_in: 64 }), ..support::header() };
    let way = vec![Span { ns: 700, hop: 2, level: 0, stage: support::stage("ip-rcv"), cpu: None }];
    let recording = write(&dir, &[(way.clone(), 1), (way, 40)], &header, false);
    let mut analysis = Analysis::of(&recording, By::Stage).unwrap();
    analysis.last.counters =
        Counters { finished: 41, left_out: 39, slow_from_ns: Some(650), ..Counters::default() };
    let told = text(report::report(&mut analysis, Format::FullText, Sort::Path));
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("all packets above p99.9 (650ns at the end)"), "{told}");
    assert!(told.contains("1 in 64 of the rest") && told.contains("2 of 41 packets"), "{told}");
    // Of a request only one half may be there.
    let refused = Tail::of(&recording, Of::Requests, Threshold::default(), 1).err().unwrap().to_string();
    assert!(refused.contains("--tail-above") && refused.lines().count() == 1, "{refused}");
}
