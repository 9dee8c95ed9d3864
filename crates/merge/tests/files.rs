//! Recordings in files: a guest, its hypervisor, and the merged recording.

mod support;

use std::path::PathBuf;

use overlay_trace_common::path::Span;
use overlay_trace_format::Recording;
use overlay_trace_merge::{Options, merge};
use support::{PACKETS, hop, open, recordings, write, write_at};
use tempfile::TempDir;

#[test]
fn a_packet_has_one_path_through_both_machines() {
    let folder = TempDir::new().unwrap();
    let paths = recordings(folder.path());
    let output = folder.path().join("all.otr");
    let options = Options { reference: Some("host".into()) };
    let summary = merge(open(&paths), &options, &output, false).unwrap();
    assert_eq!(summary.joined.whole, 2 * PACKETS, "{}", summary.text());
    assert_eq!((summary.end_to_end_ns.difference, summary.end_to_end_ns.count), (0, 2 * PACKETS));
    let both = summary.crossings[0].both_ways_ns.unwrap();
    assert!((80_000..=120_000).contains(&both), "{}", summary.text());

    let merged = Recording::open(&output).unwrap();
    assert_eq!(merged.header.node, "guest, host");
    let (mut records, mut total) = (0, 0);
    merged
        .for_each_record(|record| {
            records += 1;
            let spans: Vec<Span> = record.spans().collect();
            let sum: u64 = spans.iter().map(|span| span.ns).sum();
            assert_eq!(sum, record.header.end_ns - record.header.start_ns);
            total += u128::from(sum);
            let stages: Vec<&str> =
                spans.iter().map(|span| &*merged.header.stages[usize::from(span.stage)].name).collect();
            let hops: Vec<&str> = spans.iter().map(|span| &*merged.hops[&span.hop].netns).collect();
            if record.header.flow.source_port == 1000 {
                assert_eq!(stages, ["udp-send", "driver-xmit", "vmm-tx", "receive", "udp-rcv"]);
                assert_eq!(hops[0], "guest / pod");
                assert_eq!(hops[2], "guest > host");
            } else {
                assert_eq!(stages, ["udp-send", "tun-wait", "vmm-rx", "napi-irq-wait", "receive", "udp-rcv"]);
                assert_eq!((hops[2], hops[3]), ("host > guest", "guest / pod"));
                assert!(spans[3].ns <= 60_000, "{} ns before it was sent", spans[3].ns);
            }
        })
        .unwrap();
    assert_eq!((records, total), (2 * PACKETS, summary.end_to_end_ns.sum));
    assert_eq!(merged.balance(records), overlay_trace_format::Balance::Even);
}

#[test]
fn the_order_of_the_files_does_not_matter() {
    let folder = TempDir::new().unwrap();
    let mut paths = recordings(folder.path());
    let (one, other) = (folder.path().join("1.otr"), folder.path().join("2.otr"));
    merge(open(&paths), &Options::default(), &one, false).unwrap();
    paths.reverse();
    merge(open(&paths), &Options::default(), &other, false).unwrap();
    assert_eq!(std::fs::read(one).unwrap(), std::fs::read(other).unwrap());
}

#[test]
fn what_cannot_be_merged_is_said() {
    let folder = TempDir::new().unwrap();
    let paths = recordings(folder.path());
    let error = |paths: &[PathBuf]| {
        let output = folder.path().join("none.otr");
        format!("{:#}", merge(open(paths), &Options::default(), &output, true).unwrap_err())
    };
    assert!(error(&paths[..1]).contains("at least two"));
    let twice = error(&[paths[0].clone(), paths[0].clone()]);
    assert!(twice.contains("recordings of one machine"), "{twice}");
    let alone = write(folder.path(), "other", "boot-c", &[(1, hop("", "eth9", ""))], &[]);
    let nothing = error(&[paths[0].clone(), alone]);
    assert!(
        nothing.contains("no packet crosses") && nothing.contains("other: eth9 (0 out, 0 in)"),
        "{nothing}"
    );
    assert!(nothing.contains(&format!("guest: eth0 ({PACKETS} out, {PACKETS} in)")), "{nothing}");
    // Each recording lasts a minute.
    let at = |seconds: u64, node: &str| {
        write_at(seconds * 1_000_000_000, folder.path(), node, node, &[(1, hop("", "eth9", ""))], &[])
    };
    let apart = error(&[at(1_072, "late"), at(1_000, "early")]);
    assert!(apart.contains("early ended 12.0 s before late began"), "{apart}");
    assert!(error(&[at(1_000, "one"), at(1_059, "two")]).contains("no packet crosses"));
}
