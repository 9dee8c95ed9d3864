//! Turns a lab's data into the lines that the tools execute, with all variables filled in.

use super::extra_services;
use super::knobs::Knobs;
use super::lab::Lab;
use super::requirements::System;
use super::step::{ALL_NAMESPACES, Action, Family, Step, Tool};
use super::variables::{FAMILY_VARIABLES, STACK_VARIABLES};

/// Overhead of the VXLAN of a cloud network, bytes. The MTU of the fabric is larger by this much.
const FABRIC_OVERHEAD: u32 = 50;

/// All actions that set the lab up, in order, after its namespaces were created.
pub fn script(lab: &'static Lab, knobs: &Knobs, system: &System) -> Vec<Action> {
    let mut actions: Vec<Action> = lab.steps().flat_map(|step| expand(lab, knobs, system, step)).collect();
    actions.extend(extra_services::actions(lab, knobs));
    actions.extend(unused_rules(lab, knobs, system));
    if let Some(delay) = knobs.delay {
        let lines = format!("qdisc replace dev eth0 root netem delay {}us limit 100000", delay.as_micros());
        actions.push(Action { namespace: "node1", tool: Tool::Tc, v6: false, lines });
    }
    actions
}

fn expand(lab: &'static Lab, knobs: &Knobs, system: &System, step: &'static Step) -> Vec<Action> {
    if !step.wire.is_empty() && !step.wire.contains(&knobs.wire.kind()) {
        return Vec::new();
    }
    let families: &[bool] = match step.family {
        Family::V6 if lab.has_ipv6(system) => &[true],
        Family::V6 => &[],
        Family::Both if lab.has_ipv6(system) => &[false, true],
        Family::Both | Family::Any => &[false],
    };
    let tool = step.tool;
    let mut actions = Vec::new();
    for &namespace in lab.namespaces.iter().filter(|name| step.on == ALL_NAMESPACES || step.on.contains(name))
    {
        for &v6 in families {
            let lines = fill(lab, knobs, system, namespace, v6, step.lines);
            actions.push(Action { namespace, tool, v6, lines });
        }
    }
    actions
}

fn fill(lab: &Lab, knobs: &Knobs, system: &System, namespace: &str, v6: bool, lines: &str) -> String {
    let own = namespace.chars().find_map(|letter| letter.to_digit(10)).unwrap_or(1);
    let mut text: String =
        lines.lines().map(str::trim).filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect();
    for (name, values) in FAMILY_VARIABLES {
        text = text.replace(name, values[usize::from(v6)]);
    }
    for (name, values) in STACK_VARIABLES {
        text = text.replace(name, values[usize::from(lab.has_ipv6(system))]);
    }
    let server = lab.server.v6.filter(|_| v6).unwrap_or(lab.server.v4);
    let (mtu, overhead) = (knobs.mtu, lab.overhead);
    let udp_checksum = match knobs.udp_checksum {
        None => "",
        Some(true) => " udpcsum",
        Some(false) => " noudpcsum",
    };
    let values = [
        ("{server}", server.to_string()),
        ("{server_at}", if v6 { format!("[{server}]") } else { server.to_string() }),
        ("{pod}", "{pod{n}}".to_string()),
        ("{node}", "{node{n}}".to_string()),
        ("{n}", own.to_string()),
        ("{p}", (3 - own.min(2)).to_string()),
        ("{mtu}", mtu.to_string()),
        ("{pod_mtu}", mtu.saturating_sub(overhead.0).to_string()),
        ("{pod_mtu_v6}", mtu.saturating_sub(overhead.1).to_string()),
        ("{tunnelled_mss}", mtu.saturating_sub(if v6 { 40 + 40 + 20 } else { 20 + 20 + 20 }).to_string()),
        ("{fabric_mtu}", (mtu + FABRIC_OVERHEAD).to_string()),
        ("{qdisc}", system.qdisc.to_string()),
        ("{udp_checksum}", udp_checksum.to_string()),
    ];
    for (name, value) in values {
        text = text.replace(name, &value);
    }
    for other in lab.namespaces {
        text = text.replace(&format!("{{{other}}}"), &format!("{}{other}", lab.netns_prefix()));
    }
    text
}

/// The rules of [`Knobs::rules`]. Their source address is from a documentation network that no lab uses.
fn unused_rules(lab: &'static Lab, knobs: &Knobs, system: &System) -> Vec<Action> {
    if knobs.rules == 0 {
        return Vec::new();
    }
    let families: &[(bool, &str)] = match lab.has_ipv6(system) {
        true => &[(false, "198.51.100.1"), (true, "2001:db8:ffff::1")],
        false => &[(false, "198.51.100.1")],
    };
    let mut actions = Vec::new();
    for &namespace in lab.namespaces.iter().filter(|name| name.starts_with("node")) {
        for &(v6, source) in families {
            let rule = format!("-I FORWARD -s {source} -j DROP\n");
            let lines = format!("*filter\n{}COMMIT\n", rule.repeat(knobs.rules as usize));
            actions.push(Action { namespace, tool: Tool::Iptables, v6, lines });
        }
    }
    actions
}
