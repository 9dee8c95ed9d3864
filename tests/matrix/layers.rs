//! What the recording of each lab must show, and what not.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use overlay_trace_analysis::breakdown::By;
use overlay_trace_lab::dataplanes::System;
use overlay_trace_lab::traffic::PORT;

use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::{Seen, is_layer, is_stage};

pub const HOST: &[Check] = &[check("layers", host), check("way", host_way)];
pub const SAME_POD: &[Check] = &[check("layers", same_pod)];
pub const SAME_HOST: &[Check] = &[check("layers", same_host), check("way", same_host_way)];
pub const HOST_GW: &[Check] = &[check("layers", host_gw), check("way", host_gw_way)];
pub const VXLAN: &[Check] =
    &[check("layers", vxlan), check("tunnel-level", tunnel_level), check("way", vxlan_way)];
pub const CALICO: &[Check] =
    &[check("layers", calico), check("tunnel-level", tunnel_level), check("way", calico_way)];
/// For the sets that do not see every layer.
pub const OUTLINE: &[Check] = &[check("outline", outline)];
pub const DEVICES: &[Check] =
    &[check("devices", devices), check("queues", queues), check("delivery", delivery)];
/// For traffic over IPv6.
pub const IPV6: &[Check] = &[check("version-6", version_6)];
/// The same, through one tunnel.
pub const TUNNELLED_IPV6: &[Check] = &[check("version-6", version_6), check("levels", two_levels)];

/// The layer of the firewall's tables here.
pub fn firewall_layer() -> Result<&'static str> {
    Ok(if System::look()?.iptables == "legacy" { "iptables" } else { "nftables" })
}

fn needs_layer(seen: &Seen, node: &str, level: u8, layer: &str) -> Result<()> {
    let netns = seen.netns(node);
    let found = seen.has(|key| {
        is_layer(key, layer) && key.level == Some(level) && key.netns.as_deref() == Some(netns.as_str())
    });
    ensure!(found, "{node} has no {layer} at level {level}");
    Ok(())
}

fn has_none(seen: &Seen, layers: &[&str]) -> Result<()> {
    for layer in layers {
        ensure!(!seen.has(|key| is_layer(key, layer)), "there is {layer}");
    }
    Ok(())
}

fn has_levels(seen: &Seen, expected: &[u8]) -> Result<()> {
    let levels: Vec<u8> = seen.levels().into_iter().collect();
    ensure!(levels == expected, "the levels are {levels:?} instead of {expected:?}");
    Ok(())
}

fn only_in(seen: &Seen, namespaces: &[&str], devices: &[&str]) -> Result<()> {
    for row in &seen.own.rows {
        let netns = seen.short(row.key.netns.as_deref().unwrap_or_default());
        let device = row.key.device.as_deref().unwrap_or_default();
        ensure!(namespaces.contains(&netns), "packets were in the namespace {netns:?}");
        ensure!(device.is_empty() || devices.contains(&device), "packets were at the device {device:?}");
    }
    Ok(())
}

fn host(seen: &Seen, _: &[Seen]) -> Outcome {
    only_in(seen, &["node1", "node2"], &["eth0"])?;
    has_levels(seen, &[0])?;
    has_none(seen, &["bridge", "vxlan", "ipip", "iptables", "nftables", "conntrack"])?;
    Ok(Verdict::Passed)
}

fn same_pod(seen: &Seen, _: &[Seen]) -> Outcome {
    only_in(seen, &["pod1"], &["lo"])?;
    has_levels(seen, &[0])?;
    has_none(seen, &["bridge", "veth", "vxlan", "ipip"])?;
    Ok(Verdict::Passed)
}

fn same_host(seen: &Seen, _: &[Seen]) -> Outcome {
    only_in(seen, &["pod1", "node1", "pod1b"], &["eth0", "veth-pod1", "veth-pod1b", "cni0"])?;
    has_levels(seen, &[0])?;
    has_none(seen, &["vxlan", "ipip"])?;
    for layer in ["bridge", "veth", "conntrack", firewall_layer()?] {
        needs_layer(seen, "node1", 0, layer)?;
    }
    Ok(Verdict::Passed)
}

fn host_gw(seen: &Seen, _: &[Seen]) -> Outcome {
    has_levels(seen, &[0])?;
    has_none(seen, &["vxlan", "ipip", "gro-cells"])?;
    for node in ["node1", "node2"] {
        for layer in ["bridge", "veth", "ip", "route", "conntrack", "nat", firewall_layer()?] {
            needs_layer(seen, node, 0, layer)?;
        }
    }
    Ok(Verdict::Passed)
}

fn vxlan(seen: &Seen, _: &[Seen]) -> Outcome {
    has_levels(seen, &[0, 1])?;
    has_none(seen, &["ipip"])?;
    for node in ["node1", "node2"] {
        for layer in ["vxlan", "ip", "route", "conntrack", firewall_layer()?] {
            needs_layer(seen, node, 1, layer)?;
        }
        for layer in ["bridge", "gro-cells", "ip", "conntrack", firewall_layer()?] {
            needs_layer(seen, node, 0, layer)?;
        }
    }
    Ok(Verdict::Passed)
}

fn calico(seen: &Seen, _: &[Seen]) -> Outcome {
    has_levels(seen, &[0, 1])?;
    has_none(seen, &["bridge", "vxlan"])?;
    for node in ["node1", "node2"] {
        for layer in ["ipip", "ip", "conntrack", firewall_layer()?] {
            needs_layer(seen, node, 1, layer)?;
        }
        for layer in ["veth", "ip", "conntrack", firewall_layer()?] {
            needs_layer(seen, node, 0, layer)?;
        }
    }
    Ok(Verdict::Passed)
}

/// Encapsulating and decapsulating count to the level that they add or remove.
fn tunnel_level(seen: &Seen, _: &[Seen]) -> Outcome {
    let tunnel = if seen.lab == "calico-ipip" { "ipip" } else { "vxlan" };
    for half in ["encap", "decap"] {
        let stage = format!("{tunnel}-{half}");
        let rows = seen.own.rows.iter().filter(|row| is_stage(&row.key, &stage));
        let levels: BTreeSet<Option<u8>> = rows.map(|row| row.key.level).collect();
        ensure!(levels == BTreeSet::from([Some(1)]), "{stage} is at the levels {levels:?}");
    }
    Ok(Verdict::Passed)
}

/// The parts of the path from client to server: namespace, level, direction.
type Part = (&'static str, u8, &'static str);

/// The packets to the server were in exactly these parts.
fn has_way(seen: &Seen, expected: &[Part]) -> Outcome {
    let to_server = seen.analysis_of(By::Stage, |record| {
        seen.is_own(record) && record.header.flow.destination_port == PORT
    })?;
    let found: BTreeSet<(String, u8, &str)> = to_server
        .rows
        .iter()
        .filter_map(|row| {
            let netns = seen.short(row.key.netns.as_deref()?).to_string();
            Some((netns, row.key.level?, row.key.direction?.name()))
        })
        .collect();
    let expected: BTreeSet<(String, u8, &str)> =
        expected.iter().map(|&(netns, level, direction)| (netns.to_string(), level, direction)).collect();
    let words = |parts: Vec<&(String, u8, &str)>| {
        parts
            .iter()
            .map(|(netns, level, way)| format!("{netns} {way} level {level}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (missing, extra) = (expected.difference(&found).collect(), found.difference(&expected).collect());
    match (words(missing), words(extra)) {
        (missing, extra) if missing.is_empty() && extra.is_empty() => Ok(Verdict::Passed),
        (missing, extra) => {
            let namespaces = expected.iter().map(|(netns, ..)| netns.as_str()).collect();
            let one = one_elsewhere(seen, &namespaces)?;
            bail!("missing: {missing}; not expected: {extra}; one path {one}")
        }
    }
}

/// The path of a packet to the server that begins or ends in a namespace of none of the others, or that comes back.
fn one_elsewhere(seen: &Seen, namespaces: &BTreeSet<&str>) -> Result<String> {
    let mut one = "is as expected in its namespaces".to_owned();
    seen.recording.for_each_record(|record| {
        if !seen.is_own(&record) || record.header.flow.destination_port != PORT {
            return;
        }
        let spans = record.spans().map(|span| {
            let hop = seen.recording.hops.get(&span.hop);
            let netns = hop.map_or("", |hop| seen.short(&hop.netns)).to_owned();
            let stage = seen.recording.header.stages.get(usize::from(span.stage));
            let device = hop.map_or("", |hop| hop.device.as_str());
            (netns, format!("{} at \"{device}\"", stage.map_or("?", |stage| stage.name.as_str())))
        });
        let spans: Vec<(String, String)> = spans.collect();
        let mut visited: Vec<&str> = spans.iter().map(|(netns, _)| netns.as_str()).collect();
        visited.retain(|netns| !netns.is_empty());
        visited.dedup();
        let is_back = visited.iter().collect::<BTreeSet<_>>().len() < visited.len();
        if is_back
            || visited.iter().any(|netns| !namespaces.contains(netns))
            || visited.len() < namespaces.len()
        {
            let words: Vec<String> =
                spans.iter().map(|(netns, place)| format!("{place} in {netns}")).collect();
            one = format!("({}): {}", record.header.flow.protocol, words.join(", "));
        }
    })?;
    Ok(one)
}

fn host_way(seen: &Seen, _: &[Seen]) -> Outcome {
    has_way(seen, &[("node1", 0, "egress"), ("node2", 0, "ingress")])
}

fn same_host_way(seen: &Seen, _: &[Seen]) -> Outcome {
    has_way(seen, &[("pod1", 0, "egress"), ("node1", 0, "forward"), ("pod1b", 0, "ingress")])
}

fn host_gw_way(seen: &Seen, _: &[Seen]) -> Outcome {
    has_way(
        seen,
        &[("pod1", 0, "egress"), ("node1", 0, "forward"), ("node2", 0, "forward"), ("pod2", 0, "ingress")],
    )
}

fn vxlan_way(seen: &Seen, _: &[Seen]) -> Outcome {
    has_way(seen, TUNNEL_WAY)
}

fn calico_way(seen: &Seen, _: &[Seen]) -> Outcome {
    has_way(seen, TUNNEL_WAY)
}

const TUNNEL_WAY: &[Part] = &[
    ("pod1", 0, "egress"),
    ("node1", 0, "forward"),
    ("node1", 1, "egress"),
    ("node2", 1, "ingress"),
    ("node2", 0, "forward"),
    ("pod2", 0, "ingress"),
];

/// The sets that see less still tell an overlay from none.
fn outline(seen: &Seen, _: &[Seen]) -> Outcome {
    match seen.lab {
        "flannel-vxlan" => {
            has_levels(seen, &[0, 1])?;
            let encap = seen.has(|key| is_stage(key, "vxlan-encap") && key.level == Some(1));
            ensure!(encap, "there is no encapsulation at level 1");
        }
        _ => {
            has_levels(seen, &[0])?;
            has_none(seen, &["vxlan", "ipip"])?;
        }
    }
    Ok(Verdict::Passed)
}

/// Every device of the path is seen.
fn devices(seen: &Seen, _: &[Seen]) -> Outcome {
    let expected: &[&str] = match seen.lab {
        "host" => &["eth0"],
        "same-host" => &["eth0", "veth-pod1", "veth-pod1b"],
        "flannel-host-gw" => &["eth0", "veth-pod1", "veth-pod2", "cni0"],
        _ => &["eth0", "veth-pod1", "veth-pod2", "cni0", "flannel.1"],
    };
    let found = seen.devices();
    let missing: Vec<_> = expected.iter().filter(|device| !found.contains(**device)).collect();
    ensure!(missing.is_empty(), "not seen: {missing:?}; seen: {found:?}");
    let kinds: BTreeSet<&str> = seen.recording.hops.values().map(|hop| hop.kind.as_str()).collect();
    for (device, kind) in [("veth-pod1", "veth"), ("cni0", "bridge"), ("flannel.1", "vxlan")] {
        ensure!(!expected.contains(&device) || kinds.contains(kind), "no device is known to be a {kind}");
    }
    Ok(Verdict::Passed)
}

/// Packets are seen to wait.
fn queues(seen: &Seen, _: &[Seen]) -> Outcome {
    let waits = |stage: &str| seen.has(|key| is_stage(key, stage) && key.kind == "wait");
    ensure!(waits("backlog-wait"), "no packet waited in a backlog");
    Ok(Verdict::Passed)
}

/// What was sent is seen to arrive.
fn delivery(seen: &Seen, _: &[Seen]) -> Outcome {
    let (delivered, forwarded) = (seen.own.outcomes.delivered, seen.own.outcomes.forwarded);
    let messages: u64 = seen.traffic.iter().map(|report| report.sent + report.received).sum();
    let unseen = seen.analysis.unfinished();
    ensure!(
        delivered + unseen >= messages,
        "{messages} messages arrived, {delivered} packets were delivered"
    );
    ensure!(forwarded * 100 <= delivered, "{forwarded} packets vanished from sight");
    Ok(Verdict::With(format!("{delivered} delivered")))
}

/// The pods' packets are IPv6, and so is what the nodes do with them.
fn version_6(seen: &Seen, _: &[Seen]) -> Outcome {
    let of = |version: u8| {
        let is_ours = move |port: u16| port == PORT;
        seen.count(|record| {
            let flow = record.header.flow;
            seen.is_own(record)
                && flow.version == version
                && (is_ours(flow.source_port) || is_ours(flow.destination_port))
        })
    };
    let (v6, v4) = (of(6)?, of(4)?);
    ensure!(v6 > 100 && v4 == 0, "{v6} packets are IPv6, {v4} are IPv4");
    for stage in ["ip-local-out", "ip-output", "ip-rcv", "route-input", "ip-forward", "udp-rcv"] {
        ensure!(seen.has(|key| is_stage(key, stage)), "the stage {stage} is not seen");
    }
    Ok(Verdict::With(format!("{v6} packets")))
}

fn two_levels(seen: &Seen, _: &[Seen]) -> Outcome {
    has_levels(seen, &[0, 1])?;
    Ok(Verdict::Passed)
}
