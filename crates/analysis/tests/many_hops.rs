//! A node with as many devices as there are numbers for hops: reading it takes time in proportion to them.

#[path = "support/outputs.rs"]
mod outputs;
mod support;

use std::{hint::black_box, path::Path};

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime},
};
use overlay_trace_common::{
    path::Span,
    record::{Outcome, RecordHeader},
};
use overlay_trace_format::{Checkpoint, Counters, HopName, Recording, Writer, encode_path, encode_record};
use tempfile::TempDir;

const FEW: u16 = 700;
/// With so many, nearly all numbers that there are.
const MORE: u16 = u16::MAX / TIMES;
/// So many times as many.
const TIMES: u16 = 12;
/// Time may grow by so much: between what is linear (12) and what is quadratic (144), since more hops fit less well
/// into a processor's caches.
const GROWTH_MAX: f64 = 40.0;

/// One packet per hop, from one device to the next; half of the devices are in one namespace, each other one in its own.
fn write(path: &Path, hops: u16) {
    let mut writer = Writer::create(path, true, &support::header()).unwrap();
    let name = |hop: u16| HopName {
        netns_inode: u32::from(hop),
        netns: if hop.is_multiple_of(2) { "node".into() } else { format!("pod{hop}") },
        device: format!("veth{hop}"),
        ..HopName::default()
    };
    writer.hops(&(1..=hops).map(|hop| (hop, name(hop))).collect::<Vec<_>>()).unwrap();
    let mut bytes = Vec::new();
    for hop in 1..=hops {
        let span = |name: &str, hop| Span { ns: 700, hop, level: 0, stage: support::stage(name), cpu: None };
        let way = [
            span("socket-send", hop),
            span("veth-xmit", hop),
            span("receive", hop % hops + 1),
            span("iptables", hop % hops + 1),
        ];
        let header: RecordHeader = support::record(hop.into(), 1000, &way, Outcome::Dropped);
        encode_record(&header, &encode_path(&way), &mut bytes);
    }
    writer.records(&bytes).unwrap();
    let counters = Counters { started: hops.into(), finished: hops.into(), ..Counters::default() };
    writer.finish(&Checkpoint { duration_ns: 1, counters, clocks: None }).unwrap();
}

/// CPU time of this thread, in s; the time of a machine that does other things too says nothing.
fn cpu_time() -> f64 {
    let time: TimeSpec = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

#[test]
fn every_output_takes_time_in_proportion_to_the_hops() {
    compare(FEW);
}

#[test]
#[ignore = "takes minutes; by hand, with --nocapture: it prints the times"]
fn up_to_the_most_hops_there_can_be() {
    compare(MORE);
}

/// Compares the times for so many hops and [`TIMES`] as many.
fn compare(hops: u16) {
    let dir = TempDir::new().unwrap();
    let (few, many) = (dir.path().join("few.otr"), dir.path().join("many.otr"));
    write(&few, hops);
    write(&many, hops * TIMES);
    let [few, many] = [few, many].map(|path| Recording::open(path).unwrap());
    let took = |make: &dyn Fn(&Recording, &Recording) -> anyhow::Result<Vec<u8>>, recording| {
        let begin = cpu_time();
        // Where nothing is slow, nothing of it can be drawn.
        let _ = black_box(make(recording, recording));
        cpu_time() - begin
    };
    for (name, make) in outputs::all() {
        // Grouped by what has no hops, and sorted otherwise, it is the same work.
        if name.contains("Share") || name.contains("Layer") || name.contains("Level") {
            continue;
        }
        let least = |recording| (0..2).map(|_| took(&make, recording)).fold(f64::INFINITY, f64::min);
        let (least, more) = (least(&few), least(&many));
        eprintln!("{name}: {least:.3} s for {hops} hops, {more:.3} s for {}", hops * TIMES);
        assert!(more < GROWTH_MAX * least.max(1e-3), "{name}: {least:.3} s, then {more:.3} s");
    }
}
