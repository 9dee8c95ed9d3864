//! Fragmentation and reassembly: a datagram is cut in the pod, put together for connection tracking on each
//! node and cut again, and put together for its reader.

use anyhow::{Result, ensure};
use overlay_trace_common::record::Outcome as End;
use overlay_trace_lab::dataplanes::{Running, drive as run};
use overlay_trace_lab::traffic::{Kind, Protocol, Size, Spec, Stop, TrafficReport};

use super::counts::total;
use super::packets::{Packets, count};
use crate::networks::moderate;
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

pub const CHECKS: &[Check] = &[check("one-reader", one_reader), check("cut-and-joined", cut_and_joined)];

/// More than two fragments, the last one short.
const SIZE: u32 = 4000;

pub fn drive(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let size = Size { request: SIZE, answer: SIZE };
    let plan = [Spec { size, rate: 100.0, ..moderate(Kind::Rr, Protocol::Udp) }];
    let reports = run(running, &plan, stop);
    super::settle();
    reports
}

/// Of what a datagram was cut into, in however many generations, one packet reaches the reader: whole. All
/// others were cut again, or joined to another one.
fn one_reader(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut datagrams = 0;
    for packet in packets.sent().filter(|packet| packet.is_udp() && packet.header.bytes > SIZE) {
        let name = packet.name();
        ensure!(packet.end() == Some(End::Split), "{name} was not cut");
        let family = packets.family(packet);
        let read: Vec<_> = family.iter().filter(|one| packets.is_delivered(one)).collect();
        ensure!(read.len() == 1, "of {name} {} packets were read", read.len());
        let bytes = read[0].header.bytes;
        ensure!(bytes == packet.header.bytes, "of {name} {bytes} bytes were read");
        for one in &family {
            let is_part = matches!(one.end(), Some(End::Split | End::Merged));
            ensure!(is_part || packets.is_delivered(one), "{} ended as {:?}", one.name(), one.end());
        }
        datagrams += 1;
    }
    ensure!(datagrams > 0, "there were no large datagrams");
    Ok(Verdict::With(format!("{datagrams} datagrams")))
}

/// As many fragments were made, joined and lost in joining as the kernel counted.
fn cut_and_joined(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let (mut made, mut cut) = (0, 0);
    for packet in packets.all.iter().filter(|packet| packet.end() == Some(End::Split)) {
        cut += 1;
        made += packets.children(packet).count() as u64;
    }
    let waited = |packet: &super::packets::Packet| packets.passed(packet, "reassembly-wait");
    let queued = count(packets.all.iter(), |packet| waited(packet));
    let joined = count(packets.all.iter(), |packet| waited(packet) && packet.end() != Some(End::Merged));
    for (what, counter, recorded) in [
        ("were cut", "Ip/FragOKs", cut),
        ("were made by cutting", "Ip/FragCreates", made),
        ("waited for others", "Ip/ReasmReqds", queued),
        ("were put together", "Ip/ReasmOKs", joined),
    ] {
        let counted = total(seen, counter);
        ensure!(counted > 0 && counted == recorded, "{counted} packets {what}, {recorded} were recorded");
    }
    Ok(Verdict::With(format!("{made} fragments, {joined} packets of them")))
}
