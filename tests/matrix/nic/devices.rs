//! More devices between a lab and its NICs: bonds, VLANs, bridges, VRFs; jumbo frames; queues and steering.

use anyhow::Result;
use overlay_trace_lab::dataplanes::{Knobs, Running, Uplink};
use overlay_trace_lab::traffic::{Stop, TrafficReport};

use super::at_nic::NODES;
use super::waits::{self, on_nodes, with_file};
use super::{DEVICE_SET, FULL_SET, LIGHT_SET, NIC, SENT_AND_SEEN, plain, setting, traffic, xdp};
use crate::identity::set_up;
use crate::invariants::EXACT;
use crate::scene::{Check, Lack, Scene, Setting};

const ACTIVE_BACKUP: Uplink = Uplink {
    nics: 2,
    lines: "link add name eth0 type bond mode active-backup miimon 100
            link set dev nic0 master eth0
            link set dev nic1 master eth0",
};
const LACP: Uplink = Uplink {
    nics: 2,
    lines: "link add name eth0 type bond mode 802.3ad miimon 100 lacp_rate fast xmit_hash_policy layer3+4
            link set dev nic0 master eth0
            link set dev nic1 master eth0",
};
const VLAN_OVER_BOND: Uplink = Uplink {
    nics: 2,
    lines: "link add name bond0 type bond mode active-backup miimon 100
            link set dev nic0 master bond0
            link set dev nic1 master bond0
            link set dev bond0 up
            link add link bond0 name eth0 type vlan id 100",
};
const BRIDGE_OVER_BOND: Uplink = Uplink {
    nics: 2,
    lines: "link add name bond0 type bond mode active-backup miimon 100
            link set dev nic0 master bond0
            link set dev nic1 master bond0
            link add name eth0 type bridge stp_state 0 forward_delay 0
            link set dev bond0 master eth0 up",
};

const fn over(name: &'static str, knobs: fn() -> Knobs) -> Setting {
    setting(name, "flannel-vxlan", knobs)
}

/// Settings of machines with four NICs, the first two of which are joined to the last two, one to one.
pub const FOUR_NICS: &[Setting] = &[
    over("nic4/active-backup", || Knobs { uplink: ACTIVE_BACKUP, ..plain() }),
    over("nic4/802.3ad", || Knobs { uplink: LACP, ..plain() }),
    over("nic4/vlan-over-bond", || Knobs { uplink: VLAN_OVER_BOND, ..plain() }),
    over("nic4/bridge-over-bond", || Knobs { uplink: BRIDGE_OVER_BOND, ..plain() }),
];

const STEERED: &[Scene] = &[
    Scene { drive: with_flows, ..FULL_SET },
    Scene { drive: with_flows, ..LIGHT_SET },
    Scene { drive: with_flows, ..DEVICE_SET },
];
/// Between the NIC and the other device frames may be lost that have not been an `sk_buff` yet, which the driver counts.
const REDIRECTED: &[&[Check]] = &[EXACT, SENT_AND_SEEN];
/// These scenes share recordings, of which the report counts all.
const COUNTED: &[&[Check]] = &[EXACT, SENT_AND_SEEN, NIC];
const XDP: &[Scene] = &[
    Scene { name: "pass-full", drive: xdp::pass, checks: COUNTED, ..FULL_SET },
    Scene { name: "pass-light", drive: xdp::pass, checks: COUNTED, ..LIGHT_SET },
    Scene { name: "pass-device", drive: xdp::pass, checks: COUNTED, ..DEVICE_SET },
    Scene { name: "cpumap-full", drive: xdp::to_cpu, checks: COUNTED, ..FULL_SET },
    Scene { name: "cpumap-light", drive: xdp::to_cpu, checks: COUNTED, ..LIGHT_SET },
    Scene { name: "cpumap-device", drive: xdp::to_cpu, checks: COUNTED, ..DEVICE_SET },
    Scene { name: "devmap-full", drive: xdp::to_device, checks: REDIRECTED, ..FULL_SET },
    Scene { name: "devmap-light", drive: xdp::to_device, checks: REDIRECTED, ..LIGHT_SET },
    Scene { name: "devmap-device", drive: xdp::to_device, checks: REDIRECTED, ..DEVICE_SET },
];

/// Settings of machines with two NICs.
pub const TWO_NICS: &[Setting] = &[
    Setting { prepare: vrf, ..setting("nic2/vrf", "flannel-host-gw", plain) },
    Setting { prepare: ipv6_only, ..setting("nic2/ipv6-only", "vxlan6", plain) },
    over("nic2/jumbo", || Knobs { mtu: 9000, ..plain() }),
    Setting { prepare: steering, scenes: STEERED, ..over("nic2/steering", plain) },
    Setting { scenes: XDP, ..setting("nic2/xdp", "host", plain) },
    waits::NAPI,
];

/// The nodes' addresses and pods are in a VRF.
fn vrf(running: &Running) -> Result<Vec<Lack>> {
    for (node, other) in [("node1", 2), ("node2", 1)] {
        let lines = [
            "ip link add name vrf0 type vrf table 10".to_owned(),
            "ip link set dev vrf0 up".to_owned(),
            "ip link set dev eth0 master vrf0".to_owned(),
            "ip link set dev cni0 master vrf0".to_owned(),
            format!("ip route replace 10.244.{other}.0/24 via 192.0.2.{other} dev eth0 vrf vrf0"),
        ];
        for line in &lines {
            set_up(running, &[(node, line)])?;
        }
    }
    Ok(Vec::new())
}

/// The network between the nodes has no IPv4.
fn ipv6_only(running: &Running) -> Result<Vec<Lack>> {
    set_up(running, &NODES.map(|node| (node, "ip -4 address flush dev eth0")))?;
    Ok(Vec::new())
}

/// Whether packets are counted by flow for RFS, on the whole machine.
const FLOWS: &str = "/proc/sys/net/core/rps_sock_flow_entries";

/// Packets are handed to other processors: on the way in by RPS and RFS, on the way out by XPS.
fn steering(running: &Running) -> Result<Vec<Lack>> {
    const SCRIPT: &str = "
        for queue in /sys/class/net/eth0/queues/rx-*; do
            echo f >$queue/rps_cpus && echo 1024 >$queue/rps_flow_cnt || exit 1
        done
        for queue in /sys/class/net/eth0/queues/tx-*; do
            # A NIC of one queue has nothing to choose from.
            echo f >$queue/xps_cpus 2>/dev/null || true
        done";
    on_nodes(running, SCRIPT)?;
    Ok(Vec::new())
}

fn with_flows(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    with_file(FLOWS, "4096", || traffic::both_ways(running, stop))
}
