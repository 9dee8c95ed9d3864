//! Every lab, without a recording: it can be built, its pods reach each other, it is recognised by its name, and it
//! keeps to itself.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_trace_format::detection::{reasons, sentence};
use overlay_trace_lab::dataplanes::{self, Knobs, Lab, Running, System};
use overlay_trace_lab::traffic::{Kind, Protocol, Spec, Stop};
use overlay_trace_probe::detection;

use crate::machine;
use crate::results::{Outcome, Results, Verdict};

/// What each lab is detected as.
const LOOKS_LIKE: &[(&str, &str)] = &[
    ("host", "nothing here is known as a container network"),
    ("same-pod", "this looks like pods on a bridge (cni0)"),
    ("same-host", "this looks like flannel (this node alone) with kube-proxy (iptables)"),
    ("flannel-host-gw", "this looks like flannel (host-gw) with kube-proxy (iptables)"),
    ("flannel-vxlan", "this looks like flannel (vxlan, VNI 1, port 8472) with kube-proxy (iptables)"),
    (
        "calico-ipip",
        "this looks like Calico (IPIP) with kube-proxy (iptables) and Calico's policy (iptables and sets)",
    ),
    (
        "flannel-in-neutron",
        "this looks like flannel (vxlan, VNI 1, port 8472) and Neutron (Linux bridge, vxlan, VNI 101, port 4789) with kube-proxy (iptables)",
    ),
    (
        "calico-in-neutron",
        "this looks like Calico (IPIP) and Neutron (Linux bridge, vxlan, VNI 101, port 4789) with kube-proxy (iptables) and Calico's policy (iptables and sets)",
    ),
    ("gre", "this looks like a tunnel (GRE) and pods on a bridge (cni0)"),
    ("gretap", "this looks like a tunnel (GRE with Ethernet inside) and pods on a bridge (cni0)"),
    ("geneve", "this looks like a tunnel (geneve, VNI by packet, port 6081) and pods on a bridge (cni0)"),
    ("vxlan6", "this looks like a tunnel (vxlan, VNI 6, port 18472) and pods on a bridge (cni0)"),
    ("vlan", "this looks like pods on a bridge (cni0) with VLANs (VLAN 100)"),
    ("qinq", "this looks like pods on a bridge (cni0) with VLANs (VLAN 200)"),
    ("flannel-udp", "this looks like flannel (udp) with kube-proxy (iptables)"),
    ("flannel-ipip", "this looks like flannel (ipip) with kube-proxy (iptables)"),
    (
        "flannel-aws-vpc",
        "this looks like flannel (routes of the cloud, or this node alone) with kube-proxy (iptables)",
    ),
    (
        "calico-bgp",
        "this looks like Calico (BGP) with kube-proxy (iptables) and Calico's policy (iptables and sets)",
    ),
    (
        "canal",
        "this looks like Canal (vxlan, VNI 1, port 8472) with kube-proxy (iptables) and Calico's policy (iptables and sets)",
    ),
    ("romana", "this looks like Romana with kube-proxy (iptables)"),
    ("ipvlan-l2", "this looks like pods on a node's NIC (ipvlan, mode l2)"),
    ("ipvlan-l3", "this looks like pods on a node's NIC (ipvlan, mode l3)"),
    ("macvlan", "this looks like pods on a node's NIC (macvlan, mode bridge)"),
    ("cni-bridge", "this looks like pods on a bridge (cni0) with portmap"),
    ("cni-ipvlan", "this looks like pods on a node's NIC (ipvlan, mode l2)"),
    ("cni-macvlan", "this looks like pods on a node's NIC (macvlan, mode bridge)"),
    ("kube-router", "this looks like kube-router (routes) with kube-router's policy (iptables)"),
    ("kube-router-ipip", "this looks like kube-router (overlay, ipip) with kube-router's policy (iptables)"),
    (
        "kube-router-ipvs",
        "this looks like kube-router (routes) with kube-router's services (IPVS) and kube-router's policy (iptables)",
    ),
    (
        "kube-router-dsr",
        "this looks like kube-router (routes) with kube-router's services (IPVS, direct server return) and kube-router's policy (iptables)",
    ),
    ("kube-proxy-iptables", "this looks like flannel (host-gw) with kube-proxy (iptables)"),
    ("kube-proxy-ipvs", "this looks like flannel (host-gw) with kube-proxy (IPVS)"),
    ("docker-bridge", "this looks like Docker (bridge)"),
    ("docker-overlay", "this looks like Docker (overlay, VNI 4097, port 4789)"),
    (
        "neutron-linuxbridge-flat",
        "this looks like Neutron (Linux bridge, flat) with Neutron's firewall (iptables)",
    ),
    (
        "neutron-linuxbridge-vlan",
        "this looks like Neutron (Linux bridge, VLAN, VLAN 101) with Neutron's firewall (iptables)",
    ),
    (
        "neutron-linuxbridge-vxlan",
        "this looks like Neutron (Linux bridge, vxlan, VNI 101, port 4789) with Neutron's firewall (iptables)",
    ),
    (
        "neutron-linuxbridge-gre",
        "this looks like Neutron (Linux bridge, GRE) with Neutron's firewall (iptables)",
    ),
    (
        "neutron-ovs-flat",
        "this looks like Neutron (Open vSwitch with a bridge for each firewall, flat or VLAN) with Neutron's firewall (iptables)",
    ),
    (
        "neutron-ovs-vlan",
        "this looks like Neutron (Open vSwitch with a bridge for each firewall, flat or VLAN) with Neutron's firewall (iptables)",
    ),
    (
        "neutron-ovs-vxlan",
        "this looks like Neutron (Open vSwitch with a bridge for each firewall, vxlan, VNI by packet, port 4789) with Neutron's firewall (iptables)",
    ),
    (
        "neutron-ovs-gre",
        "this looks like Neutron (Open vSwitch with a bridge for each firewall, GRE) with Neutron's firewall (iptables)",
    ),
    (
        "neutron-ovs-firewall",
        "this looks like Neutron (Open vSwitch without a bridge for each firewall, vxlan, VNI by packet, port 4789)",
    ),
    (
        "kuryr-macvlan",
        "this looks like Neutron (Linux bridge, vxlan, VNI 101, port 4789) and pods on a node's NIC (macvlan, mode bridge)",
    ),
    (
        "kuryr-ipvlan",
        "this looks like Neutron (Linux bridge, vxlan, VNI 101, port 4789) and pods on a node's NIC (ipvlan, mode l2)",
    ),
    ("kuryr-vlan", "this looks like Neutron (Linux bridge, vxlan, VNI 101, port 4789) with VLANs (VLAN 102)"),
    ("weave-fastdp", "this looks like Weave (fast datapath, VNI by packet, port 6784)"),
    ("weave-sleeve", "this looks like Weave (sleeve)"),
    ("cilium-native", "this looks like Cilium (native routing)"),
    ("cilium-vxlan", "this looks like Cilium (vxlan, VNI by packet, port 8472)"),
    ("cilium-geneve", "this looks like Cilium (geneve, VNI by packet, port 6081)"),
    ("cilium-service", "this looks like Cilium (native routing) with services (socket load balancing)"),
    ("wireguard", "this looks like flannel (wireguard) with kube-proxy (iptables)"),
    ("ipsec", "this looks like flannel (host-gw) with IPsec and kube-proxy (iptables)"),
];

/// What the lab of this name is detected as.
pub fn looks_like(name: &str) -> Result<&'static str> {
    let said = LOOKS_LIKE.iter().find(|(lab, _)| *lab == name);
    Ok(said.context("nothing is said of this lab")?.1)
}

/// So many of each kind of traffic.
const COUNT: u64 = 10;
const RATE: f64 = 100.0;
/// So often it is tried.
const ATTEMPTS: u32 = 3;

/// Builds each lab of which a test is wanted, but for those that have been tested.
pub fn run(tested: &BTreeSet<&str>, stop: &Stop, results: &mut Results) -> Result<()> {
    let system = System::look()?;
    for lab in dataplanes::all().iter().filter(|lab| !tested.contains(lab.name)) {
        if is_wanted(lab, results) {
            build(lab, &system, stop, results);
            stop.check()?;
        }
    }
    Ok(())
}

fn test(lab: &Lab, test: &str) -> String {
    format!("labs/{}/{test}", lab.name)
}

/// Whether a test of this lab is wanted.
pub fn is_wanted(lab: &Lab, results: &Results) -> bool {
    ["stands", "reaches", "recognised", "alone"].iter().any(|name| results.wants(&test(lab, name)))
}

fn build(lab: &'static Lab, system: &System, stop: &Stop, results: &mut Results) {
    let stands = test(lab, "stands");
    let lack = match system.lack(lab, &Knobs::default()) {
        Ok(lack) => lack,
        Err(error) => return results.add(&stands, Err(error)),
    };
    if let Some(lack) = lack {
        return results.add(&stands, Ok(Verdict::Skipped(format!("unavailable: {lack}"))));
    }
    let before = machine::state();
    let mut running = match Running::up(lab, Knobs::default(), stop) {
        Ok(running) => running,
        Err(error) => return results.add(&stands, Err(error)),
    };
    let alone = while_it_stands(&mut running, &before, (system, stop), results);
    afterwards(lab, running.down().and(alone), &before, results);
}

/// Tests a lab that stands as it is by default. Tells whether the machine's own devices, routes and rules are as before,
/// so that nothing can leave the lab; other labs may stand at the same time.
pub fn while_it_stands(
    running: &mut Running,
    before: &Result<BTreeSet<String>>,
    (system, stop): (&System, &Stop),
    results: &mut Results,
) -> Result<()> {
    let lab = running.lab();
    results.add(&test(lab, "stands"), Ok(Verdict::Passed));
    let mut retries = 0;
    results.add(&test(lab, "reaches"), all_reach(running, system, stop, &mut retries));
    results.note_retries(&test(lab, "reaches"), retries);
    results.add(&test(lab, "recognised"), is_recognised(running));
    let mut during = machine::state()?;
    during.retain(|line| !line.starts_with("cgroup ot-"));
    let changed: Vec<_> = machine::as_read(before)?.symmetric_difference(&during).collect();
    ensure!(changed.is_empty(), "while it stands, of the machine itself this has come or gone: {changed:?}");
    Ok(())
}

/// After it was taken down nothing is left of a lab.
pub fn afterwards(lab: &Lab, alone: Result<()>, before: &Result<BTreeSet<String>>, results: &mut Results) {
    results.add(&test(lab, "alone"), alone.and_then(|()| machine::is_without(lab.name, before)));
}

/// The client's pings are answered, and so are its requests over TCP and UDP, also over IPv6 if the lab has it.
fn all_reach(running: &mut Running, system: &System, stop: &Stop, retries: &mut u32) -> Outcome {
    reach(running, stop, retries)?;
    if !running.lab().has_ipv6(system) {
        return Ok(Verdict::With("IPv4".to_owned()));
    }
    running.set_ipv6(true);
    let reached = reach(running, stop, retries).context("over IPv6");
    running.set_ipv6(false);
    reached?;
    Ok(Verdict::With("IPv4 and IPv6".to_owned()))
}

/// In one of the attempts all is answered: on a busy machine a worker that encrypts may come too late.
fn reach(running: &Running, stop: &Stop, retries: &mut u32) -> Result<()> {
    let mut reached = all_answered(running, stop);
    for _ in 1..ATTEMPTS {
        if reached.is_ok() || stop.is_set() {
            break;
        }
        *retries += 1;
        reached = all_answered(running, stop);
    }
    reached
}

fn all_answered(running: &Running, stop: &Stop) -> Result<()> {
    for report in dataplanes::drive(running, &plan(), stop)? {
        ensure!(
            report.sent == COUNT && report.lost == 0,
            "{:?}: {} of {COUNT} lost",
            report.kind,
            report.lost
        );
    }
    Ok(())
}

fn plan() -> [Spec; 3] {
    let spec = |kind, protocol| Spec {
        count: Some(COUNT),
        rate: RATE,
        timeout: Duration::from_secs(5),
        ..Spec::new(kind, protocol)
    };
    [spec(Kind::Ping, Protocol::Icmp), spec(Kind::Rr, Protocol::Tcp), spec(Kind::Rr, Protocol::Udp)]
}

/// The lab is detected as what it is.
fn is_recognised(running: &Running) -> Outcome {
    let name = running.lab().name;
    let expected = looks_like(name)?;
    let found = detection::look(&running.filter().netns);
    let said = sentence(&found);
    ensure!(said == expected, "{said:?}, because of {}, instead of {expected:?}", reasons(&found));
    Ok(Verdict::With(reasons(&found)))
}
