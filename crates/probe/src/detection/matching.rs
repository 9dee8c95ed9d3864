//! Matches the rules against the facts of namespaces. Pure.

use std::collections::HashSet;

use super::facts::{Device, Facts};
use super::rules::{Clue, RULES, Rule};
use overlay_trace_format::Detection;

/// The networks of these namespaces, each once, in the rules' order.
pub fn detections(all: &[Facts]) -> Vec<Detection> {
    let mut claimed: Vec<HashSet<&str>> = vec![HashSet::new(); all.len()];
    let mut found: Vec<Detection> = Vec::new();
    for rule in RULES {
        for (facts, claimed) in all.iter().zip(&mut claimed) {
            let Some(detection) = try_rule(rule, facts, claimed) else { continue };
            match found
                .iter_mut()
                .find(|one| (&one.name, &one.details) == (&detection.name, &detection.details))
            {
                Some(one) => one.evidence.extend(detection.evidence),
                None => found.push(detection),
            }
        }
    }
    found
}

fn try_rule<'a>(rule: &Rule, facts: &'a Facts, claimed: &mut HashSet<&'a str>) -> Option<Detection> {
    if rule.none.iter().any(|clue| evidence(clue, facts, &HashSet::new()).is_some()) {
        return None;
    }
    let evidence: Vec<Evidence> =
        rule.all.iter().map(|clue| evidence(clue, facts, claimed)).collect::<Option<_>>()?;
    let devices = || evidence.iter().flat_map(|one| one.claimed.iter().copied());
    // The mode is that of the first device.
    let details = devices().next().map_or("", |device| &device.details);
    let details: Vec<&str> = [rule.mode, details].into_iter().filter(|text| !text.is_empty()).collect();
    let because = evidence.iter().map(|one| format!("{} in {}", one.words, facts.netns)).collect();
    claimed.extend(devices().map(|device| device.name.as_str()));
    Some(Detection {
        name: rule.name.to_owned(),
        details: details.join(", "),
        is_addition: rule.is_addition,
        evidence: because,
    })
}

/// What a clue has found.
struct Evidence<'a> {
    words: String,
    /// Devices that are no evidence for later rules.
    claimed: Vec<&'a Device>,
}

fn evidence<'a>(clue: &Clue, facts: &'a Facts, claimed: &HashSet<&str>) -> Option<Evidence<'a>> {
    let words = |words: String| Some(Evidence { words, claimed: Vec::new() });
    let when = |is: bool, text: &str| if is { words(text.to_owned()) } else { None };
    let named = |names: &std::collections::BTreeSet<String>, pattern: &str, what: &str| {
        let name = names.iter().find(|name| is_like(name, pattern))?;
        words(format!("the {what} {name}"))
    };
    match *clue {
        Clue::Device(name, kind) => of_devices(facts, |device| {
            is_device(device, name, kind) && !claimed.contains(device.name.as_str())
        }),
        Clue::Up(name, kind) => of_devices(facts, |device| {
            is_device(device, name, kind) && device.is_up && !claimed.contains(device.name.as_str())
        }),
        Clue::AnyDevice(name, kind) => {
            let device = facts.devices.iter().find(|device| is_device(device, name, kind))?;
            words(describe(device))
        }
        Clue::Chain(pattern) => named(&facts.chains, pattern, "chain"),
        Clue::Set(pattern) => named(&facts.sets, pattern, "set"),
        Clue::RouteProtocol(protocol) => {
            when(facts.route_protocols.contains(&protocol), &format!("routes of protocol {protocol}"))
        }
        Clue::PeerRoute(device) => {
            let length = facts.networks.get(device);
            let has_peer = length.is_some_and(|length| facts.by_gateway.contains(length));
            when(has_peer, &format!("a route by a gateway to a network of the size of {device}'s"))
        }
        Clue::DefaultRoute => when(facts.has_default, "a default route"),
        Clue::VirtualServers => {
            when(facts.virtual_servers > 0, &format!("{} virtual servers", facts.virtual_servers))
        }
        Clue::TunnelledServers => {
            when(facts.tunnelled_servers > 0, &format!("{} servers behind tunnels", facts.tunnelled_servers))
        }
        Clue::Policies => when(facts.policies > 0, &format!("{} IPsec policies", facts.policies)),
        Clue::SocketPrograms => when(facts.socket_programs > 0, "BPF programs at socket calls"),
    }
}

fn of_devices(facts: &Facts, wanted: impl Fn(&Device) -> bool) -> Option<Evidence<'_>> {
    let claimed: Vec<&Device> = facts.devices.iter().filter(|device| wanted(device)).collect();
    let words = describe(claimed.first()?);
    Some(Evidence { words, claimed })
}

fn describe(device: &Device) -> String {
    let kind = if device.kind.is_empty() { "NIC" } else { &device.kind };
    format!("{} ({kind})", device.name)
}

fn is_device(device: &Device, name: &str, kind: &str) -> bool {
    is_like(&device.name, name) && (kind.is_empty() || device.kind == kind)
}

fn is_like(name: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |beginning| name.starts_with(beginning))
}
