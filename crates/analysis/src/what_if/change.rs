//! What can be taken out of a network, and what of a packet's path goes with it.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    str::FromStr,
};

use anyhow::{Error, Result, bail};

use overlay_trace_common::behaviour::Role;
use overlay_trace_format::{HopName, Recording};

use crate::breakdown::{Facts, Key};

/// Levels above this are not told apart: nobody nests as many overlays.
const LEVELS_MAX: u8 = 4;
/// `rtnl_link_ops.kind` of bridges.
const BRIDGE_KIND: &str = "bridge";

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

/// What becomes of a visit of a stage.
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

    /// What becomes of each visit of a path.
    pub(super) fn fates(&self, path: &[Visit], devices: &Devices) -> Vec<Fate> {
        let mut fates = vec![Fate::Stays; path.len()];
        for part in &self.0 {
            for (fate, of_part) in fates.iter_mut().zip(part.fates(path, devices)) {
                *fate = of_part.max(*fate);
            }
        }
        // A packet that waits for the CPU in the middle of what goes does not wait there any more.
        for at in 1..path.len() {
            if path[at].stage.interrupts {
                fates[at] = fates[at - 1];
            }
        }
        fates
    }
}

/// A packet's visit of a stage.
pub(super) struct Visit {
    /// Where it is.
    pub key: Key,
    pub stage: Facts,
}

/// The link kinds of devices, by namespace and name.
pub(super) struct Devices {
    kinds: HashMap<(String, String), String>,
    tunnel_kinds: HashSet<String>,
}

impl Devices {
    pub fn of(recording: &Recording) -> Devices {
        let kind = |hop: &HopName| ((hop.netns.clone(), hop.device.clone()), hop.kind.clone());
        let tunnels = recording.header.stages.iter().filter(|row| row.behaviour.role == Role::Tunnel);
        Devices {
            kinds: recording.hops.values().map(kind).collect(),
            tunnel_kinds: tunnels.filter_map(|row| row.link_kind.clone()).collect(),
        }
    }

    fn kind(&self, key: &Key) -> &str {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        self.kinds.get(&(name(&key.netns), name(&key.device))).map_or("", String::as_str)
    }

    fn is_tunnel(&self, key: &Key) -> bool {
        self.tunnel_kinds.contains(self.kind(key))
    }
}

impl Part {
    fn fates(self, path: &[Visit], devices: &Devices) -> Vec<Fate> {
        match self {
            Part::Pods => of_pods(path),
            Part::Overlay(level) if path.iter().all(|visit| visit.key.level < Some(level)) => {
                vec![Fate::Stays; path.len()]
            }
            _ => path.iter().map(|visit| self.fate(visit, devices)).collect(),
        }
    }

    fn fate(self, visit: &Visit, devices: &Devices) -> Fate {
        let goes = |goes: bool| if goes { Fate::Goes } else { Fate::Stays };
        let role = visit.stage.role;
        match self {
            Part::Overlay(level) => of_overlay(visit, level, devices),
            Part::Conntrack => goes(role == Role::Conntrack),
            // The IP hooks that br_netfilter calls would be called by IP otherwise.
            Part::Bridge => {
                goes(role == Role::Bridge || role.is_device() && devices.kind(&visit.key) == BRIDGE_KIND)
            }
            Part::Iptables => goes(role == Role::Iptables),
            Part::Nftables => goes(role == Role::Nftables),
            Part::Ipvs => goes(role == Role::Ipvs),
            Part::KubeProxy => match role {
                Role::Ipvs => Fate::Goes,
                Role::Iptables | Role::Nftables => Fate::MayGo,
                _ => Fate::Stays,
            },
            Part::Pods => Fate::Stays,
        }
    }
}

/// The inner packet goes where the outer one went: it passes the same NICs. What goes is the tunnel device, and
/// the outer packet's own path through IP.
fn of_overlay(visit: &Visit, level: u8, devices: &Devices) -> Fate {
    let here = visit.key.level.unwrap_or(0);
    match visit.stage.role {
        // At the tunnel device: before the header is added, and after it is removed.
        role if role.is_device() && here + 1 == level && devices.is_tunnel(&visit.key) => Fate::Goes,
        role if role.is_device() => Fate::Stays,
        Role::Endpoint => Fate::Stays,
        Role::Length if here == level => Fate::MayGo,
        _ if here == level => Fate::Goes,
        _ => Fate::Stays,
    }
}

/// Between the namespaces where the path begins and ends only the NICs are left. What replaces the pods' own devices is
/// not in the recording.
fn of_pods(path: &[Visit]) -> Vec<Fate> {
    let (Some(first), Some(last)) = (path.first(), path.last()) else { return Vec::new() };
    let is_end = |visit: &Visit| visit.key.netns == first.key.netns || visit.key.netns == last.key.netns;
    // A pod is behind a veth or the like: without a namespace in between, or between two of these, there is
    // nothing to take out.
    let crosses = |at: usize| at > 0 && path[at].key.netns != path[at - 1].key.netns;
    let fate = |visit: &Visit| {
        if !is_end(visit) {
            Fate::Goes
        } else if visit.stage.role == Role::PodDevice && visit.key.direction.is_some() {
            // The pod's own device: another one replaces it.
            Fate::MayGo
        } else {
            Fate::Stays
        }
    };
    let mut fates: Vec<Fate> = path.iter().map(fate).collect();
    if fates.iter().all(|fate| *fate != Fate::Goes) {
        return vec![Fate::Stays; path.len()];
    }
    // Where the path goes from one node to another it passes their NICs.
    for at in (0..path.len()).filter(|&at| crosses(at) && !is_end(&path[at]) && !is_end(&path[at - 1])) {
        let same = |other: usize, with: usize| {
            let (other, with) = (&path[other], &path[with]);
            other.key.netns == with.key.netns
                && other.key.device == with.key.device
                && (other.stage.role.is_device() || other.stage.interrupts)
        };
        (0..at)
            .rev()
            .take_while(|&before| same(before, at - 1))
            .for_each(|before| fates[before] = Fate::Stays);
        (at..path.len()).take_while(|&after| same(after, at)).for_each(|after| fates[after] = Fate::Stays);
    }
    fates
}
