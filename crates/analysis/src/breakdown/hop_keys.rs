//! Hops by the names of their namespace and device.

use std::collections::{BTreeMap, HashMap};

use overlay_trace_common::path::Span;

use overlay_trace_format::HopName;

/// A hop's namespace and device, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HopKey {
    /// Number of the namespace; 0 for an unknown one.
    pub netns: u16,
    /// Number of (namespace, device) in [`HopKeys::names`].
    pub number: u16,
}

/// The hops of a recording. Hops of the same names share a key: a device that was deleted and created again is the same
/// to people.
pub(super) struct HopKeys {
    /// Namespace and device, by [`HopKey::number`].
    pub names: Vec<(String, String)>,
    numbers: HashMap<(String, String), u16>,
    by_hop: Vec<HopKey>,
    /// By number of namespace: the key of "in the namespace, at no device yet".
    no_device: Vec<u16>,
}

impl HopKeys {
    pub fn new(hops: &BTreeMap<u16, HopName>) -> HopKeys {
        let mut hop_keys =
            HopKeys { names: Vec::new(), numbers: HashMap::new(), by_hop: Vec::new(), no_device: Vec::new() };
        let mut netns_numbers = BTreeMap::new();
        hop_keys.netns(&mut netns_numbers, "");
        let last = hops.last_key_value().map_or(0, |(&hop, _)| usize::from(hop));
        hop_keys.by_hop = vec![HopKey::default(); last + 1];
        for (&hop, name) in hops.iter().filter(|&(&hop, _)| hop != 0) {
            let netns_name = match name.netns.as_str() {
                "" if name.netns_inode != 0 => format!("netns:{}", name.netns_inode),
                named => named.to_string(),
            };
            let netns = hop_keys.netns(&mut netns_numbers, &netns_name);
            let number = hop_keys.number(&netns_name, &name.device);
            hop_keys.by_hop[usize::from(hop)] = HopKey { netns, number };
        }
        hop_keys
    }

    fn netns(&mut self, numbers: &mut BTreeMap<String, u16>, name: &str) -> u16 {
        if let Some(&number) = numbers.get(name) {
            return number;
        }
        let hop_key = self.number(name, "");
        self.no_device.push(hop_key);
        let number = (self.no_device.len() - 1) as u16;
        numbers.insert(name.into(), number);
        number
    }

    fn number(&mut self, netns: &str, device: &str) -> u16 {
        let name = (netns.to_owned(), device.to_owned());
        let next = self.names.len() as u16;
        let number = *self.numbers.entry(name.clone()).or_insert(next);
        if number == next {
            self.names.push(name);
        }
        number
    }

    /// The namespace and the device of a hop; empty names for an unknown one.
    pub fn name_of(&self, hop: u16) -> &(String, String) {
        let hop_key = self.by_hop.get(usize::from(hop)).copied().unwrap_or_default();
        &self.names[usize::from(hop_key.number)]
    }

    /// The hop key of each span. Where the hop is not known yet the packet is in the namespace of its next known hop, or
    /// of the last one at the end of the path, at no device.
    pub fn of_path(&self, path: &[Span], out: &mut Vec<HopKey>) {
        out.clear();
        out.extend(
            path.iter().map(|span| self.by_hop.get(usize::from(span.hop)).copied().unwrap_or_default()),
        );
        let mut next = out.iter().rev().find(|hop_key| hop_key.netns != 0).map_or(0, |hop_key| hop_key.netns);
        for hop_key in out.iter_mut().rev() {
            if hop_key.netns == 0 {
                *hop_key = HopKey { netns: next, number: self.no_device[usize::from(next)] };
            }
            next = hop_key.netns;
        }
    }
}
