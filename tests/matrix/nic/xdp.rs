//! XDP in the NIC's driver: packets pass, are handed to another processor, or go to another device without ever having
//! been an `sk_buff` at the NIC.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use overlay_trace_lab::dataplanes::Running;
use overlay_trace_lab::traffic::{Stop, TrafficReport};

use super::at_nic::NODES;
use super::traffic;
use crate::identity::{settle, with};
use crate::raw_xdp;

/// So many packets wait for the processor that they are handed to.
const CPU_QUEUE: u32 = 2048;

/// The drivers ask a program that lets everything pass.
pub fn pass(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let program = raw_xdp::pass().context("cannot load a program for XDP")?;
    let links = NODES.map(|node| attach(running, node, &program, "eth0"));
    through(links, running, stop)
}

/// Processor 0 makes the `sk_buff`s.
pub fn to_cpu(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let map = raw_xdp::to_cpu(CPU_QUEUE).context("cannot make a map of processors")?;
    let program = raw_xdp::redirect(&map).context("cannot load a program for XDP")?;
    let links = NODES.map(|node| attach(running, node, &program, "eth0"));
    through(links, running, stop)
}

/// The nodes' addresses are behind a veth, and two programs move frames between that and the NIC.
pub fn to_device(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let up: &[(&str, &str)] = &[
        ("node1", "ip link add name to-xdp type veth peer name behind-xdp address 52:54:00:00:00:01"),
        ("node2", "ip link add name to-xdp type veth peer name behind-xdp address 52:54:00:00:00:02"),
        // What becomes an XDP frame has no unfinished checksum any more.
        ("node1", "ethtool -K behind-xdp tx off gro on"),
        ("node2", "ethtool -K behind-xdp tx off gro on"),
        ("node1", "ip address flush dev eth0"),
        ("node2", "ip address flush dev eth0"),
        ("node1", "ip link set dev to-xdp up"),
        ("node2", "ip link set dev to-xdp up"),
        ("node1", "ip link set dev behind-xdp up"),
        ("node2", "ip link set dev behind-xdp up"),
        ("node1", "ip address add 192.0.2.1/24 dev behind-xdp"),
        ("node2", "ip address add 192.0.2.2/24 dev behind-xdp"),
    ];
    let down: &[(&str, &str)] = &[
        ("node1", "ip link del dev to-xdp"),
        ("node2", "ip link del dev to-xdp"),
        ("node1", "ip address add 192.0.2.1/24 dev eth0"),
        ("node2", "ip address add 192.0.2.2/24 dev eth0"),
    ];
    with(running, up, down, || {
        let mut links = Vec::new();
        for node in NODES {
            for (from, to) in [("eth0", "to-xdp"), ("to-xdp", "eth0")] {
                let map = running.netns(node)?.run(|| raw_xdp::to_device(to))??;
                let program = raw_xdp::redirect(&map).context("cannot load a program for XDP")?;
                links.push(attach(running, node, &program, from));
            }
        }
        through(links, running, stop)
    })
}

fn attach(running: &Running, node: &str, program: &OwnedFd, device: &str) -> Result<OwnedFd> {
    let link = running.netns(node)?.run(|| raw_xdp::attach(program, device))?;
    link.with_context(|| format!("cannot attach a program for XDP to {device} in {node}"))
}

/// Sends the traffic while the programs are attached.
fn through(
    links: impl IntoIterator<Item = Result<OwnedFd>>,
    running: &Running,
    stop: &Stop,
) -> Result<Vec<TrafficReport>> {
    let links: Vec<OwnedFd> = links.into_iter().collect::<Result<_>>()?;
    let reports = traffic::both_ways(running, stop);
    settle();
    drop(links);
    reports
}
