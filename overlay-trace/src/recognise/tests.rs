use super::facts::{Device, Facts};
use super::matching::likenesses;
use super::*;

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
    let found = likenesses(&[facts.clone(), Facts { netns: "node2".into(), ..facts }]);
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
    let names: Vec<String> = likenesses(&[node(&devices, &[])]).into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["Canal", "a tunnel"]);
}

#[test]
fn what_the_kernel_puts_everywhere_leads_to_nothing() {
    let mut facts = node(&[("lo", "", ""), ("tunl0", "ipip", ""), ("cali1", "veth", "")], &[]);
    facts.devices[1].is_up = false;
    assert_eq!(sentence(&likenesses(&[facts.clone()])), "this looks like Calico (policy alone)");
    facts.devices.pop();
    assert!(likenesses(&[facts]).is_empty());
    assert_eq!(sentence(&[]), "nothing here is known as a container network");
}

#[test]
fn routes_tell_flannels_backends_without_a_device_apart() {
    let mut facts = node(&[("cni0", "bridge", "")], &["FLANNEL-POSTRTG"]);
    assert_eq!(sentence(&likenesses(&[facts.clone()])), "this looks like flannel (this node alone)");
    facts.has_default = true;
    assert_eq!(sentence(&likenesses(&[facts.clone()])), "this looks like flannel (routes of the cloud)");
    facts.has_gateway = true;
    assert_eq!(sentence(&likenesses(&[facts])), "this looks like flannel (host-gw)");
}
