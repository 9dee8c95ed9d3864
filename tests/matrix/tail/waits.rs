//! Waits behind others, without loss: packets that come many at once, and one core that has to work them off.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use overlay_trace_lab::dataplanes::drive;
use overlay_trace_lab::traffic::{self, Kind, Options, PORT, Protocol, Server, Size, Spec};

use super::causes::{GRO_ON_UNDERLAY, expected, packets, step};
use super::datagrams::{self, Reader};
use super::injection::{Injection, Step};
use super::load::{DURATION, Load};
use super::traffic::Sent;
use crate::since::{VETH_GRO, VETH_WHOLE_UDP};
use crate::truth::fixture::Fixture;

/// So many packets are handed to the kernel at once, so often per second: that they are the slowest is then an
/// exception.
const TRAIN: u32 = 40;
const TRAINS: f64 = 0.7;
const NODE2: [u8; 4] = [192, 0, 2, 2];

/// Trains are cut by node1's NIC, and come to node2 as packets of their own.
const CUT_AT_NIC: Step =
    step("node1", &["ethtool -K eth0 tx-udp-segmentation off"], &["ethtool -K eth0 tx-udp-segmentation on"]);

/// In the lab flannel-vxlan.
pub const CAUSES: &[Injection] = &[
    // Each queue from node2's NIC on gets the train as a whole.
    Injection {
        traffic: beside_trains,
        since: VETH_WHOLE_UDP,
        ..packets("interleaving/train", &[expected("interleaving", "node2", "eth0", 1)], &[CUT_AT_NIC])
    },
    // With GRO a veth has a queue of its own, and its packets are still with the device that sent them.
    Injection {
        traffic: beside_trains,
        since: VETH_GRO,
        ..packets(
            "interleaving/napi",
            &[expected("interleaving", "node1", "eth0", 1)],
            &[GRO_ON_UNDERLAY[0], GRO_ON_UNDERLAY[1]],
        )
    },
    Injection {
        traffic: beside_trains,
        since: VETH_WHOLE_UDP,
        ..packets(
            "interleaving/budget",
            &[expected("interleaving", "node2", "eth0", 1)],
            &[
                CUT_AT_NIC,
                step(
                    "host",
                    &["sysctl -qw net.core.netdev_budget=16"],
                    &["sysctl -qw net.core.netdev_budget=300"],
                ),
            ],
        )
    },
    // So few packets at a time that the softirq does not come to an end, and ksoftirqd has to go on.
    Injection {
        traffic: beside_trains,
        since: VETH_WHOLE_UDP,
        ..packets(
            "softirq/weight",
            &[expected("busy-core-ksoftirqd", "node2", "eth0", 1)],
            &[
                CUT_AT_NIC,
                step("host", &["sysctl -qw net.core.dev_weight=2"], &["sysctl -qw net.core.dev_weight=64"]),
            ],
        )
    },
    // Between the nodes themselves there is one queue only.
    Injection {
        traffic: beside_trains_of_nodes,
        since: VETH_WHOLE_UDP,
        ..packets("backlog/wait", &[expected("backlog-wait", "node2", "eth0", 0)], &[CUT_AT_NIC])
    },
];

/// Datagrams at the load's rate, and now and then trains of some that are handed to the kernel many at once.
fn beside_trains(fixture: &Fixture, load: &Load) -> Sent {
    beside(fixture, load, |stream| drive(fixture.running, &[stream], fixture.stop).map(drop))
}

/// The same, where those go from node to node.
fn beside_trains_of_nodes(fixture: &Fixture, load: &Load) -> Sent {
    let [from, to] = ["node1", "node2"].map(|node| fixture.running.netns(node));
    let (from, to, address) = (from?, to?, SocketAddr::new(NODE2.into(), PORT));
    let _server = to.run(|| Server::start(address))??;
    beside(fixture, load, |stream| from.run(|| traffic::run(&stream, address, fixture.stop))?.map(drop))
}

fn beside(fixture: &Fixture, load: &Load, send: impl FnOnce(Spec) -> Result<()> + Send) -> Sent {
    let stream = Spec {
        rate: TRAINS * f64::from(TRAIN),
        duration: DURATION.saturating_sub(Duration::from_millis(200)),
        size: Size { request: 200, answer: 200 },
        options: Options { gso: TRAIN, ..Options::default() },
        ..Spec::new(Kind::Stream, Protocol::Udp)
    };
    thread::scope(|scope| {
        let trains = scope.spawn(|| send(stream));
        let sent = datagrams::send(fixture, load, Reader::default(), |_| Ok(()));
        trains.join().map_err(|_| anyhow!("the trains failed"))??;
        sent.map(|()| Vec::new())
    })
}
