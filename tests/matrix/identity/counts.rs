//! As many packets as the kernel's own counters say: each record is one packet, and each packet has one.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::packets::{Packets, count};
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

pub const COUNTED: &[Check] = &[check("udp-counts", udp), check("tcp-counts", tcp)];

/// The growth of a counter in a namespace.
pub fn counter(seen: &Seen, namespace: &str, name: &str) -> u64 {
    seen.counted.get(&format!("{namespace} {name}")).copied().unwrap_or_default().try_into().unwrap_or(0)
}

/// The sum of a counter over all namespaces.
pub fn total(seen: &Seen, name: &str) -> u64 {
    namespaces(seen).iter().map(|namespace| counter(seen, namespace, name)).sum()
}

fn namespaces(seen: &Seen) -> BTreeSet<&str> {
    seen.counted.keys().filter_map(|key| key.split(' ').next()).collect()
}

/// Sockets sent and read as many datagrams as were recorded, in each namespace.
fn udp(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut all = 0;
    // On a node the kernel's count is also of the tunnels' packets.
    for namespace in namespaces(seen).into_iter().filter(|namespace| namespace.starts_with("pod")) {
        let sent = count(packets.sent(), |packet| {
            packet.is_udp() && packet.header.flow.version == 4 && packets.origin(packet) == Some(namespace)
        });
        let read = count(packets.all.iter(), |packet| {
            let here = packets.namespaces(packet).last() == Some(&namespace);
            here && packet.is_udp()
                && packet.header.flow.version == 4
                && packets.is_delivered(packet)
                && packets.passed(packet, "socket-wait")
        });
        equal(namespace, "datagrams were sent", counter(seen, namespace, "Udp/OutDatagrams"), sent)?;
        equal(namespace, "datagrams were read", counter(seen, namespace, "Udp/InDatagrams"), read)?;
        all += sent + read;
    }
    Ok(Verdict::With(format!("{all} sent and read")))
}

/// TCP sent and took in as many segments as were recorded, in each namespace.
fn tcp(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut all = 0;
    for namespace in namespaces(seen) {
        let is_own = |packet: &super::packets::Packet| {
            packet.is_tcp() && packet.header.flow.version == 4 && packets.origin(packet) == Some(namespace)
        };
        let sent = packets.sent_segments(is_own);
        let taken = count(packets.all.iter(), |packet| {
            let here = packets.namespaces(packet).last() == Some(&namespace);
            here && packet.header.flow.version == 4 && packets.passed(packet, "tcp-rcv")
        });
        let counted = counter(seen, namespace, "Tcp/OutSegs") + counter(seen, namespace, "Tcp/RetransSegs");
        // A SYN with ACK that is sent again is in both counts.
        let twice = counter(seen, namespace, "TcpExt/TCPSynRetrans");
        ensure!(
            sent.start() <= &counted && counted - twice <= *sent.end(),
            "in {namespace} {counted} segments were sent, by the kernel's count, and {sent:?} recorded"
        );
        equal(namespace, "segments were taken in", counter(seen, namespace, "Tcp/InSegs"), taken)?;
        all += sent.end() + taken;
    }
    Ok(Verdict::With(format!("{all} sent and taken in")))
}

fn equal(namespace: &str, what: &str, counted: u64, recorded: u64) -> Result<()> {
    ensure!(
        counted == recorded,
        "in {namespace} {counted} {what}, by the kernel's count, and {recorded} recorded"
    );
    Ok(())
}
