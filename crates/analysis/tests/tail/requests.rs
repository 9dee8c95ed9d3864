//! Requests with their answers, and flows.

use overlay_trace_analysis::{
    report::{TailFormat, tail},
    tail::{Of, Tail, Threshold},
};

use overlay_trace_common::{
    flags::RecordFlags,
    path::Span,
    record::{Flow, Outcome, RecordHeader},
};
use overlay_trace_format::Names;
use tempfile::TempDir;

use super::{Record, assert_conserved, recording, support};

const UDP: u8 = 17;
const TCP: u8 = 6;
const REQUESTS: u64 = 800;
const CLIENTS: u64 = 8;

pub fn address(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[10, 0, 0, last]);
    address
}

fn record(id: u64, start_ns: u64, steps: &[(&str, u64)], outcome: Outcome, flow: Flow, bytes: u32) -> Record {
    let segment =
        |&(name, ns): &(&str, u64)| Span { ns, hop: 2, level: 0, stage: support::stage(name), cpu: None };
    let way: Vec<Span> = steps.iter().map(segment).collect();
    (RecordHeader { flow, bytes, ..support::record(id, start_ns, &way, outcome) }, way)
}

/// How long the network and the server take over a request, in ns.
struct Times {
    way: u64,
    server: u64,
}

/// Requests of eight clients in turn to a virtual address, the answers from a real one; every 50th answer is
/// lost. Returns what all pairs took together as well.
fn traffic(protocol: u8, times: impl Fn(u64) -> Times) -> (Vec<Record>, u128) {
    let (mut records, mut all) = (Vec::new(), 0);
    for number in 0..REQUESTS {
        let port = 40_000 + (number % CLIENTS) as u16;
        let flow = Flow {
            source: address(1),
            destination: address(99),
            source_port: port,
            destination_port: 7700,
            protocol,
            version: 4,
            sequence: 1000 * number as u32,
            ..Flow::default()
        };
        let back = Flow {
            source: address(2),
            destination: address(1),
            source_port: 7700,
            destination_port: port,
            ..flow
        };
        let Times { way, server } = times(number);
        // A client waits for its answer, also when a segment is sent again, before it asks again.
        let start = number * 40_000_000;
        let there = [("backlog-wait", way), ("socket-wait", 700 + number % 5)];
        let request = record(number * 4 + 1, start, &there, Outcome::Delivered, flow, 120);
        let answered = request.0.end_ns + server;
        let is_lost = number % 50 == 49;
        let outcome = if is_lost { Outcome::Dropped } else { Outcome::Delivered };
        let answer = record(number * 4 + 2, answered, &[("udp-send", 300)], outcome, back, 400);
        if !is_lost {
            all += u128::from(answer.0.end_ns - start);
        }
        let mut acknowledgement =
            record(number * 4 + 3, answered, &[("ip-rcv", 90)], Outcome::Delivered, back, 52);
        acknowledgement.0.flags = RecordFlags::NO_DATA;
        records.push(request);
        if protocol == TCP {
            records.push(acknowledgement);
        }
        records.push(answer);
    }
    (records, all)
}

fn of(records: &[Record], of: Of, above: f64) -> Tail {
    let dir = TempDir::new().unwrap();
    let recording = recording(dir.path(), &support::header(), &support::hops(), &Names::default(), records);
    let tail = Tail::of(&recording, of, Threshold::Quantile(above), 1).unwrap();
    assert_conserved(&tail);
    tail
}

/// As in the set `device`, which does not see the packet in its socket.
#[test]
fn a_request_that_was_delivered_is_answered_here() {
    for (outcome, stage) in [(Outcome::Delivered, "answering"), (Outcome::Freed, "elsewhere")] {
        let (mut records, _) = traffic(UDP, |number| Times { way: 2000, server: 9000 + number });
        for record in records.iter_mut().filter(|record| record.0.flow.destination_port == 7700) {
            let Span { ns, .. } = record.1.remove(1);
            record.1.push(Span { stage: support::stage("receive"), ns, ..record.1[0] });
            record.0.outcome = outcome as u8;
        }
        let found = of(&records, Of::Requests, 0.985);
        let steps = found.slowest[0].steps.iter().map(|step| step.key.stage.as_deref().unwrap());
        assert_eq!(steps.collect::<Vec<_>>(), ["backlog-wait", "receive", stage, "udp-send"]);
    }
}

#[test]
fn what_has_no_ports_is_no_request() {
    let (mut records, _) = traffic(UDP, |_| Times { way: 2000, server: 9000 });
    let (there, back) = (address(1), address(2));
    for (start_ns, source, destination) in [(0, there, back), (5_000_000_000, back, there)] {
        let flow = Flow { source, destination, protocol: 58, version: 6, ..Flow::default() };
        records.push(record(4000 + start_ns, start_ns, &[("ip-rcv", 90)], Outcome::Delivered, flow, 72));
    }
    records.sort_by_key(|record| record.0.start_ns);
    let found = of(&records, Of::Requests, 0.985);
    assert_eq!((found.slow.packets + found.ordinary.packets, found.unpaired), (784, 16));
}

/// The causes of delay: the requests that are lost are a cause of their own.
fn delays(tail: &Tail) -> Vec<&'static str> {
    tail.findings.iter().filter(|finding| finding.drop.is_none()).map(|finding| finding.rule.id).collect()
}

#[test]
fn a_slow_server_is_told_from_a_slow_network() {
    for protocol in [UDP, TCP] {
        for (slow_way, slow_server, cause) in
            [(400_000, 9_000, "backlog-wait"), (2000, 400_000, "slow-answer")]
        {
            let times = |number| match number % 100 {
                7 => Times { way: slow_way, server: slow_server },
                _ => Times { way: 2000 + number % 9, server: 9000 + number % 11 },
            };
            let (records, all) = traffic(protocol, times);
            let found = of(&records, Of::Requests, 0.985);
            let lost = REQUESTS / 50;
            assert_eq!(found.slow.packets + found.ordinary.packets, REQUESTS - lost);
            assert_eq!(found.slow.sum_ns + found.ordinary.sum_ns, all);
            assert_eq!(found.unpaired, lost);
            assert_eq!(delays(&found), [cause]);
            let steps = found.slowest[0].steps.iter().map(|step| step.key.stage.as_deref().unwrap());
            assert_eq!(steps.collect::<Vec<_>>(), ["backlog-wait", "socket-wait", "answering", "udp-send"]);
            let text = String::from_utf8(tail(&found, TailFormat::FullText).unwrap()).unwrap();
            assert!(text.contains("\nThe slowest ") && text.contains(" of requests ("), "{text}");
            assert!(
                text.contains("784 requests with their answers, 16 requests without an answer"),
                "{text}"
            );
        }
    }
}

#[test]
fn what_has_left_the_machine_is_elsewhere() {
    let times = |number| Times { way: 2000, server: if number % 100 == 7 { 400_000 } else { 9000 } };
    let (mut records, _) = traffic(UDP, times);
    let requests = records.iter_mut().filter(|(header, _)| header.flow.destination_port == 7700);
    requests.for_each(|(header, way)| {
        header.outcome = Outcome::Freed as u8;
        way.last_mut().unwrap().stage = support::stage("driver-xmit");
    });
    let found = of(&records, Of::Requests, 0.985);
    assert_eq!(delays(&found), ["elsewhere"]);
}

#[test]
fn a_slow_flow_is_found_among_the_others() {
    let times = |number| Times { way: if number % CLIENTS == 3 { 300_000 } else { 2000 }, server: 9000 };
    let found = of(&traffic(UDP, times).0, Of::Flows, 0.9);
    // Eight clients, there and back.
    assert_eq!((found.slow.units, found.ordinary.units), (1, 15));
    assert_eq!((found.slow.packets, found.slow.mean_ns), (REQUESTS / CLIENTS, 300_702));
    assert_eq!(found.rows[0].key.stage.as_deref(), Some("backlog-wait"));
    assert_eq!(found.slowest[0].header.flow.source_port, 40_003);
    let text = String::from_utf8(tail(&found, TailFormat::FullText).unwrap()).unwrap();
    assert!(text.contains("\nThe slowest 6.2% of flows (1 of 16, above "), "{text}");
}

/// Requests some of which, or of whose answers, are dropped and sent again `wait` ns later; what all took together, and how
/// many were dropped.
fn with_losses(is_answer: bool, wait: u64) -> (Vec<Record>, u128, u64) {
    let times = |number| Times { way: 2000 + number % 9, server: 9000 + number % 11 };
    let (mut records, all) = traffic(TCP, times);
    let mut delayed = 0;
    let port = if is_answer { 7700 } else { 40_000 };
    let hit: Vec<usize> = (0..records.len())
        .filter(|&at| {
            let (header, _) = &records[at];
            header.id % 200 < 4 && header.bytes > 60 && header.flow.source_port == port
        })
        .collect();
    // From the last to the first, so that the places stay right.
    for &at in hit.iter().rev() {
        let (header, way) = &records[at];
        let lost = [("ip-rcv", 400), ("gro-cells-wait", 1)];
        let (first, mut lost_way) = record(
            header.id + 1_000_000,
            header.start_ns,
            &lost,
            Outcome::Dropped,
            header.flow,
            header.bytes,
        );
        lost_way.iter_mut().for_each(|segment| segment.hop = 7);
        let retransmission =
            RecordHeader { start_ns: header.start_ns + wait, end_ns: header.end_ns + wait, ..*header };
        let retransmission = (retransmission, way.clone());
        delayed += 1;
        // What the server does follows the request.
        let mut follows = Vec::new();
        if !is_answer {
            for (header, way) in records.drain(at + 1..at + 3).collect::<Vec<_>>() {
                let (start_ns, end_ns) = (header.start_ns + wait, header.end_ns + wait);
                follows.push((RecordHeader { start_ns, end_ns, ..header }, way));
            }
        }
        records.splice(at..at + 1, [vec![(first, lost_way), retransmission], follows].concat());
    }
    assert!(delayed >= 3);
    (records, all + u128::from(delayed * wait), delayed)
}

#[test]
fn a_retransmitted_request_waits_where_it_was_dropped() {
    const TIMEOUT: u64 = 203_000_000;
    for is_answer in [false, true] {
        let (records, all, delayed) = with_losses(is_answer, TIMEOUT);
        let found = of(&records, Of::Requests, 0.9);
        assert_eq!(found.slow.sum_ns + found.ordinary.sum_ns, all);
        let first = found.findings.iter().find(|finding| finding.retransmitted.segments > 0).unwrap();
        assert_eq!((first.rule.id, first.retransmitted.timeouts), ("drop", delayed));
        assert_eq!((first.key.device.as_deref(), first.packets), (Some("flannel.1"), delayed));
        assert!(found.slowest[0].ns > TIMEOUT);
        assert_eq!(found.rows[0].key.stage.as_deref(), Some("retransmission-wait"));
    }
}

#[test]
fn a_wait_for_a_loss_probe_is_no_timeout() {
    const PROBE: u64 = 45_000_000;
    for is_answer in [false, true] {
        let (records, all, delayed) = with_losses(is_answer, PROBE);
        let found = of(&records, Of::Requests, 0.99);
        assert_eq!(found.slow.sum_ns + found.ordinary.sum_ns, all);
        assert_eq!(found.rows[0].key.stage.as_deref(), Some("loss-probe-wait"));
        let probe = found.findings.iter().find(|finding| finding.rule.id == "loss-probe").unwrap();
        assert_eq!((probe.key.device.as_deref(), probe.packets), (Some("flannel.1"), delayed));
    }
}

/// A client, its server, and both directions between them.
fn flows(port: u16) -> (Flow, Flow) {
    let there = Flow {
        source: address(1),
        destination: address(2),
        source_port: port,
        // Above the client's: who opens the connection is the client.
        destination_port: 50_051,
        protocol: TCP,
        version: 4,
        ..Flow::default()
    };
    let back = Flow {
        source: there.destination,
        destination: there.source,
        source_port: there.destination_port,
        destination_port: there.source_port,
        ..there
    };
    (there, back)
}

/// Rounds of requests of three segments with answers of two; each round on a connection of its own. The client waits
/// `pause` ns between its request's second and third segment.
fn long_requests(rounds: u64, pause: impl Fn(u64) -> u64) -> (Vec<Record>, Vec<u64>) {
    let (mut records, mut times) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (there, back) = flows(40_000 + round as u16);
        let mut id = round * 20;
        let mut start = round * 100_000_000;
        let mut send = |flow: Flow, start: u64, ns: u64, sequence: u32, flags: RecordFlags| {
            id += 1;
            let flow = Flow { sequence, ..flow };
            let mut record = record(
                id,
                start,
                &[("backlog-wait", ns), ("socket-wait", 50)],
                Outcome::Delivered,
                flow,
                1000,
            );
            record.0.flags = flags;
            let end = record.0.end_ns;
            records.push(record);
            end
        };
        let handshake = RecordFlags::SYN | RecordFlags::NO_DATA;
        let number = round as u32 * 10_000;
        let syn = send(there, start, 1000, number, handshake);
        let connected = send(back, syn + 10, 1000, number, handshake);
        let connecting = connected - start;
        // The client does something else first.
        start = connected + 5_000_000;
        let first = send(there, start, 2000, number + 1, RecordFlags::NONE);
        send(there, first, 2000, number + 1000, RecordFlags::NONE);
        let last = send(there, first + pause(round), 2000, number + 2000, RecordFlags::NONE);
        let answer = send(back, last + 7000, 2000, number + 1, RecordFlags::NONE);
        let end = send(back, answer - 500, 3000, number + 1000, RecordFlags::NONE);
        times.push(connecting + end - start);
    }
    (records, times)
}

#[test]
fn a_request_of_several_segments_is_measured_from_its_connection_to_the_last_byte_of_its_answer() {
    let (records, times) = long_requests(200, |round| if round % 100 == 7 { 40_000_000 } else { 3000 });
    let found = of(&records, Of::Requests, 0.985);
    assert_eq!((found.slow.packets, found.ordinary.packets, found.unpaired), (2, 198, 0));
    let all: u128 = times.iter().map(|ns| u128::from(*ns)).sum();
    assert_eq!(found.slow.sum_ns + found.ordinary.sum_ns, all);
    let steps = found.slowest[0].steps.iter().map(|step| step.key.stage.as_deref().unwrap());
    assert_eq!(
        steps.collect::<Vec<_>>(),
        [
            "connection-wait",
            "request-transfer",
            "backlog-wait",
            "socket-wait",
            "answering",
            "answer-transfer",
            "backlog-wait",
            "socket-wait"
        ]
    );
    assert_eq!(found.rows[0].key.stage.as_deref(), Some("request-transfer"));
}

#[test]
fn a_client_waits_while_its_machine_acknowledges_the_connection() {
    let (records, times) = long_requests(50, |_| 3000);
    let mut more = Vec::new();
    for (at, record) in records.iter().enumerate() {
        more.push(record.clone());
        if at % 7 == 1 {
            // The SYN's answer has come: the acknowledgement goes to where the SYN went.
            let mut acknowledgement = records[at - 1].clone();
            let (connected, ns) = (record.0.end_ns, acknowledgement.0.end_ns - acknowledgement.0.start_ns);
            acknowledgement.0.id += 1_000_000;
            acknowledgement.0.flags = RecordFlags::NO_DATA;
            acknowledgement.0.start_ns = connected + 100;
            acknowledgement.0.end_ns = connected + 100 + ns;
            more.push(acknowledgement);
        }
    }
    let found = of(&more, Of::Requests, 0.94);
    let before: u128 = times.iter().map(|ns| u128::from(*ns)).sum();
    assert_eq!(found.slow.sum_ns + found.ordinary.sum_ns, before + 50 * (100 + 1050));
}

#[test]
fn the_wait_for_a_connection_belongs_to_its_first_request() {
    const RETRY: u64 = 1_000_000_000;
    let (records, times) = long_requests(200, |_| 3000);
    let (mut all, mut changed) = (0, Vec::new());
    for (at, mut record) in records.into_iter().enumerate() {
        let (round, place) = (at / 7, at % 7);
        if round % 20 == 7 {
            if place == 0 {
                // The listener discards it, and the client sends it again.
                let mut first = record.clone();
                first.0.id += 1_000_000;
                (first.0.flags, first.0.outcome) = (record.0.flags, Outcome::Freed as u8);
                changed.push(first);
            }
            record.0.start_ns += RETRY;
            record.0.end_ns += RETRY;
        }
        changed.push(record);
    }
    for (round, ns) in times.iter().enumerate() {
        all += u128::from(ns + if round % 20 == 7 { RETRY } else { 0 });
    }
    let found = of(&changed, Of::Requests, 0.94);
    assert_eq!(found.slow.sum_ns + found.ordinary.sum_ns, all);
    assert_eq!((found.slow.packets, found.rows[0].key.stage.as_deref()), (10, Some("connection-wait")));
    assert_eq!(delays(&found), ["slow-connect"]);
}

#[test]
fn the_rest_of_a_request_waits_for_a_delayed_acknowledgement() {
    rest_waits(40_000_000, "delayed-ack-wait", "delayed-ack");
}

#[test]
fn the_rest_of_a_request_waits_for_the_window() {
    rest_waits(10_000_000, "window-wait", "window-full");
}

/// The last segment of some requests is sent when an acknowledgement arrives, which takes so long.
fn rest_waits(delay: u64, stage: &str, cause: &str) {
    let (found, times) = rests(|round| round % 20 == 7, delay, 3000);
    let all: u128 = times.iter().map(|ns| u128::from(*ns)).sum();
    assert_eq!((found.slow.packets, found.slow.sum_ns + found.ordinary.sum_ns), (10, all));
    assert_eq!(found.rows[0].key.stage.as_deref(), Some(stage));
    assert_eq!(delays(&found), [cause]);
}

#[test]
fn a_wait_that_every_request_has_is_a_cause() {
    for (delay, cause) in [(40_000_000, "delayed-ack"), (10_000_000, "window-full")] {
        // One in twenty is slower still, for another reason.
        let (found, _) = rests(|round| round % 20 != 7, delay, 90_000_000);
        assert_eq!(delays(&found), [cause]);
        let finding = &found.findings[0];
        assert!(finding.share.unwrap() > 0.9 && finding.typical_ns.is_some_and(|ns| ns > delay * 9 / 10));
        let text = String::from_utf8(tail(&found, TailFormat::FullText).unwrap()).unwrap();
        assert!(text.lines().next().unwrap().contains("of all requests, not only of slow ones"), "{text}");
    }
}

/// Requests, some of which wait so long for an acknowledgement before they send their last segment, and the others so long
/// for their program; and what each took.
fn rests(waits: impl Fn(u64) -> bool, delay: u64, pause: u64) -> (Tail, Vec<u64>) {
    let (mut records, times) = long_requests(200, |round| if waits(round) { 2050 + delay } else { pause });
    let mut acknowledgements = Vec::new();
    for round in (0..200).filter(|round| waits(*round as u64)) {
        let (header, way) = &records[round * 7 + 3];
        let (start_ns, back) = (header.end_ns + delay - 2000, flows(40_000 + round as u16).1);
        let (mut header, way) =
            (RecordHeader { flow: back, start_ns, end_ns: start_ns + way[0].ns, ..*header }, vec![way[0]]);
        (header.id, header.flags, header.bytes) = (header.id + 5_000_000, RecordFlags::NO_DATA, 52);
        acknowledgements.push((round * 7 + 4, (header, way)));
    }
    for (at, acknowledgement) in acknowledgements.into_iter().rev() {
        records.insert(at, acknowledgement);
    }
    (of(&records, Of::Requests, 0.94), times)
}

#[test]
fn what_nobody_answers_is_told_from_requests_without_their_answers() {
    let (records, _) = traffic(UDP, |_| Times { way: 2000, server: 9000 });
    let found = of(&records, Of::Requests, 0.985);
    assert_eq!((found.unpaired, found.unanswered), (16, 16));
    let text = String::from_utf8(tail(&found, TailFormat::FullText).unwrap()).unwrap();
    assert!(text.contains("\n16 of 800 requests had no answer") || text.starts_with("16 of 800"), "{text}");
    // Nobody answers these: datagrams of a stream.
    let stream =
        records.into_iter().filter(|record| record.0.flow.destination_port == 7700).collect::<Vec<_>>();
    let found = of(&stream, Of::Requests, 0.985);
    assert_eq!((found.unpaired, found.unanswered), (REQUESTS, 0));
}
