//! The kernel uses the memory of one packet for the next: many flows that come and go, of which packets are
//! lost, delivered twice, left unread or unwanted, and each packet's length says of which flow it is.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use overlay_trace_lab::dataplanes::Running;
use overlay_trace_lab::traffic::{Stop, TrafficReport};
use socket2::SockRef;

use super::loss::PLAIN;
use super::packets::Packets;
use super::sockets::{reading, socket};
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

pub const CHECKS: &[Check] = &[check("lengths", lengths)];

const POD2: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
/// The first of the flows' ports, and how many flows there are at a time.
const FIRST: u16 = 21_000;
const FLOWS: u16 = 40;
/// How often the flows' receivers are replaced.
const ROUNDS: u32 = 6;
const TCP: u16 = 22_000;
const HEADERS: u32 = 28;

/// Payload bytes of a flow's datagrams.
fn payload(port: u16) -> usize {
    100 + 30 * usize::from(port - FIRST)
}

pub fn drive(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let up = [
        ("node1", "tc qdisc replace dev eth0 root netem loss 3% duplicate 5% delay 2ms 1ms"),
        ("node2", "tc qdisc replace dev eth0 root netem loss 3% duplicate 5%"),
    ];
    super::with(running, &up, PLAIN, || {
        for round in 0..ROUNDS {
            stop.check()?;
            connections(running)?;
            flows(running, round)?;
        }
        Ok(Vec::new())
    })
}

/// Of the flows' receivers one half is read, a quarter is closed with what it holds, a quarter does not exist.
fn flows(running: &Running, round: u32) -> Result<()> {
    let senders: Vec<UdpSocket> =
        (0..FLOWS).map(|flow| socket(running, "pod1", FIRST + flow)).collect::<Result<_>>()?;
    let exists = |flow: &u16| !(u32::from(*flow) + round).is_multiple_of(4);
    let receivers: Vec<UdpSocket> =
        (0..FLOWS).filter(exists).map(|flow| socket(running, "pod2", FIRST + flow)).collect::<Result<_>>()?;
    let read: Vec<&UdpSocket> = receivers.iter().step_by(2).collect();
    reading(&read, || {
        for _ in 0..5 {
            for (flow, sender) in (0..FLOWS).zip(&senders) {
                sender.send_to(&vec![7; payload(FIRST + flow)], (POD2, FIRST + flow))?;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    })
}

/// Connections that are reset with data in flight.
fn connections(running: &Running) -> Result<()> {
    let server = SocketAddr::from((POD2, TCP));
    let listener = running.netns("pod2")?.run(|| TcpListener::bind(server))??;
    for _ in 0..5 {
        let connect = || TcpStream::connect_timeout(&server, Duration::from_secs(10));
        let mut client = running.netns("pod1")?.run(connect)??;
        let (accepted, _) = listener.accept()?;
        client.write_all(&[7; 3000])?;
        SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        drop((client, accepted));
    }
    Ok(())
}

/// Each datagram has the length of its flow, and goes to the port of its flow.
fn lengths(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut datagrams = 0u32;
    for packet in packets.all.iter().filter(|packet| packet.is_udp()) {
        let flow = packet.header.flow;
        ensure!((FIRST..FIRST + FLOWS).contains(&flow.source_port), "{} is of no flow", packet.name());
        ensure!(flow.destination_port == flow.source_port, "{} goes to another flow's port", packet.name());
        let expected = payload(flow.source_port) as u32 + HEADERS;
        ensure!(packet.header.bytes == expected, "{} should have {expected} bytes", packet.name());
        datagrams += 1;
    }
    let least = ROUNDS * u32::from(FLOWS) * 5;
    ensure!(datagrams >= least, "of {least} datagrams {datagrams} were recorded");
    Ok(Verdict::With(format!("{datagrams} datagrams")))
}
