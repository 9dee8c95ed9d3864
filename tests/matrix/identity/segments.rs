//! Packets that are cut into segments or merged of them, by TCP and by UDP, in software.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg, setsockopt, sockopt};
use overlay_trace_common::record::Outcome as End;
use overlay_trace_lab::dataplanes::{Running, drive as run};
use overlay_trace_lab::traffic::{Kind, Protocol, Size, Spec, Stop, TrafficReport};

use super::packets::{Packet, Packets, count, segments};
use super::sockets::{PORT, reading, socket};
use crate::networks::moderate;
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

pub const CUT: &[Check] = &[check("cut", cut), check("arrived", arrived)];
pub const MERGED: &[Check] = &[check("merged", merged), check("cut", cut), check("arrived", arrived)];
pub const UDP_CUT: &[Check] = &[check("datagrams", udp_cut)];
pub const UDP_WHOLE: &[Check] = &[check("datagrams", udp_whole)];
pub const UDP_LIST: &[Check] = &[check("merged", merged), check("datagrams", udp_list)];

/// Bytes of a UDP segment, how many are sent at once, and how often.
const SEGMENT: u16 = 1000;
const AT_ONCE: u32 = 8;
const TIMES: u32 = 100;
/// Headers of TCP over IPv4: without options, with all of them.
const TCP_HEADERS: std::ops::RangeInclusive<u64> = 40..=80;

const SOFTWARE: &[(&str, &str)] =
    &[("node1", "ethtool -K eth0 tso off gso off"), ("node2", "ethtool -K eth0 tso off gso off")];
const HARDWARE: &[(&str, &str)] =
    &[("node1", "ethtool -K eth0 tso on gso on"), ("node2", "ethtool -K eth0 tso on gso on")];

/// Answers that TCP hands down as one large packet each, and that the nodes' NICs cannot cut.
pub fn gso(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    super::with(running, SOFTWARE, HARDWARE, || large_answers(running, stop))
}

/// The same, put together again where they arrive.
pub fn gro(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let on = [("node1", "ethtool -K eth0 gro on"), ("pod2", "ethtool -K eth0 gro on")];
    let off = [("node1", "ethtool -K eth0 gro off"), ("pod2", "ethtool -K eth0 gro off")];
    super::with(running, &[SOFTWARE, &on].concat(), &[HARDWARE, &off].concat(), || {
        large_answers(running, stop)
    })
}

fn large_answers(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let size = Size { request: 100, answer: 60_000 };
    run(running, &[Spec { size, rate: 40.0, ..moderate(Kind::Rr, Protocol::Tcp) }], stop)
}

/// Every segment has its parent, and the parts are the whole: their data, and their number.
fn cut(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut parts = 0;
    for packet in packets.all.iter().filter(|packet| packet.end() == Some(End::Split)) {
        let name = packet.name();
        let children: Vec<&Packet> = packets.children(packet).collect();
        let number = children.len() as u64;
        ensure!(
            number == u64::from(packet.header.segments),
            "{name} has {} segments and {number} children",
            packet.header.segments
        );
        let sum: u64 = children.iter().map(|child| u64::from(child.header.bytes)).sum();
        let headers = (sum - u64::from(packet.header.bytes)) / (number - 1).max(1);
        ensure!(
            TCP_HEADERS.contains(&headers) && u64::from(packet.header.bytes) + (number - 1) * headers == sum,
            "{name} was cut into {number} with {sum} bytes"
        );
        parts += number;
    }
    ensure!(parts > 0, "nothing was cut");
    Ok(Verdict::With(format!("{parts} segments")))
}

/// TCP takes in as many segments as it sent.
fn arrived(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let sent = packets.sent_segments(Packet::is_tcp);
    let came = segments(packets.all.iter().filter(|packet| packets.passed(packet, "tcp-rcv")));
    ensure!(sent.contains(&came), "{sent:?} segments were sent, {came} arrived");
    Ok(Verdict::With(format!("{came} segments")))
}

fn merged(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let merged = count(packets.all.iter(), |packet| packet.end() == Some(End::Merged));
    ensure!(merged > 0, "nothing was merged");
    Ok(Verdict::With(format!("{merged} merged")))
}

/// Datagrams handed to the kernel several at once, for a reader who takes them one by one.
pub fn udp_gso(running: &Running, _: &Stop) -> Result<Vec<TrafficReport>> {
    let reader = socket(running, "pod2", PORT)?;
    reading(&[&reader], || send_segments(running))?;
    Ok(Vec::new())
}

/// The same, for a reader who takes them together.
pub fn udp_gro(running: &Running, _: &Stop) -> Result<Vec<TrafficReport>> {
    let reader = socket(running, "pod2", PORT)?;
    setsockopt(&reader, sockopt::UdpGroSegment, &true).context("UDP_GRO")?;
    reading(&[&reader], || send_segments(running))?;
    Ok(Vec::new())
}

/// Datagrams that are cut by the pod, chained by node1's GRO, and taken apart at its NIC.
pub fn gro_list(running: &Running, _: &Stop) -> Result<Vec<TrafficReport>> {
    let up = [
        ("pod1", "ethtool -K eth0 tx-udp-segmentation off"),
        ("node1", "ethtool -K veth-pod1 gro on rx-gro-list on"),
        ("node1", "ethtool -K eth0 tx-gso-list off tx-udp-segmentation off"),
    ];
    let down = [
        ("pod1", "ethtool -K eth0 tx-udp-segmentation on"),
        ("node1", "ethtool -K veth-pod1 gro off rx-gro-list off"),
        ("node1", "ethtool -K eth0 tx-gso-list on tx-udp-segmentation on"),
    ];
    let reader = socket(running, "pod2", PORT)?;
    super::with(running, &up, &down, || reading(&[&reader], || send_segments(running)))?;
    Ok(Vec::new())
}

fn send_segments(running: &Running) -> Result<()> {
    let sender: UdpSocket = socket(running, "pod1", 0)?;
    let payload = vec![7; usize::from(SEGMENT) * AT_ONCE as usize];
    let to = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::new(10, 244, 2, 2), PORT));
    for _ in 0..TIMES {
        let segments = [ControlMessage::UdpGsoSegments(&SEGMENT)];
        sendmsg(sender.as_raw_fd(), &[IoSlice::new(&payload)], &segments, MsgFlags::empty(), Some(&to))
            .context("UDP_SEGMENT")?;
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn sent_segments<'a>(packets: &'a Packets<'_>) -> Result<Vec<&'a Packet>> {
    let sent: Vec<&Packet> = packets.sent().filter(|packet| packet.is_udp()).collect();
    ensure!(sent.len() == TIMES as usize, "{} packets were sent instead of {TIMES}", sent.len());
    for packet in &sent {
        let segments = packet.header.segments;
        ensure!(u32::from(segments) == AT_ONCE, "{} stands for {segments} datagrams", packet.name());
    }
    Ok(sent)
}

/// Bytes of a datagram with its headers.
const DATAGRAM: u32 = SEGMENT as u32 + 28;

fn is_read_datagram(packets: &Packets<'_>, packet: &Packet) -> bool {
    packets.is_delivered(packet) && packet.header.bytes == DATAGRAM && packet.header.segments == 1
}

fn udp_cut(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    for packet in sent_segments(&packets)? {
        ensure!(packet.end() == Some(End::Split), "{} was not cut", packet.name());
        let read = count(packets.children(packet), |child| is_read_datagram(&packets, child));
        ensure!(read == u64::from(AT_ONCE), "{read} datagrams of {} were read", packet.name());
    }
    Ok(Verdict::Passed)
}

fn udp_whole(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    for packet in sent_segments(&packets)? {
        ensure!(packets.is_delivered(packet), "{} was not read", packet.name());
        ensure!(packets.children(packet).next().is_none(), "{} was cut", packet.name());
    }
    Ok(Verdict::Passed)
}

fn udp_list(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let sent = sent_segments(&packets)?.len() as u64 * u64::from(AT_ONCE);
    let read = count(packets.all.iter(), |packet| is_read_datagram(&packets, packet));
    ensure!(read == sent, "{sent} datagrams were sent, {read} read");
    Ok(Verdict::With(format!("{read} datagrams")))
}
