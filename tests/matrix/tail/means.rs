//! Other means by which causes of the first table are injected.

use super::causes::{expected, packets, step, tcp};
use super::injection::Injection;
use super::traffic;

/// In the lab flannel-vxlan.
pub const CAUSES: &[Injection] = &[
    tcp(
        "loss/nftables",
        &[expected("rule-drop", "node1", "cni0", 0)],
        &[step(
            "node1",
            &[
                "nft add table inet injection",
                "nft add chain inet injection forward { type filter hook forward priority 10 ; }",
                "nft add rule inet injection forward tcp dport 7700 numgen inc mod 40 == 0 drop",
            ],
            &["nft delete table inet injection"],
        )],
    ),
    Injection {
        traffic: traffic::through_nftables,
        ..packets("rules/nftables", &[expected("long-rules", "node1", "cni0", 0)], &[])
    },
    Injection {
        traffic: traffic::tcp_with_route_gaps,
        ..tcp("route/gaps", &[expected("no-route", "node1", "cni0", 0)], &[])
    },
    Injection {
        traffic: traffic::knocking_at_nobody,
        ..packets(
            "neighbour/full",
            &[expected("neighbour-failed", "node2", "flannel.1", 0)],
            &[step(
                "node2",
                &["sysctl -qw net.ipv4.neigh.cni0.unres_qlen_bytes=1000"],
                &["sysctl -qw net.ipv4.neigh.cni0.unres_qlen_bytes=212992"],
            )],
        )
    },
];
