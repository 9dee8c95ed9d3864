use std::collections::HashSet;
use std::time::Duration;

use super::knobs::needs;
use super::tools::faulty_line;
use super::*;

fn system(ipv6: bool) -> System {
    System::with(ipv6, "fq_codel", "legacy")
}

#[test]
fn names_are_unique_and_found() {
    let names: HashSet<_> = all().iter().map(|lab| lab.name).collect();
    assert_eq!(names.len(), all().len());
    assert!(names.iter().all(|name| find(name).is_some()));
    assert!(find("no-such-lab").is_none());
}

#[test]
fn every_variable_of_every_lab_is_filled_in() {
    for lab in all() {
        for ipv6 in [false, true] {
            for action in script(lab, &Knobs::default(), &system(ipv6)) {
                // BIRD's own braces have no word right behind them.
                let mut after = action.lines.split('{').skip(1);
                let is_filled = after.all(|text| !text.starts_with(char::is_alphabetic));
                assert!(is_filled, "{}: {}", lab.name, action.lines);
                assert!(lab.namespaces.contains(&action.namespace));
            }
        }
    }
}

#[test]
fn every_step_has_a_namespace_in_some_lab_and_every_endpoint_an_address() {
    for lab in all() {
        for part in lab.parts {
            let here = |name: &&str| *name == "*" || lab.namespaces.contains(name);
            assert!(part.steps.iter().any(|step| step.on.iter().any(here)), "{}", part.about);
        }
        for endpoint in [&lab.client, &lab.server] {
            assert!(lab.namespaces.contains(&endpoint.namespace));
            assert!(endpoint.address(false).is_some_and(|address| address.is_ipv4()));
            assert_eq!(endpoint.address(true).is_some(), endpoint.v6.is_some());
        }
    }
}

#[test]
fn without_ipv6_no_line_mentions_it() {
    for lab in all() {
        for action in script(lab, &Knobs::default(), &system(false)) {
            let mentions = action.lines.contains("::") || action.lines.contains("ipv6");
            assert!(!action.v6 && !mentions, "{}: {}", lab.name, action.lines);
        }
    }
}

#[test]
fn the_two_nodes_mirror_each_other() {
    let lab = find("flannel-vxlan").unwrap();
    let actions = script(lab, &Knobs::default(), &system(true));
    let text = |node| {
        let lines = actions.iter().filter(|action| action.namespace == node).map(|action| &*action.lines);
        lines.collect::<String>()
    };
    let line = "route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink";
    assert!(text("node1").contains(line) && !text("node2").contains(line));
    assert!(text("node2").contains("route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink"));
    assert!(text("node1").contains("netns ot-flannel-vxlan-pod1\n"));
    assert!(text("node1").contains("mtu 1450 type vxlan id 1 dev eth0 local 192.0.2.1 dstport 8472"));
    assert!(text("node1").contains("-j DNAT --to-destination 10.244.2.2:7700"));
    assert!(text("node1").contains("-j DNAT --to-destination [fd00:10:244:2::2]:7700"));
}

#[test]
fn knobs_become_lines() {
    let lab = find("flannel-vxlan").unwrap();
    let knobs = Knobs { delay: Some(Duration::from_millis(2)), rules: 3, mtu: 9000, ..Knobs::default() };
    let actions = script(lab, &knobs, &system(false));
    let delay = actions.last().unwrap();
    assert_eq!((delay.namespace, delay.tool), ("node1", Tool::Tc));
    assert!(delay.lines.contains("netem delay 2000us"));
    let rules: Vec<_> = actions.iter().filter(|action| action.lines.contains("198.51.100.1")).collect();
    assert_eq!(rules.len(), 2);
    assert!(rules.iter().all(|action| action.lines.matches("-I FORWARD").count() == 3));
    assert!(actions.iter().any(|action| action.lines.contains("link add name cni0 mtu 8950")));
    assert!(needs(lab, &knobs).contains(&Need::Netem));
    assert!(!needs(lab, &Knobs::default()).contains(&Need::Netem));
}

#[test]
fn additional_services_and_endpoints_become_rules_or_virtual_servers() {
    let knobs = Knobs { services: 300, endpoints: 2, ..Knobs::default() };
    let lines = |name: &str| -> String {
        let actions = script(find(name).unwrap(), &knobs, &system(false));
        actions.iter().filter(|action| action.namespace == "node1").map(|action| &*action.lines).collect()
    };
    let chains = lines("kube-proxy-iptables");
    assert_eq!(chains.matches("-I KUBE-SERVICES -d 10.97.").count(), 300);
    // The last one inserted comes first: a third, then half of the rest, then the remainder.
    let (half, third) = (chains.find("--probability 0.5"), chains.find("--probability 0.3"));
    assert!(half.unwrap() < third.unwrap());
    let servers = lines("kube-proxy-ipvs");
    assert_eq!(servers.matches("-A -t 10.97.").count(), 300);
    assert_eq!(servers.matches("-m -w 0").count(), 4);
    assert!(servers.contains("add KUBE-CLUSTER-IP 10.97.1.43,tcp:80"));
    assert!(!lines("flannel-vxlan").is_empty() && !lines("macvlan").contains("10.97."));
}

#[test]
fn additional_services_have_the_ip_family_of_the_traffic() {
    let knobs = Knobs { services: 300, endpoints: 2, ipv6: true, ..Knobs::default() };
    let lines = |name: &str| -> String {
        let actions = script(find(name).unwrap(), &knobs, &system(true));
        let is_wanted = |action: &&Action| action.namespace == "node1" && action.v6;
        actions.iter().filter(is_wanted).map(|action| &*action.lines).collect()
    };
    assert!(lines("kube-proxy-iptables").contains("-I KUBE-SERVICES -d fd00:10:97::12b -p tcp"));
    let servers = lines("kube-proxy-ipvs");
    assert!(servers.contains("-A -t [fd00:10:97::1]:80 -s rr"));
    assert!(servers.contains("-a -t [fd00:10:96::7777]:7700 -r [fd00:10:244:0::1]:7701 -m -w 0"));
    assert!(servers.contains("add KUBE-6-CLUSTER-IP fd00:10:97::12b,tcp:80"));
}

#[test]
fn needs_are_those_of_the_parts() {
    let calico = needs(find("calico-ipip").unwrap(), &Knobs::default());
    assert_eq!(calico, [Need::Link("veth"), Need::Link("ipip"), Need::Iptables, Need::Ipset]);
    assert_eq!(needs(find("host").unwrap(), &Knobs::default()), [Need::Link("veth")]);
}

#[test]
fn the_faulty_line_is_found_in_error_messages() {
    assert_eq!(faulty_line("Error: x\nCommand failed -:3"), Some(3));
    assert_eq!(faulty_line("iptables-restore: line 12 failed"), Some(12));
    assert_eq!(faulty_line("Error occurred at line: 7\nTry `iptables-restore -h'"), Some(7));
    assert_eq!(faulty_line("Permission denied"), None);
}
