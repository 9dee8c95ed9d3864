//! What can be taken out of a network, and what of a packet's way goes with it.

use std::{collections::HashMap, fmt, str::FromStr};

use anyhow::{Error, Result, bail};

use crate::breakdown::Key;

use overlay_trace_format::{HopName, Recording};

/// Levels above this are not told apart: nobody nests as many overlays.
const LEVELS_MAX: u8 = 4;
/// Layers that a packet passes on every device, with a tunnel around it or without.
const OF_DEVICES: [&str; 7] = ["qdisc", "driver", "veth", "backlog", "gro", "gro-cells", "tc"];
/// Layers that are there because of a tunnel only.
const OF_TUNNELS: [&str; 6] = ["vxlan", "ipip", "gre", "geneve", "wireguard", "xfrm"];
/// Work that a packet may need without the tunnel as well.
const OF_LENGTH: [&str; 3] = ["gso", "checksum", "fragment"];
/// Link kinds of tunnel devices.
const TUNNEL_KINDS: [&str; 10] =
    ["vxlan", "ipip", "gre", "gretap", "geneve", "ip6tnl", "sit", "ip6gre", "ip6gretap", "wireguard"];

/// A part of a network that can be done without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The overlay that adds the header of this level: the nodes have routes to each other's pods instead.
    Overlay(u8),
    Conntrack,
    Bridge,
    Iptables,
    Nftables,
    Ipvs,
    /// The chains of Services: how much of all rules they are, a recording does not tell.
    KubeProxy,
    /// All that is between the pods and the nodes' NICs: pods are slaves of the NIC.
    Pods,
}

/// One or more parts that are taken out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change(pub Vec<Part>);

/// What becomes of a stretch of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Stays,
    /// The recording does not tell.
    MayGo,
    Goes,
}

impl FromStr for Part {
    type Err = Error;

    fn from_str(text: &str) -> Result<Part> {
        Ok(match text {
            "overlay" | "host-gw" => Part::Overlay(1),
            "conntrack" => Part::Conntrack,
            "bridge" => Part::Bridge,
            "iptables" => Part::Iptables,
            "nftables" => Part::Nftables,
            "ipvs" => Part::Ipvs,
            "kube-proxy" => Part::KubeProxy,
            "ipvlan" => Part::Pods,
            _ => match text.strip_prefix("overlay-").map(str::parse) {
                Some(Ok(level @ 1..=LEVELS_MAX)) => Part::Overlay(level),
                _ => bail!(
                    "'{text}' is nothing that can be taken out: write overlay, overlay-2 (the outer one of two), conntrack, \
                     bridge, iptables, nftables, ipvs or kube-proxy, or several with a + between them"
                ),
            },
        })
    }
}

impl FromStr for Change {
    type Err = Error;

    /// `overlay`, or `overlay+conntrack` for both together.
    fn from_str(text: &str) -> Result<Change> {
        Ok(Change(text.split('+').map(str::parse).collect::<Result<_>>()?))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Overlay(1) => out.write_str("without overlay (host-gw)"),
            Part::Overlay(level) => write!(out, "without overlay-{level}"),
            Part::Conntrack => out.write_str("without conntrack, nat"),
            Part::Bridge => out.write_str("without bridge"),
            Part::Iptables => out.write_str("without iptables"),
            Part::Nftables => out.write_str("without nftables"),
            Part::Ipvs => out.write_str("without ipvs"),
            Part::KubeProxy => out.write_str("without kube-proxy"),
            Part::Pods => out.write_str("as ipvlan"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            write!(out, "{}{part}", if at > 0 { " and " } else { "" })?;
        }
        Ok(())
    }
}

impl Change {
    /// Everything that can be taken out, one by one.
    pub fn all() -> Vec<Change> {
        let others = [
            Part::Conntrack,
            Part::Bridge,
            Part::Iptables,
            Part::Nftables,
            Part::Ipvs,
            Part::KubeProxy,
            Part::Pods,
        ];
        (1..=LEVELS_MAX).map(Part::Overlay).chain(others).map(|part| Change(vec![part])).collect()
    }

    /// What becomes of each stretch of a way.
    pub(super) fn fates(&self, way: &[Key], devices: &Devices) -> Vec<Fate> {
        let mut fates = vec![Fate::Stays; way.len()];
        for part in &self.0 {
            for (fate, of_part) in fates.iter_mut().zip(part.fates(way, devices)) {
                *fate = of_part.max(*fate);
            }
        }
        // Who waits for the CPU in the middle of what goes does not wait there any more.
        for at in 1..way.len() {
            if layer(&way[at]) == "cpu" {
                fates[at] = fates[at - 1];
            }
        }
        fates
    }
}

/// The link kinds of devices, by namespace and name.
pub(super) struct Devices(HashMap<(String, String), String>);

impl Devices {
    pub fn of(recording: &Recording) -> Devices {
        let kind = |hop: &HopName| ((hop.netns.clone(), hop.device.clone()), hop.kind.clone());
        Devices(recording.hops.values().map(kind).collect())
    }

    fn kind(&self, key: &Key) -> &str {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        self.0.get(&(name(&key.netns), name(&key.device))).map_or("", String::as_str)
    }
}

impl Part {
    fn fates(self, way: &[Key], devices: &Devices) -> Vec<Fate> {
        match self {
            Part::Pods => of_pods(way),
            Part::Overlay(level) if way.iter().all(|key| key.level < Some(level)) => {
                vec![Fate::Stays; way.len()]
            }
            _ => way.iter().map(|key| self.fate(key, devices)).collect(),
        }
    }

    fn fate(self, key: &Key, devices: &Devices) -> Fate {
        let goes = |goes: bool| if goes { Fate::Goes } else { Fate::Stays };
        let layer = layer(key);
        match self {
            Part::Overlay(level) => of_overlay(key, level, devices),
            Part::Conntrack => goes(layer == "conntrack" || layer == "nat"),
            // The hooks of IP that br_netfilter calls would be called by IP otherwise.
            Part::Bridge => goes(layer == "bridge" || is_of_devices(key) && devices.kind(key) == "bridge"),
            Part::Iptables => goes(layer == "iptables"),
            Part::Nftables => goes(layer == "nftables"),
            Part::Ipvs => goes(layer == "ipvs"),
            Part::KubeProxy if layer == "ipvs" => Fate::Goes,
            Part::KubeProxy if layer == "iptables" || layer == "nftables" => Fate::MayGo,
            Part::KubeProxy | Part::Pods => Fate::Stays,
        }
    }
}

fn layer(key: &Key) -> &str {
    key.layer.as_deref().unwrap_or_default()
}

fn is_of_devices(key: &Key) -> bool {
    OF_DEVICES.contains(&layer(key))
}

/// The inner packet goes where the outer one went: it passes the same NICs. What goes is the tunnel device, and
/// what the outer packet's own way through IP costs.
fn of_overlay(key: &Key, level: u8, devices: &Devices) -> Fate {
    let here = key.level.unwrap_or(0);
    let is_tunnel = TUNNEL_KINDS.contains(&devices.kind(key));
    if is_of_devices(key) {
        // Before the header is put around it, and after that is taken off.
        return if is_tunnel && here + 1 == level { Fate::Goes } else { Fate::Stays };
    }
    match layer(key) {
        layer if here == level && OF_TUNNELS.contains(&layer) => Fate::Goes,
        layer if here == level && OF_LENGTH.contains(&layer) => Fate::MayGo,
        "neighbour" | "cpu" | "socket" => Fate::Stays,
        _ if here == level => Fate::Goes,
        _ => Fate::Stays,
    }
}

/// Between the namespaces where the way begins and ends only the NICs are left; what takes the place of the
/// pods' own devices is not in the recording.
fn of_pods(way: &[Key]) -> Vec<Fate> {
    let (Some(first), Some(last)) = (way.first(), way.last()) else { return Vec::new() };
    let is_end = |key: &Key| key.netns == first.netns || key.netns == last.netns;
    // A pod is behind a veth or the like: without a namespace in between, or between two of these, there is
    // nothing to take out.
    let crosses = |at: usize| at > 0 && way[at].netns != way[at - 1].netns;
    let mut fates = vec![Fate::Stays; way.len()];
    for at in 0..way.len() {
        let key = &way[at];
        fates[at] = if !is_end(key) {
            Fate::Goes
        } else if matches!(layer(key), "veth" | "backlog") && key.direction.is_some() {
            // The pod's own device: something else is in its place.
            Fate::MayGo
        } else {
            Fate::Stays
        };
    }
    if fates.iter().all(|fate| *fate != Fate::Goes) {
        return vec![Fate::Stays; way.len()];
    }
    // Where the way goes from one node to another it passes their NICs.
    for at in (0..way.len()).filter(|&at| crosses(at) && !is_end(&way[at]) && !is_end(&way[at - 1])) {
        let same = |other: usize, with: usize| {
            way[other].netns == way[with].netns
                && way[other].device == way[with].device
                && (is_of_devices(&way[other]) || layer(&way[other]) == "cpu")
        };
        (0..at)
            .rev()
            .take_while(|&before| same(before, at - 1))
            .for_each(|before| fates[before] = Fate::Stays);
        (at..way.len()).take_while(|&after| same(after, at)).for_each(|after| fates[after] = Fate::Stays);
    }
    fates
}
