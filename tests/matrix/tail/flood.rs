//! A VXLAN device that does not know behind which node an address is sends the packet to all of them.

use super::causes::{expected, step, tcp};
use super::injection::{Expected, Injection, Step};
use super::traffic;

const CAUSE: Expected = expected("flooding", "node1", "flannel.1", 1);

/// What is for nobody in particular goes to node2 and to two nodes that throw it away.
const ALL_NODES: Step = step(
    "node1",
    &[
        "ip neigh replace 192.0.2.66 lladdr 0a:00:00:00:00:66 dev eth0 nud permanent",
        "ip neigh replace 192.0.2.67 lladdr 0a:00:00:00:00:67 dev eth0 nud permanent",
        "bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.66",
        "bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.67",
        "bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.2",
    ],
    &[
        "bridge fdb del 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.2",
        "bridge fdb del 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.67",
        "bridge fdb del 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.66",
        "ip neigh del 192.0.2.66 dev eth0",
        "ip neigh del 192.0.2.67 dev eth0",
    ],
);

/// In the lab flannel-vxlan.
pub const CAUSES: &[Injection] = &[
    // The entry of node2 goes and comes, as one that is learned and ages does.
    Injection { traffic: traffic::tcp_with_fdb_gaps, ..tcp("flood/forgotten", &[CAUSE], &[ALL_NODES]) },
    tcp(
        "flood/always",
        &[CAUSE],
        &[
            ALL_NODES,
            step(
                "node1",
                &["bridge fdb del 0a:00:00:00:04:02 dev flannel.1 dst 192.0.2.2 self"],
                &["bridge fdb add 0a:00:00:00:04:02 dev flannel.1 dst 192.0.2.2 self permanent"],
            ),
        ],
    ),
];
