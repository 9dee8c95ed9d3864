//! Where packets are: hops by their names.

use std::collections::BTreeMap;

use overlay_trace_common::path::Span;

use overlay_trace_format::HopName;

/// A hop in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the namespace; 0 for an unknown one.
    pub netns: u16,
    /// Number of (namespace, device) in [`Places::names`].
    pub number: u16,
}

/// The hops of a recording. Hops of the same names are one place: a device that was made anew is the
/// same to people.
pub(super) struct Places {
    /// Namespace and device by number of place.
    pub names: Vec<(String, String)>,
    by_hop: Vec<Place>,
    /// By number of namespace: the place "in the namespace, at no device yet".
    no_device: Vec<u16>,
}

impl Places {
    pub fn new(hops: &BTreeMap<u16, HopName>) -> Places {
        let mut places = Places { names: Vec::new(), by_hop: Vec::new(), no_device: Vec::new() };
        let mut netns_numbers = BTreeMap::new();
        places.netns(&mut netns_numbers, "");
        let last = hops.last_key_value().map_or(0, |(&hop, _)| usize::from(hop));
        places.by_hop = vec![Place::default(); last + 1];
        for (&hop, name) in hops.iter().filter(|&(&hop, _)| hop != 0) {
            let netns_name = match name.netns.as_str() {
                "" if name.netns_inode != 0 => format!("netns:{}", name.netns_inode),
                named => named.to_string(),
            };
            let netns = places.netns(&mut netns_numbers, &netns_name);
            let number = places.number(&netns_name, &name.device);
            places.by_hop[usize::from(hop)] = Place { netns, number };
        }
        places
    }

    fn netns(&mut self, numbers: &mut BTreeMap<String, u16>, name: &str) -> u16 {
        if let Some(&number) = numbers.get(name) {
            return number;
        }
        let place = self.number(name, "");
        self.no_device.push(place);
        let number = (self.no_device.len() - 1) as u16;
        numbers.insert(name.into(), number);
        number
    }

    fn number(&mut self, netns: &str, device: &str) -> u16 {
        let known = self.names.iter().position(|(n, d)| n == netns && d == device);
        known.unwrap_or_else(|| {
            self.names.push((netns.into(), device.into()));
            self.names.len() - 1
        }) as u16
    }

    /// The place of each segment. Where the hop is not known yet the packet is in the namespace of its
    /// next known hop, or of the last one at the end of the way, at no device.
    pub fn of_way(&self, way: &[Span], out: &mut Vec<Place>) {
        out.clear();
        out.extend(
            way.iter().map(|segment| self.by_hop.get(usize::from(segment.hop)).copied().unwrap_or_default()),
        );
        let mut next = out.iter().rev().find(|place| place.netns != 0).map_or(0, |place| place.netns);
        for place in out.iter_mut().rev() {
            if place.netns == 0 {
                *place = Place { netns: next, number: self.no_device[usize::from(next)] };
            }
            next = place.netns;
        }
    }
}
