//! TCP: what was retransmitted, why, and where the attempt before was lost.

use overlay_trace_analysis::{
    report::{TailFormat, tail},
    tail::{Of, RetransmitTrigger, Tail, Threshold},
};
use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Flow, Outcome, RecordHeader},
};
use overlay_trace_format::Names;
use tempfile::TempDir;

use super::{Record, recording, requests::address, support};

const MS: u64 = 1_000_000;
const REASON: u32 = 77;
const OLD_DATA: u32 = 78;
const PLACE: u64 = 0xffff_ffff_8100_0000;

/// The segments of one connection, in order.
#[derive(Default)]
struct Connection {
    records: Vec<Record>,
}

impl Connection {
    fn add(
        &mut self,
        at_ns: u64,
        is_client: bool,
        sequence: u32,
        bytes: u32,
        flags: RecordFlags,
        is_lost: bool,
    ) {
        let (client, server) = (address(1), address(2));
        let (source, destination, source_port, destination_port) =
            if is_client { (client, server, 40_000, 7700) } else { (server, client, 7700, 40_000) };
        let (protocol, version) = (6, 4);
        let flow = Flow {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
            version,
            sequence,
            ..Flow::default()
        };
        let segment = |name, ns, hop| Span { ns, hop, level: 0, stage: support::stage(name), cpu: None };
        let mut way = vec![segment("udp-send", 1000, 2), segment("gro-cells-wait", 500, 7)];
        if !is_lost {
            way.push(segment("udp-rcv", 800, 9));
            // A pure acknowledgement ends there; data waits in the socket for a while.
            way.extend((!flags.has(RecordFlags::NO_DATA)).then(|| segment("socket-wait", MS, 9)));
        }
        let outcome = if is_lost { Outcome::Dropped } else { Outcome::Delivered };
        let id = self.records.len() as u64 + 1;
        let header = support::record(id, at_ns, &way, outcome);
        let (drop_reason, drop_location) = if is_lost { (REASON, PLACE) } else { (0, 0) };
        let bytes = bytes + 52;
        self.records.push((RecordHeader { flow, bytes, flags, drop_reason, drop_location, ..header }, way));
    }

    fn view(&self, reason: &str, function: &str) -> Tail {
        let dir = TempDir::new().unwrap();
        let mut names = Names::default();
        names.drop_reasons.insert(REASON, reason.into());
        names.drop_reasons.insert(OLD_DATA, "TCP_OLD_DATA".into());
        names.symbols.insert(PLACE, format!("{function}+0x1f"));
        let recording = recording(dir.path(), &support::header(), &support::hops(), &names, &self.records);
        Tail::of(&recording, Of::Packets, Threshold::default(), 0).unwrap()
    }
}

fn losses(tail: &Tail) -> Vec<(RetransmitTrigger, u64, u64)> {
    let mut losses: Vec<_> =
        tail.tcp.retransmissions.iter().map(|loss| (loss.trigger, loss.segments, loss.longest_ns)).collect();
    losses.sort_unstable();
    losses
}

#[test]
fn timeouts_are_joined_to_drops() {
    let mut connection = Connection::default();
    let mut at_ns = 0;
    for number in 0..10 {
        at_ns += 1000 * MS;
        let sequence = 5000 + number * 100;
        connection.add(at_ns, true, sequence, 100, RecordFlags::NONE, true);
        if number == 3 {
            connection.add(at_ns + 203 * MS, true, sequence, 100, RecordFlags::NONE, true);
            connection.add(at_ns + 609 * MS, true, sequence, 100, RecordFlags::NONE, false);
        } else {
            connection.add(at_ns + 203 * MS, true, sequence, 100, RecordFlags::NONE, false);
        }
    }
    let found = connection.view("CPU_BACKLOG", "enqueue_to_backlog");
    assert_eq!(losses(&found), [(RetransmitTrigger::Timeout, 11, 406 * MS)]);
    let waits = found.tcp.timeout_waits.as_ref().unwrap();
    let by_multiple: Vec<_> = waits.by_multiple.clone().into_iter().collect();
    assert_eq!((waits.shortest_ns, by_multiple), (203 * MS, vec![(1, 10), (2, 1)]));
    let first = &found.findings[0];
    assert_eq!((first.rule.id, first.retransmitted.timeouts), ("backlog-overflow", 11));
    assert_eq!(first.key.device.as_deref(), Some("flannel.1"));
    assert_eq!(first.lost_ns, u128::from(203 * 10 + 406 * MS / MS) * u128::from(MS));
    let text = String::from_utf8(tail(&found, TailFormat::FullText).unwrap()).unwrap();
    let mut lines = text.lines();
    let cause = lines.next().unwrap();
    assert!(
        cause.starts_with("Cause: a CPU's backlog was full") && cause.contains("11 packets were lost"),
        "{cause}"
    );
    let line = lines.next().unwrap();
    for words in ["11 TCP segments waited", "10 for 203ms, 1 for 2 times that", "enqueue_to_backlog in"] {
        assert!(line.contains(words), "{line}");
    }
    // Where no rule knows the drop, it is told as the kernel names it.
    let strange = &connection.view("STRANGE", "strange").findings[0];
    assert_eq!((strange.rule.id, strange.retransmitted.timeouts), ("drop", 11));
}

#[test]
fn a_single_loss_is_a_finding_if_tcp_waited_for_its_timer() {
    let mut connection = Connection::default();
    connection.add(0, true, 900, 0, RecordFlags::SYN | RecordFlags::NO_DATA, true);
    connection.add(1000 * MS, true, 900, 0, RecordFlags::SYN | RecordFlags::NO_DATA, false);
    for number in 0..300u32 {
        connection.add(
            (1010 + u64::from(number)) * MS,
            true,
            901 + number * 100,
            100,
            RecordFlags::NONE,
            false,
        );
    }
    let found = connection.view("NOT_SPECIFIED", "xfrm_input");
    let first = &found.findings[0];
    assert_eq!((first.rule.id, first.packets, first.retransmitted.timeouts), ("drop", 1, 1));
    assert!(first.what().contains("IPsec"), "{}", first.what());
}

#[test]
fn fast_retransmits_probes_and_handshakes_are_told_apart() {
    let mut connection = Connection::default();
    connection.add(0, true, 900, 0, RecordFlags::SYN | RecordFlags::NO_DATA, true);
    connection.add(1000 * MS, true, 900, 0, RecordFlags::SYN | RecordFlags::NO_DATA, false);
    connection.add(1010 * MS, true, 901, 100, RecordFlags::NONE, true);
    connection.add(1011 * MS, true, 1001, 100, RecordFlags::NONE, false);
    // Its acknowledgement is being processed when the first one is retransmitted.
    connection.add(1012 * MS, false, 300, 0, RecordFlags::NO_DATA, false);
    connection.add(1012 * MS + 1600, true, 901, 100, RecordFlags::NONE, false);
    // No acknowledgement had arrived, and the timer was short.
    connection.add(1100 * MS, true, 1101, 100, RecordFlags::NONE, true);
    connection.add(1120 * MS, true, 1101, 100, RecordFlags::NONE, false);
    let found = connection.view("", "");
    assert_eq!(
        losses(&found),
        [
            (RetransmitTrigger::Handshake, 1, 1000 * MS),
            (RetransmitTrigger::Probe, 1, 20 * MS),
            (RetransmitTrigger::Fast, 1, 2 * MS + 1600)
        ]
    );
    assert_eq!((found.tcp.segments, found.tcp.out_of_order), (4, 0));
}

#[test]
fn a_retransmission_is_joined_to_a_dropped_acknowledgement() {
    let mut connection = Connection::default();
    connection.add(0, true, 100, 100, RecordFlags::NONE, false);
    connection.add(MS, false, 300, 0, RecordFlags::NO_DATA, true);
    connection.add(210 * MS, true, 100, 100, RecordFlags::NONE, false);
    let found = connection.view("QDISC_DROP", "__dev_queue_xmit");
    assert_eq!(losses(&found), [(RetransmitTrigger::Timeout, 1, 210 * MS)]);
    let dropped_at = found.tcp.retransmissions[0].dropped_at.as_ref().unwrap();
    assert_eq!(
        (dropped_at.reason.as_str(), dropped_at.key.device.as_deref()),
        ("QDISC_DROP", Some("flannel.1"))
    );
}

#[test]
fn reordering_and_zero_windows_are_counted() {
    let mut connection = Connection::default();
    for (at_ns, sequence) in [(0, 100), (10 * MS, 200), (11 * MS, 300), (20 * MS, 400)] {
        connection.add(at_ns, true, sequence, 100, RecordFlags::NONE, false);
    }
    // The second one waits until the third has arrived.
    let (header, way) = &mut connection.records[1];
    way[1].ns += 5 * MS;
    header.end_ns += 5 * MS;
    for at_ns in 30..34 {
        connection.add(at_ns * MS, false, 300, 0, RecordFlags::NO_DATA | RecordFlags::ZERO_WINDOW, false);
    }
    let found = connection.view("", "");
    assert_eq!((found.tcp.out_of_order, found.tcp.zero_windows), (1, 4));
    assert!(losses(&found).is_empty());
    assert!(found.findings.iter().any(|finding| finding.rule.id == "zero-window"));
}

#[test]
fn sampled_segments_are_weighted_and_retransmissions_joined() {
    let mut connection = Connection::default();
    // Every tenth request has a record. One in between is lost; it and its retransmission have records too.
    for number in 0..20 {
        connection.add(number * 10 * MS, true, 1000 + number as u32 * 100, 10, RecordFlags::NONE, false);
        connection.records.last_mut().unwrap().0.weight = 10;
    }
    connection.add(205 * MS, true, 3050, 10, RecordFlags::NONE, true);
    connection.add(415 * MS, true, 3050, 10, RecordFlags::NONE, false);
    let tail = connection.view("", "gro_cells_receive");
    assert_eq!(tail.tcp.segments, 201);
    assert_eq!(losses(&tail), [(RetransmitTrigger::Timeout, 1, 210 * MS)]);
    assert!(tail.tcp.retransmissions[0].dropped_at.is_some());
}

#[test]
fn a_duplicate_after_a_lost_acknowledgement_is_a_retransmission_even_without_a_record_of_the_first_attempt() {
    let mut connection = Connection::default();
    connection.add(0, true, 100, 100, RecordFlags::NONE, false);
    connection.add(500 * MS, true, 900, 0, RecordFlags::NO_DATA, true);
    connection.add(710 * MS, false, 7000, 100, RecordFlags::NONE, false);
    // TCP has the data already.
    let (duplicate, _) = connection.records.last_mut().unwrap();
    (duplicate.outcome, duplicate.drop_reason) = (Outcome::Dropped as u8, OLD_DATA);
    let found = connection.view("", "gro_cells_receive");
    assert_eq!(losses(&found), [(RetransmitTrigger::Timeout, 1, 210 * MS)]);
    assert!(found.tcp.retransmissions[0].dropped_at.is_some());
}
