//! Recordings of a guest and its hypervisor.

// Each test uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Flow, Outcome, RecordHeader},
    stage_map::STAGES,
};
use overlay_trace_format::{
    Checkpoint, Counters, Header, HopName, Machine, Recording, Writer, encode_path, encode_record,
};

pub const PACKETS: u64 = 40;
/// The guest's clock is behind the host's by so many ns.
const BEHIND: u64 = 7_000_000_000;

/// So long the guest's NIC had waited to be polled when a packet was seen, which had come later.
const NAPI_NS: u64 = 200_000;

fn stage(name: &str) -> u8 {
    STAGES.iter().position(|stage| stage.name == name).unwrap_or_else(|| panic!("no stage {name}")) as u8
}

fn span(name: &str, hop: u16, ns: u64) -> Span {
    Span { ns, hop, level: 0, stage: stage(name), cpu: Some(0) }
}

pub fn hop(netns: &str, device: &str, kind: &str) -> HopName {
    HopName {
        netns_inode: 1,
        netns: netns.into(),
        ifindex: 2,
        device: device.into(),
        kind: kind.into(),
        pod: None,
    }
}

pub struct Packet {
    id: u64,
    start_ns: u64,
    is_out: bool,
    from_device: bool,
    delivered: bool,
    spans: Vec<Span>,
}

pub fn write(folder: &Path, node: &str, boot: &str, hops: &[(u16, HopName)], packets: &[Packet]) -> PathBuf {
    write_at(0, folder, node, boot, hops, packets)
}

/// The same of a recording that began at this time of the wall clock.
pub fn write_at(
    start_wall_ns: u64,
    folder: &Path,
    node: &str,
    boot: &str,
    hops: &[(u16, HopName)],
    packets: &[Packet],
) -> PathBuf {
    let path = folder.join(format!("{node}.otr"));
    let header = Header {
        node: node.into(),
        kernel: "6.12".into(),
        probe_set: "light".into(),
        start_wall_ns,
        machine: Some(Machine { boot_id: boot.into(), ..Machine::default() }),
        ..Header::new()
    };
    let mut writer = Writer::create(&path, false, &header).unwrap();
    writer.hops(hops).unwrap();
    let mut bytes = Vec::new();
    for packet in packets {
        let ports = if packet.is_out { (1000, 80) } else { (80, 1000) };
        let flow = Flow {
            source_port: ports.0,
            destination_port: ports.1,
            protocol: 17,
            version: 4,
            ip_id: packet.id as u16,
            ..Flow::default()
        };
        let flags = if packet.from_device { RecordFlags::FROM_DEVICE } else { RecordFlags::NONE };
        let outcome = if packet.delivered { Outcome::Delivered } else { Outcome::Freed };
        let header = RecordHeader {
            id: packet.id,
            start_ns: packet.start_ns,
            end_ns: packet.start_ns + packet.spans.iter().map(|span| span.ns).sum::<u64>(),
            flow,
            bytes: 100,
            segments: 1,
            flags,
            outcome: outcome as u8,
            witness: packet.id * 7,
            ..RecordHeader::default()
        };
        encode_record(&header, &encode_path(&packet.spans), &mut bytes);
    }
    writer.records(&bytes).unwrap();
    let finished = packets.len() as u64;
    let counters = Counters { started: finished, finished, ..Counters::default() };
    writer.finish(&Checkpoint { duration_ns: 60_000_000_000, counters, clocks: None }).unwrap();
    path
}

/// Requests leave the guest, and answers come back, each crossing in 40 to 60 us.
pub fn recordings(folder: &Path) -> Vec<PathBuf> {
    let (mut guest, mut host) = (Vec::new(), Vec::new());
    for number in 0..PACKETS {
        let at = 10_000_000_000 + number * 50_000_000;
        let crossing = 40_000 + number * 37 % 20_000;
        let sent = vec![span("udp-send", 1, 3_000), span("driver-xmit", 1, 9_000)];
        let request = Packet {
            id: 2 * number + 1,
            start_ns: at - BEHIND,
            is_out: true,
            from_device: false,
            delivered: false,
            spans: sent,
        };
        guest.push(request);
        host.push(Packet {
            id: 2 * number + 1,
            start_ns: at + 3_000 + crossing,
            is_out: true,
            from_device: true,
            delivered: true,
            spans: vec![span("receive", 1, 5_000), span("udp-rcv", 1, 2_000)],
        });
        host.push(Packet {
            id: 2 * number + 2,
            start_ns: at + 1_000_000,
            is_out: false,
            from_device: false,
            delivered: false,
            spans: vec![span("udp-send", 1, 4_000), span("tun-wait", 1, 30_000)],
        });
        guest.push(Packet {
            id: 2 * number + 2,
            start_ns: at + 1_034_000 + crossing - BEHIND - NAPI_NS,
            is_out: false,
            from_device: true,
            delivered: true,
            spans: vec![
                span("napi-irq-wait", 1, NAPI_NS),
                span("receive", 1, 6_000),
                span("udp-rcv", 1, 1_000),
            ],
        });
    }
    vec![
        write(folder, "guest", "boot-a", &[(1, hop("pod", "eth0", ""))], &guest),
        write(folder, "host", "boot-b", &[(1, hop("", "tap0", "tun"))], &host),
    ]
}

pub fn open(paths: &[PathBuf]) -> Vec<Recording> {
    paths.iter().map(|path| Recording::open(path).unwrap()).collect()
}
