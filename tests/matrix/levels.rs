//! Levels: in networks of all shapes, each packet is at the right level at every device, also when the
//! recording meets it in the middle of its path.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use overlay_trace_analysis::breakdown::By;
use overlay_trace_common::flags::RecordFlags;
use overlay_trace_format::RecordView;
use overlay_trace_lab::dataplanes::{Knobs, Wire};
use overlay_trace_lab::traffic::PORT;
use overlay_trace_probe::ProbeSet::*;

use crate::invariants::{BEGUN_UNDER_WAY, EXACT, MODERATE, REQUESTS};
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, Scene, Setting, check};
use crate::seen::Seen;
use crate::{in_flight, networks};

const WHERE: &[Check] = &[check("places", places), check("tunnels", tunnels)];
const PARTLY: &[Check] = &[check("places", no_other_places), check("tunnels", encapsulations)];

const PLAIN: Scene = Scene::of(Full, &[EXACT, MODERATE, REQUESTS, WHERE]);
const UNDER_WAY: Scene = Scene {
    name: "under-way",
    drive: in_flight::watch,
    in_flight: true,
    ..Scene::of(Full, &[EXACT, BEGUN_UNDER_WAY, WHERE, MET])
};
const MET: &[Check] = &[check("met", met_on_its_way)];
const ARRIVING: &[Scene] = &[Scene::of(Full, &[EXACT, MODERATE, REQUESTS, WHERE, MET])];
const ARRIVING_FOR_BOTH: &[Scene] = &[
    Scene::of(Full, &[EXACT, MODERATE, REQUESTS, WHERE, MET]),
    Scene::of(Light, &[EXACT, MODERATE, REQUESTS, PARTLY, MET]),
];
const ARRIVING_FOR_ALL: &[Scene] = &[
    Scene::of(Full, &[EXACT, MODERATE, REQUESTS, WHERE, MET]),
    Scene::of(Light, &[EXACT, MODERATE, REQUESTS, PARTLY, MET]),
    // On a busy machine many ends of TCP's segments are not seen: what comes next at their addresses is another
    // packet.
    Scene { drive: networks::requests_and_bulk, ..Scene::of(Device, &[EXACT, PARTLY, MET]) },
];

pub const FLANNEL_IN_NEUTRON: Setting = Setting::plain(
    "flannel-in-neutron",
    &[
        PLAIN,
        UNDER_WAY,
        Scene::of(Light, &[EXACT, MODERATE, REQUESTS, PARTLY]),
        Scene::of(Device, &[EXACT, REQUESTS, PARTLY]),
    ],
);
pub const CALICO_IN_NEUTRON: Setting = Setting::plain("calico-in-neutron", &[PLAIN, UNDER_WAY]);
pub const GRE: Setting = Setting::plain("gre", &[PLAIN, UNDER_WAY]);
pub const GRETAP: Setting = Setting::plain("gretap", &[PLAIN, UNDER_WAY]);
pub const GENEVE: Setting = Setting::plain("geneve", &[PLAIN, UNDER_WAY]);
pub const VXLAN6: Setting = Setting::plain("vxlan6", &[PLAIN, UNDER_WAY]);
pub const VLAN: Setting = Setting::plain("vlan", &[PLAIN, UNDER_WAY]);
pub const QINQ: Setting = Setting::plain("qinq", &[PLAIN, UNDER_WAY]);

pub const FLANNEL_WIRE: Setting = wire("flannel-vxlan+wire", "flannel-vxlan", ARRIVING_FOR_ALL);
pub const CALICO_WIRE: Setting = wire("calico-ipip+wire", "calico-ipip", ARRIVING);
pub const FLANNEL_IN_NEUTRON_WIRE: Setting =
    wire("flannel-in-neutron+wire", "flannel-in-neutron", ARRIVING_FOR_BOTH);
pub const GRE_WIRE: Setting = wire("gre+wire", "gre", ARRIVING);
pub const GRETAP_WIRE: Setting = wire("gretap+wire", "gretap", ARRIVING);
pub const GENEVE_WIRE: Setting = wire("geneve+wire", "geneve", ARRIVING);
pub const VXLAN6_WIRE: Setting = wire("vxlan6+wire", "vxlan6", ARRIVING);

/// Every packet is met when it arrives at a NIC.
const fn wire(name: &'static str, lab: &'static str, scenes: &'static [Scene]) -> Setting {
    Setting { name, knobs: || Knobs { wire: Wire::Taps, ..Knobs::default() }, ..Setting::plain(lab, scenes) }
}

/// A namespace, a device in it (none before the first), and the level there.
type Place = (String, String, u8);
/// A stage that packs or unpacks, and where.
type Step = (String, Place);

/// The path of a lab's packets from client to server: the places, and the steps by which the level changes.
#[derive(Default)]
struct Way {
    places: BTreeSet<Place>,
    steps: BTreeSet<Step>,
}

impl Way {
    /// Adds places, `NAMESPACE:DEVICE` each, at one level.
    fn at(mut self, level: u8, places: &[&str]) -> Way {
        for place in places {
            let (netns, device) = place.split_once(':').unwrap_or((place, ""));
            self.places.insert((netns.to_string(), device.to_string(), level));
        }
        self
    }

    /// Adds a tunnel device of two namespaces, which packs for the device `below`; `level` is the level inside.
    fn tunnel(mut self, kind: &str, on: [&str; 2], device: &str, below: &str, level: u8) -> Way {
        let place = |netns: &str, device: &str, level| (netns.to_string(), device.to_string(), level);
        let [from, to] = on;
        let (packs, unpacks) = (place(from, device, level + 1), place(to, below, level + 1));
        self.steps.extend([
            (format!("{kind}-encap"), packs.clone()),
            (format!("{}-decap", kind.trim_end_matches("tap")), unpacks.clone()),
            ("gro-cells-wait".to_string(), place(to, device, level)),
        ]);
        self.places.extend([place(from, device, level), place(to, device, level), packs, unpacks]);
        self.places.insert(place(from, below, level + 1));
        self
    }

    /// Pods on the nodes' bridges.
    fn bridged() -> Way {
        let places = ["pod1", "pod1:eth0", "node1:veth-pod1", "node1:cni0"];
        Way::default().at(0, &places).at(0, &["node2:cni0", "node2:veth-pod2", "pod2:eth0"])
    }

    /// Pods with a route each.
    fn routed() -> Way {
        Way::default().at(0, &["pod1", "pod1:eth0", "node1:cali-pod1", "node2:cali-pod2", "pod2:eth0"])
    }

    /// The nodes are machines of a cloud.
    fn in_neutron(self) -> Way {
        self.at(1, &["hv1:tap1", "hv2:tap2"]).tunnel("vxlan", ["hv1", "hv2"], "vxlan-101", "eth0", 1)
    }

    fn between_nodes(self, kind: &str, device: &str) -> Way {
        self.tunnel(kind, ["node1", "node2"], device, "eth0", 0)
    }

    fn of(lab: &str) -> Result<Way> {
        Ok(match lab {
            "flannel-vxlan" => Way::bridged().between_nodes("vxlan", "flannel.1"),
            "calico-ipip" => Way::routed().between_nodes("ipip", "tunl0"),
            "flannel-in-neutron" => Way::bridged().between_nodes("vxlan", "flannel.1").in_neutron(),
            "calico-in-neutron" => Way::routed().between_nodes("ipip", "tunl0").in_neutron(),
            "gre" => Way::bridged().between_nodes("gre", "gre1"),
            "gretap" => Way::bridged().between_nodes("gretap", "gretap1"),
            "geneve" => Way::bridged().between_nodes("geneve", "genev_sys"),
            "vxlan6" => Way::bridged().between_nodes("vxlan", "vxlan6"),
            "vlan" => Way::bridged()
                .at(0, &["pod1:eth0.100", "node1:veth-pod1.100", "node1:eth0"])
                .at(0, &["node2:eth0", "node2:veth-pod2.100", "pod2:eth0.100"]),
            "qinq" => Way::bridged()
                .at(0, &["pod1:svlan", "pod1:cvlan", "node1:cvlan", "node1:eth0"])
                .at(0, &["node2:eth0", "node2:svlan", "node2:cvlan", "pod2:cvlan"]),
            other => bail!("it is not known where the packets of the lab {other} are"),
        })
    }
}

fn is_to_server(seen: &Seen, record: &RecordView<'_>) -> bool {
    seen.is_own(record) && record.header.flow.destination_port == PORT
}

/// Where the packets to the server were, and what packed or unpacked them.
fn found(seen: &Seen) -> Result<Way> {
    let mut way = Way::default();
    for row in seen.analysis_of(By::Stage, |record| is_to_server(seen, record))?.rows {
        let (Some(netns), Some(level), Some(stage)) = (row.key.netns, row.key.level, row.key.stage) else {
            continue;
        };
        let place = (seen.short(&netns).to_string(), row.key.device.unwrap_or_default(), level);
        if stage.ends_with("-encap") || stage.ends_with("-decap") || stage == "gro-cells-wait" {
            way.steps.insert((stage, place.clone()));
        }
        way.places.insert(place);
    }
    Ok(way)
}

/// Fails unless both are the same.
fn same<T: Ord + std::fmt::Debug>(expected: &BTreeSet<T>, found: &BTreeSet<T>) -> Outcome {
    let (missing, extra): (Vec<_>, Vec<_>) =
        (expected.difference(found).collect(), found.difference(expected).collect());
    ensure!(missing.is_empty() && extra.is_empty(), "missing: {missing:?}; not expected: {extra:?}");
    Ok(Verdict::With(format!("{} as expected", found.len())))
}

fn places(seen: &Seen, _: &[Seen]) -> Outcome {
    same(&Way::of(seen.lab)?.places, &found(seen)?.places)
}

fn tunnels(seen: &Seen, _: &[Seen]) -> Outcome {
    same(&Way::of(seen.lab)?.steps, &found(seen)?.steps)
}

/// The sets that see less see nothing else.
fn no_other_places(seen: &Seen, _: &[Seen]) -> Outcome {
    let (expected, found) = (Way::of(seen.lab)?.places, found(seen)?.places);
    let extra: Vec<_> = found.difference(&expected).collect();
    ensure!(extra.is_empty(), "not expected: {extra:?}");
    let levels = |places: &BTreeSet<Place>| places.iter().map(|place| place.2).collect::<BTreeSet<_>>();
    same(&levels(&expected), &levels(&found))
}

fn encapsulations(seen: &Seen, _: &[Seen]) -> Outcome {
    let packs = |way: Way| -> BTreeSet<Step> {
        way.steps.into_iter().filter(|(stage, _)| stage.ends_with("-encap")).collect()
    };
    same(&packs(Way::of(seen.lab)?), &packs(found(seen)?))
}

/// Some packets were met when they came in at a device, with all their headers around them: they are known
/// by their innermost addresses, and are at that level from the first moment on.
fn met_on_its_way(seen: &Seen, _: &[Seen]) -> Outcome {
    let expected = Way::of(seen.lab)?;
    let (mut met, mut wrong, mut levels) = (0, None, BTreeSet::new());
    seen.recording.for_each_record(|record| {
        let Some(first) = record.spans().next() else { return };
        if !record.header.flags.has(RecordFlags::FROM_DEVICE) || !is_to_server(seen, &record) {
            return;
        }
        let Some(hop) = seen.recording.hops.get(&first.hop) else { return };
        let place = (seen.short(&hop.netns).to_string(), hop.device.clone(), first.level);
        met += 1;
        levels.insert(first.level);
        if !expected.places.contains(&place) {
            wrong = Some(place);
        }
    })?;
    ensure!(wrong.is_none(), "a packet was met at {wrong:?}");
    let highest = expected.places.iter().map(|place| place.2).max().unwrap_or(0);
    ensure!(met > 0, "no packet was met on its way");
    ensure!(
        highest == 0 || levels.iter().any(|level| *level > 0),
        "all were met without headers around them"
    );
    Ok(Verdict::With(format!("{met} met on their way, at the levels {levels:?}")))
}
