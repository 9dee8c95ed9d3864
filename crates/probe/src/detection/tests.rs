use super::facts::{Device, Facts};
use super::matching::detections;
use overlay_trace_format::detection::{reasons, sentence};

fn device(name: &str, kind: &str, details: &str) -> Device {
    Device { name: name.into(), kind: kind.into(), is_up: true, details: details.into() }
}

fn node(devices: &[(&str, &str, &str)], chains: &[&str]) -> Facts {
    Facts {
        netns: "node1".into(),
        devices: devices.iter().map(|(name, kind, details)| device(name, kind, details)).collect(),
        chains: chains.iter().map(|chain| (*chain).to_owned()).collect(),
        ..Facts::default()
    }
}

#[test]
fn flannel_is_known_by_its_device_and_kube_proxy_by_its_chains() {
    let facts = node(
        &[("cni0", "bridge", ""), ("flannel.1", "vxlan", "VNI 1, port 8472"), ("eth0", "veth", "")],
        &["FLANNEL-FWD", "KUBE-SERVICES", "KUBE-SVC-ABC"],
    );
    let found = detections(&[facts.clone(), Facts { netns: "node2".into(), ..facts }]);
    assert_eq!(
        sentence(&found),
        "this looks like flannel (vxlan, VNI 1, port 8472) with kube-proxy (iptables)"
    );
    assert_eq!(
        reasons(&found),
        "flannel.1 (vxlan) in node1 and 1 more, the chain KUBE-SVC-ABC in node1 and 1 more"
    );
}

#[test]
fn a_device_leads_to_one_network() {
    let devices = [("flannel.1", "vxlan", "VNI 1"), ("cali1", "veth", ""), ("vx1", "vxlan", "VNI 9")];
    let names: Vec<String> = detections(&[node(&devices, &[])]).into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["Canal", "a tunnel"]);
}

#[test]
fn what_the_kernel_puts_everywhere_leads_to_nothing() {
    let mut facts = node(&[("lo", "", ""), ("tunl0", "ipip", ""), ("cali1", "veth", "")], &[]);
    facts.devices[1].is_up = false;
    assert_eq!(sentence(&detections(&[facts.clone()])), "this looks like Calico");
    facts.devices.pop();
    assert!(detections(&[facts]).is_empty());
    assert_eq!(sentence(&[]), "nothing here is known as a container network");
}

#[test]
fn routes_tell_flannels_backends_without_a_device_apart() {
    let mut facts = node(&[("cni0", "bridge", "")], &["FLANNEL-POSTRTG"]);
    assert_eq!(sentence(&detections(&[facts.clone()])), "this looks like flannel (this node alone)");
    facts.has_default = true;
    let alone_or_not = "this looks like flannel (routes of the cloud, or this node alone)";
    assert_eq!(sentence(&detections(&[facts.clone()])), alone_or_not);
    // A route to some other network says nothing.
    facts.networks.insert("cni0".into(), 24);
    facts.by_gateway.insert(8);
    assert_eq!(sentence(&detections(&[facts.clone()])), alone_or_not);
    facts.by_gateway.insert(24);
    assert_eq!(sentence(&detections(&[facts])), "this looks like flannel (host-gw)");
}

#[test]
fn direct_server_return_is_known_by_the_tunnels_to_its_servers() {
    let mut facts = node(&[("kube-bridge", "bridge", ""), ("kube-dummy-if", "dummy", "")], &[]);
    facts.virtual_servers = 2;
    let translated = "this looks like kube-router (routes) with kube-router's services (IPVS)";
    assert_eq!(sentence(&detections(&[facts.clone()])), translated);
    facts.tunnelled_servers = 1;
    let direct =
        "this looks like kube-router (routes) with kube-router's services (IPVS, direct server return)";
    assert_eq!(sentence(&detections(&[facts])), direct);
}

#[test]
fn the_tagged_port_of_a_bridge_is_known_whatever_its_nic_is_called() {
    let facts = node(&[("brq1", "bridge", ""), ("bond0.7", "vlan", "VLAN 7")], &[]);
    assert_eq!(sentence(&detections(&[facts])), "this looks like Neutron (Linux bridge, VLAN, VLAN 7)");
}
