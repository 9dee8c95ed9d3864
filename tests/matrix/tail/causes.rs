//! The table of what is injected.

use overlay_trace_analysis::tail::Of;

use super::injection::{ANYWHERE, Expected, Injection, REASONS, Step};
use super::traffic;
use crate::since::{VETH_GRO, VETH_WHOLE_UDP};

pub const fn expected(cause: &'static str, netns: &'static str, device: &'static str, level: u8) -> Expected {
    Expected { cause, unsaid: cause, netns, device, level }
}

pub const fn step(on: &'static str, make: &'static [&'static str], undo: &'static [&'static str]) -> Step {
    Step { on, make, undo }
}

/// What a NIC of the lab has, put back.
const USUAL_QUEUE: &[&str] = &["tc qdisc replace dev eth0 root fq_codel"];

/// Queues of received packets hold little.
const SHORT_QUEUES: Step = step(
    "host",
    &["sysctl -qw net.core.netdev_max_backlog=16"],
    &["sysctl -qw net.core.netdev_max_backlog=1000"],
);

/// With GRO a veth has a queue of its own, and does not use the backlog; but only for a sender that does not hand it
/// packets that are to be cut.
pub const GRO_ON_UNDERLAY: [Step; 2] = [
    step(
        "node1",
        &["ethtool -K eth0 tso off tx-udp-segmentation off"],
        &["ethtool -K eth0 tso on tx-udp-segmentation on"],
    ),
    step("node2", &["ethtool -K eth0 gro on"], &["ethtool -K eth0 gro off"]),
];

/// Trains are cut before they come to the queue of node1's NIC.
const CUT_EARLY: Step = step(
    "node1",
    &["ethtool -K flannel.1 tx-udp-segmentation off"],
    &["ethtool -K flannel.1 tx-udp-segmentation on"],
);

/// Requests over TCP, each later than a timeout after the one before of its connection.
pub const fn tcp(name: &'static str, expected: &'static [Expected], steps: &'static [Step]) -> Injection {
    Injection {
        name,
        expected,
        steps,
        traffic: traffic::sparse_tcp,
        of: Of::Requests,
        above: 0.99,
        since: None,
    }
}

/// Packets of requests over UDP.
pub const fn packets(name: &'static str, expected: &'static [Expected], steps: &'static [Step]) -> Injection {
    Injection { name, expected, steps, traffic: traffic::udp, of: Of::Packets, above: 0.99, since: None }
}

const LOST_IN_QUEUE: Expected = expected("qdisc-overflow", "node1", "eth0", 1);

/// In the lab flannel-vxlan.
pub const VXLAN: &[Injection] = &[
    Injection { traffic: traffic::tcp, ..tcp("clean/tcp", &[], &[]) },
    tcp("clean/sparse-tcp", &[], &[]),
    packets("clean/udp", &[], &[]),
    Injection { traffic: traffic::large_tcp, of: Of::Packets, ..tcp("clean/large-tcp", &[], &[]) },
    tcp(
        "loss/netem",
        &[LOST_IN_QUEUE],
        &[step("node1", &["tc qdisc replace dev eth0 root netem loss 2%"], USUAL_QUEUE)],
    ),
    tcp(
        "loss/iptables",
        &[expected("rule-drop", "node1", "cni0", 0)],
        &[step(
            "node1",
            &[
                "iptables-legacy -I FORWARD -p tcp --dport 7700 -m statistic --mode nth --every 40 --packet 0 -j DROP",
            ],
            &["iptables-legacy -D FORWARD 1"],
        )],
    ),
    tcp(
        "loss/tc",
        &[expected("tc-drop", "node1", "flannel.1", 0)],
        &[step(
            "node1",
            &[
                "tc qdisc add dev flannel.1 clsact",
                "tc filter add dev flannel.1 egress matchall action ok random determ drop 40",
            ],
            &["tc qdisc del dev flannel.1 clsact"],
        )],
    ),
    packets(
        "qdisc/late",
        &[expected("qdisc-wait", "node1", "eth0", 1)],
        // What is not sent at once, out of its turn, waits.
        &[step("node1", &["tc qdisc replace dev eth0 root netem delay 5ms reorder 98%"], USUAL_QUEUE)],
    ),
    Injection {
        traffic: traffic::trains,
        since: VETH_WHOLE_UDP,
        ..packets(
            "qdisc/tbf",
            &[expected("qdisc-wait", "node1", "eth0", 1)],
            &[
                CUT_EARLY,
                step(
                    "node1",
                    &["tc qdisc replace dev eth0 root tbf rate 20mbit burst 3kb latency 500ms"],
                    USUAL_QUEUE,
                ),
            ],
        )
    },
    Injection {
        traffic: traffic::trains,
        since: VETH_WHOLE_UDP,
        ..packets(
            "qdisc/full",
            &[LOST_IN_QUEUE],
            &[
                CUT_EARLY,
                step(
                    "node1",
                    &["tc qdisc replace dev eth0 root tbf rate 2mbit burst 3kb limit 4kb"],
                    USUAL_QUEUE,
                ),
            ],
        )
    },
    Injection {
        traffic: traffic::trains,
        since: VETH_GRO,
        ..packets(
            "gro-cells/train",
            &[expected("gro-cells-overflow", "node2", "flannel.1", 0)],
            &[SHORT_QUEUES, GRO_ON_UNDERLAY[0], GRO_ON_UNDERLAY[1]],
        )
    },
    Injection {
        traffic: traffic::trains,
        since: VETH_WHOLE_UDP,
        ..packets(
            "backlog/train",
            &[expected("backlog-overflow", "node2", "eth0", 1)],
            &[
                SHORT_QUEUES,
                step(
                    "node1",
                    &["ethtool -K eth0 tx-udp-segmentation off"],
                    &["ethtool -K eth0 tx-udp-segmentation on"],
                ),
            ],
        )
    },
    Injection {
        traffic: traffic::through_rules,
        ..packets("rules/iptables", &[expected("long-rules", "node1", "cni0", 0)], &[])
    },
    Injection {
        traffic: traffic::tcp_with_fdb_gaps,
        ..tcp("fdb/gaps", &[expected("fdb-miss", "node1", "flannel.1", 1)], &[])
    },
    Injection {
        traffic: traffic::forgetting_the_gateway,
        ..packets(
            "neighbour/forgotten",
            &[expected("neighbour-wait", "pod1", "eth0", 0)],
            &[step(
                "node1",
                &["tc qdisc replace dev veth-pod1 root netem delay 3ms"],
                &["tc qdisc del dev veth-pod1 root"],
            )],
        )
    },
    Injection {
        traffic: traffic::knocking_at_nobody,
        ..packets("neighbour/nobody", &[expected("neighbour-failed", "node2", "cni0", 0)], &[])
    },
    Injection {
        traffic: traffic::napping_reader,
        ..packets("reader/naps", &[expected("slow-reader", "pod2", "eth0", 0)], &[])
    },
    Injection {
        traffic: traffic::hog_before_the_reader,
        ..packets("reader/hog", &[expected("slow-reader", "pod2", "eth0", 0)], &[])
    },
    Injection {
        traffic: traffic::little_room,
        ..packets("reader/full", &[expected("socket-overflow", "pod2", "eth0", 0)], &[])
    },
    Injection {
        traffic: traffic::hog_before_ksoftirqd,
        ..packets(
            "softirq/hog",
            &[expected("busy-core-ksoftirqd", "node1", "veth-pod1", 0)],
            &[step(
                "pod1",
                &["tc qdisc replace dev eth0 root netem delay 100us"],
                &["tc qdisc del dev eth0 root"],
            )],
        )
    },
    Injection {
        traffic: traffic::large_udp,
        ..packets("mtu/fragments", &[expected("fragmentation", "node1", "veth-pod1", 0)], &[])
    },
    Injection {
        traffic: traffic::some_full_tcp,
        ..tcp(
            "mtu/black-hole",
            &[Expected { unsaid: "not-forwarded", ..expected("too-long", "node1", "cni0", 0) }],
            &[step(
                "node1",
                &["ip link set flannel.1 mtu 1300", "iptables-legacy -I OUTPUT -p icmp -j DROP"],
                &["ip link set flannel.1 mtu 1450", "iptables-legacy -D OUTPUT -p icmp -j DROP"],
            )],
        )
    },
    Injection {
        traffic: traffic::large_tcp,
        ..packets(
            "offload/segmentation",
            &[expected("software-offload", "node2", "eth0", 1)],
            &[step("node2", &["ethtool -K eth0 tso off gso off"], &["ethtool -K eth0 tso on gso on"])],
        )
    },
    Injection {
        traffic: traffic::large_tcp,
        ..packets(
            "offload/checksum",
            &[expected("software-offload", "pod2", "eth0", 0)],
            &[step("pod2", &["ethtool -K eth0 tx off"], &["ethtool -K eth0 tx on tso on gso on"])],
        )
    },
    Injection {
        traffic: traffic::datagrams,
        since: Some((REASONS, "drops have no reasons, and where these happen others do")),
        ..packets(
            "checksum/corrupt",
            &[expected("bad-checksum", "pod2", "eth0", 0)],
            &[step(
                "node2",
                &["tc qdisc replace dev veth-pod2 root netem corrupt 10%"],
                &["tc qdisc del dev veth-pod2 root"],
            )],
        )
    },
    Injection {
        traffic: traffic::stalled_bulk,
        ..packets("reader/stalls", &[expected("zero-window", "pod2", "", 0)], &[])
    },
    Injection {
        above: 0.95,
        ..tcp(
            "two/loss-and-late",
            &[expected("qdisc-wait", "node2", "eth0", 1), expected("rule-drop", "node1", "cni0", 0)],
            &[
                step("node2", &["tc qdisc replace dev eth0 root netem delay 80ms reorder 97%"], USUAL_QUEUE),
                step(
                    "node1",
                    &[
                        "iptables-legacy -I FORWARD -p tcp --dport 7700 -m statistic --mode nth --every 60 --packet 0 -j DROP",
                    ],
                    &["iptables-legacy -D FORWARD 1"],
                ),
            ],
        )
    },
    Injection {
        traffic: traffic::sleeping_reader,
        above: 0.95,
        ..packets(
            "two/reader-and-late",
            &[expected("slow-reader", "pod2", "eth0", 0), expected("qdisc-wait", "node1", "eth0", 1)],
            &[step("node1", &["tc qdisc replace dev eth0 root netem delay 20ms reorder 97%"], USUAL_QUEUE)],
        )
    },
];

/// In the lab flannel-udp.
pub const UDP: &[Injection] =
    // Requests wait for node1's daemon, answers for node2's, and one takes as long as the other.
    &[packets("user-space/flannel-udp", &[expected("user-space", ANYWHERE, "flannel0", 0)], &[])];
