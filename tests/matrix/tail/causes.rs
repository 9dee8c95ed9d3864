//! The table of what is brought about.

use overlay_trace::tail::Of;

use super::injection::{Expected, Injection, Step};
use super::traffic;

const fn expected(cause: &'static str, netns: &'static str, device: &'static str, level: u8) -> Expected {
    Expected { cause, netns, device, level }
}

const fn step(on: &'static str, make: &'static [&'static str], undo: &'static [&'static str]) -> Step {
    Step { on, make, undo }
}

/// What a NIC of the lab has, put back.
const USUAL_QUEUE: &[&str] = &["tc qdisc replace dev eth0 root fq_codel"];

/// In the lab flannel-vxlan.
pub const VXLAN: &[Injection] = &[
    Injection { name: "clean/tcp", expected: &[], steps: &[], traffic: traffic::tcp, of: Of::Requests },
    Injection { name: "clean/udp", expected: &[], steps: &[], traffic: traffic::udp, of: Of::Packets },
    Injection {
        name: "loss/netem",
        expected: &[expected("qdisc-overflow", "node1", "eth0", 1)],
        steps: &[step("node1", &["tc qdisc replace dev eth0 root netem loss 2%"], USUAL_QUEUE)],
        traffic: traffic::tcp,
        of: Of::Requests,
    },
    Injection {
        name: "qdisc/late",
        expected: &[expected("qdisc-wait", "node1", "eth0", 1)],
        // What is not sent at once, out of its turn, waits.
        steps: &[step("node1", &["tc qdisc replace dev eth0 root netem delay 5ms reorder 98%"], USUAL_QUEUE)],
        traffic: traffic::udp,
        of: Of::Packets,
    },
    Injection {
        name: "gro-cells/train",
        expected: &[expected("gro-cells-overflow", "node2", "flannel.1", 0)],
        steps: &[
            step(
                "host",
                &["sysctl -qw net.core.netdev_max_backlog=16"],
                &["sysctl -qw net.core.netdev_max_backlog=1000"],
            ),
            step(
                "node1",
                &["ethtool -K eth0 tx-udp-segmentation off"],
                &["ethtool -K eth0 tx-udp-segmentation on"],
            ),
            // With GRO a veth has a queue of its own, and does not use the backlog.
            step("node2", &["ethtool -K eth0 gro on"], &["ethtool -K eth0 gro off"]),
        ],
        traffic: traffic::trains,
        of: Of::Packets,
    },
    Injection {
        name: "backlog/train",
        expected: &[expected("backlog-overflow", "node2", "eth0", 1)],
        steps: &[
            step(
                "host",
                &["sysctl -qw net.core.netdev_max_backlog=16"],
                &["sysctl -qw net.core.netdev_max_backlog=1000"],
            ),
            step(
                "node1",
                &["ethtool -K eth0 tx-udp-segmentation off"],
                &["ethtool -K eth0 tx-udp-segmentation on"],
            ),
        ],
        traffic: traffic::trains,
        of: Of::Packets,
    },
];
