//! Copies: for those who listen, and of a network that delivers twice. The original goes on as it was.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use overlay_trace_lab::dataplanes::{Running, drive as run};
use overlay_trace_lab::traffic::{Kind, Protocol, Spec, Stop, TrafficReport};
use socket2::{Domain, Socket, Type};

use super::loss::PLAIN;
use super::packets::{Packet, Packets, count};
use crate::machine;
use crate::networks::moderate;
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

pub const TAPS: &[Check] = &[check("copies", tapped)];
pub const DUPLICATES: &[Check] = &[check("copies", duplicated)];

/// Packets of IPv4 (`ETH_P_IP`, in network byte order), for packet sockets.
const IPV4: u16 = 0x0800u16.to_be();
const LONGEST: usize = 65536;

/// Somebody listens to all packets of node1, so that their data is shared when tc changes the headers, and
/// somebody to the IPv4 packets that node2 receives.
pub fn taps(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let up = [
        ("node1", "tc qdisc add dev veth-pod1 clsact"),
        (
            "node1",
            "tc filter add dev veth-pod1 ingress matchall action pedit ex munge ip ttl set 60 pipe csum ip",
        ),
    ];
    let down = [("node1", "tc qdisc del dev veth-pod1 clsact")];
    let taps = [
        listen(running, "node1", machine::all_protocols())?,
        listen(running, "node2", i32::from(IPV4).into())?,
    ];
    // Each packet is copied a dozen times.
    let plan =
        [Protocol::Udp, Protocol::Tcp].map(|protocol| Spec { rate: 100.0, ..moderate(Kind::Rr, protocol) });
    listening(&taps, || super::with(running, &up, &down, || run(running, &plan, stop)))
}

fn listen(running: &Running, namespace: &str, protocols: socket2::Protocol) -> Result<Socket> {
    let open = || Socket::new(Domain::PACKET, Type::RAW, Some(protocols));
    let socket = running.netns(namespace)?.run(open)?.context("cannot listen to packets")?;
    socket.set_recv_buffer_size(4 << 20)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    Ok(socket)
}

/// Reads what the sockets hear while the work is done, so that no copy lies there when the recording ends.
fn listening<T>(taps: &[Socket], work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = taps.iter().map(|tap| scope.spawn(|| hear(tap, &done))).collect();
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            match reader.join() {
                Ok(heard) => heard?,
                Err(_) => bail!("a listener failed"),
            }
        }
        outcome
    })
}

/// Until nothing more comes after the work is done.
fn hear(mut tap: &Socket, done: &AtomicBool) -> Result<()> {
    let mut buffer = vec![0; LONGEST];
    loop {
        match tap.read(&mut buffer) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if done.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The listener of node2 hears what goes to its pod twice, inside VXLAN and out of it, and what the pod
/// sends once, when the bridge hands it up; and each packet is delivered all the same, once. Who is served first
/// leaves the copy to the other one: before 6.15 the copies were always the listener's.
fn tapped(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut copies = 0;
    for packet in packets.sent().filter(|packet| packet.is_tcp() || packet.is_udp()) {
        let name = packet.name();
        let family = packets.family(packet);
        let heard = |namespace| {
            count(family.iter().copied(), |one| {
                packets.namespaces(one).last() == Some(&namespace) && is_read(&packets, one)
            })
        };
        let expected = if packets.origin(packet) == Some("pod1") { 2 } else { 1 };
        let (of_node1, of_node2) = (heard("node1"), heard("node2"));
        ensure!(of_node2 == expected, "{name} was heard {of_node2} times in node2");
        ensure!(of_node1 >= 2, "{name} was heard {of_node1} times in node1");
        let arrived = count(family.iter().copied(), |one| packets.has_arrived(one));
        ensure!(arrived == 1, "{name} arrived {arrived} times");
        let all = family.len() as u64;
        ensure!(all == of_node1 + of_node2 + 1, "{name} has a family of {all}");
        copies += of_node1 + of_node2;
    }
    ensure!(copies > 0, "there are no copies");
    Ok(Verdict::With(format!("{copies} copies")))
}

fn is_read(packets: &Packets<'_>, copy: &Packet) -> bool {
    packets.passed(copy, "socket-receive")
}

/// A network that delivers some packets twice.
pub fn duplicates(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let up = [
        ("node1", "tc qdisc replace dev eth0 root netem duplicate 20%"),
        ("node2", "tc qdisc replace dev eth0 root netem duplicate 20%"),
    ];
    let plan = [Protocol::Udp, Protocol::Tcp].map(|protocol| moderate(Kind::Rr, protocol));
    super::with(running, &up, PLAIN, || run(running, &plan, stop))
}

/// A duplicate takes the rest of the path, as its original does.
fn duplicated(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut copies = 0;
    for packet in packets.sent().filter(|packet| packet.is_udp()) {
        for one in packets.family(packet) {
            // The second may come when its reader is gone.
            ensure!(packets.has_arrived(one), "{} did not arrive", one.name());
        }
        copies += packets.children(packet).count();
    }
    ensure!(copies > 0, "nothing was delivered twice");
    Ok(Verdict::With(format!("{copies} copies")))
}
