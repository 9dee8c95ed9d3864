//! How fast recordings are merged, and in how much memory: `cargo xtask bench merge`.
//!
//! Two guests and their hypervisor, recorded while they send packets to each other: each packet has three records.

use std::{fs, path::Path, process::ExitCode, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Flow, Outcome, RecordHeader},
    stage_map::STAGES,
};
use overlay_trace_format::{
    Checkpoint, Counters, Header, HopName, Machine, Recording, Writer, encode_path, encode_record,
};
use overlay_trace_merge::{Options, merge};

#[derive(Parser)]
struct Arguments {
    /// How many records to merge, of all three machines
    #[arg(long, default_value_t = 3_000_000)]
    records: u64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// So much memory merging may take, in bytes, and so much more for each record. Measured: 89 MB for 3 million records, 229
/// MB for 10 million.
const AT_ONCE: u64 = 128 << 20;
const PER_RECORD: u64 = 32;
/// Between two packets.
const EVERY_NS: u64 = 20_000;
/// A packet that crosses is on its way for so long, and then for this much longer at most.
const CROSSING_NS: u64 = 30_000;
const CROSSING_MORE_NS: u64 = 40_000;
/// Bytes that are written at once.
const BATCH: usize = 1 << 20;

/// A machine, and what a packet passes on the first, the second or the third machine of its path: stages at hop 1 or 2.
struct Node {
    name: &'static str,
    /// Device and link kind of hops 1 and 2.
    devices: [(&'static str, &'static str); 2],
    /// What the clock is ahead of the hypervisor's.
    ahead_ns: u64,
    outcome: Outcome,
    flags: RecordFlags,
    path: &'static [(&'static str, u16, u64)],
}

/// In the order in which packets pass them, every second one from the last to the first.
const NODES: [Node; 3] = [
    Node {
        name: "guest1",
        devices: [("eth0", ""), ("veth0", "veth")],
        ahead_ns: 5_000_000_000,
        outcome: Outcome::Freed,
        flags: RecordFlags::NONE,
        path: &[
            ("udp-send", 2, 3_000),
            ("veth-xmit", 2, 4_000),
            ("vxlan-encap", 1, 5_000),
            ("driver-xmit", 1, 9_000),
        ],
    },
    Node {
        name: "host",
        devices: [("tap1", "tun"), ("tap2", "tun")],
        ahead_ns: 0,
        outcome: Outcome::Freed,
        flags: RecordFlags::FROM_DEVICE,
        path: &[("receive", 1, 6_000), ("bridge-xmit", 1, 2_000), ("tun-wait", 2, 35_000)],
    },
    Node {
        name: "guest2",
        devices: [("eth0", ""), ("veth0", "veth")],
        ahead_ns: 9_000_000_000,
        outcome: Outcome::Delivered,
        flags: RecordFlags::FROM_DEVICE,
        path: &[("receive", 1, 5_000), ("vxlan-decap", 1, 3_000), ("socket-wait", 2, 20_000)],
    },
];

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir().context("cannot create a folder for the recordings")?;
    let packets = arguments.records / NODES.len() as u64;
    let files: Vec<_> = NODES.iter().map(|node| folder.path().join(format!("{}.otr", node.name))).collect();
    for (number, file) in files.iter().enumerate() {
        write(number, file, packets)?;
    }
    let recordings = files.iter().map(Recording::open).collect::<Result<Vec<_>, _>>()?;
    let before = status("VmRSS:")?;
    let begin = Instant::now();
    let output = folder.path().join("merged.otr");
    let summary = merge(recordings, &Options { reference: Some("host".into()) }, &output, false)?;
    let seconds = begin.elapsed().as_secs_f64();
    let records = packets * NODES.len() as u64;
    let memory = status("VmHWM:")?.saturating_sub(before);
    println!(
        "{records} records of three machines in {seconds:.1} s, {:.0} per second, at most {} MB; {} paths whole",
        records as f64 / seconds,
        memory >> 20,
        summary.joined.whole
    );
    ensure!(summary.joined.whole == packets, "{} of {packets} packets were joined", summary.joined.whole);
    ensure!(summary.end_to_end_ns.difference == 0, "the times do not add up");
    let allowed = AT_ONCE + records * PER_RECORD;
    ensure!(memory <= allowed, "merging so many may take {} MB", allowed >> 20);
    Ok(ExitCode::SUCCESS)
}

/// When the packet reaches the machine at this place of its path, on the hypervisor's clock.
fn arrival(packet: u64, place: usize) -> u64 {
    let crossing = |number: u64| CROSSING_NS + (packet * 7919 + number * 104_729) % CROSSING_MORE_NS;
    let leg = |node: &Node| node.path.iter().map(|(.., ns)| ns).sum::<u64>();
    // The driver of a NIC is a part of the crossing.
    let handing = |node: &Node| {
        if node.devices[0].1.is_empty() { node.path.last().map_or(0, |last| last.2) } else { 0 }
    };
    let start = 10_000_000_000 + packet * EVERY_NS;
    (0..place).fold(start, |at, number| {
        let node = &NODES[number];
        at + leg(node) - handing(node) + crossing(number as u64)
    })
}

fn write(number: usize, file: &Path, packets: u64) -> Result<()> {
    let node = &NODES[number];
    let header = Header {
        node: node.name.into(),
        kernel: "6.12".into(),
        probe_set: "light".into(),
        start_monotonic_ns: node.ahead_ns,
        machine: Some(Machine { boot_id: node.name.into(), ..Machine::default() }),
        ..Header::new()
    };
    let mut writer = Writer::create(file, false, &header)?;
    let hop = |(hop, (device, kind)): (u16, (&str, &str))| {
        (hop, HopName { netns_inode: 1, device: device.into(), kind: kind.into(), ..HopName::default() })
    };
    writer.hops(&(1..).zip(node.devices).map(hop).collect::<Vec<_>>())?;
    let stage = |name: &str| STAGES.iter().position(|stage| stage.name == name).unwrap_or(0) as u8;
    // There, and back: the hypervisor's taps change places.
    let path = |place: usize, is_back: bool| {
        let hop = |hop: u16| if is_back && place == 1 { 3 - hop } else { hop };
        let span = |&(name, at, ns): &(&str, u16, u64)| Span {
            ns,
            hop: hop(at),
            level: 1,
            stage: stage(name),
            cpu: Some(0),
        };
        let spans: Vec<Span> = NODES[place].path.iter().map(span).collect();
        let ns = spans.iter().map(|span| span.ns).sum::<u64>();
        (place, encode_path(&spans), ns)
    };
    let paths = [path(number, false), path(NODES.len() - 1 - number, true)];
    let mut bytes = Vec::with_capacity(2 * BATCH);
    for packet in 0..packets {
        let (place, path, ns) = &paths[(packet % 2) as usize];
        let start_ns = arrival(packet, *place) + node.ahead_ns;
        let flow = Flow {
            source_port: 1000 + (packet % 50) as u16,
            destination_port: 2000 + (packet % 2) as u16,
            protocol: 17,
            version: 4,
            ip_id: packet as u16,
            ..Flow::default()
        };
        let header = RecordHeader {
            id: packet + 1,
            start_ns,
            end_ns: start_ns + ns,
            flow,
            bytes: 100,
            segments: 1,
            flags: NODES[*place].flags,
            outcome: NODES[*place].outcome as u8,
            witness: packet + 1,
            ..RecordHeader::default()
        };
        encode_record(&header, path, &mut bytes);
        if bytes.len() >= BATCH {
            writer.records(&bytes)?;
            bytes.clear();
        }
    }
    writer.records(&bytes)?;
    let counters = Counters { started: packets, finished: packets, ..Counters::default() };
    let duration_ns = 20_000_000_000 + packets * EVERY_NS;
    writer.finish(&Checkpoint { duration_ns, counters, clocks: None })?;
    Ok(())
}

/// A line of what the kernel says of this process's memory, in bytes.
fn status(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no memory in it")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}
