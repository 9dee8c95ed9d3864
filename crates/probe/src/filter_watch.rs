//! What became of the namespaces and the device that a filter names.

use overlay_trace_common::record::Hop;
use overlay_trace_format::{printable, printable_bytes};

use crate::{
    filter::FilterOptions,
    sys::netns::{self, Identity},
};

/// The namespaces of a filter as they were when the recording began.
pub struct FilterWatch {
    netns: Vec<(String, Identity)>,
    device: Option<String>,
}

impl FilterWatch {
    /// For a filter whose namespaces exist.
    pub fn new(filter: &FilterOptions) -> FilterWatch {
        let named = |given: &String| Some((given.clone(), netns::identity(given).ok()?));
        FilterWatch { netns: filter.namespaces().filter_map(named).collect(), device: filter.device.clone() }
    }

    /// Sentences about what the filter names and what is gone, or never had a packet: a recording that misses packets
    /// for that reason must not look as if there were none. `hops` are all that packets have passed.
    pub fn notes(&self, hops: &[Hop]) -> Vec<String> {
        let is_there = |given: &str, then: &Identity| netns::identity(given).is_ok_and(|now| now == *then);
        self.notes_with(hops, is_there)
    }

    fn notes_with(&self, hops: &[Hop], is_there: impl Fn(&str, &Identity) -> bool) -> Vec<String> {
        let netns = self.netns.iter().flat_map(|(given, identity)| {
            netns_notes(&printable(given), identity, hops, is_there(given, identity))
        });
        let device = self.device.iter().filter_map(|device| {
            let is_it = |hop: &Hop| hop.device.iter().take_while(|byte| **byte != 0).eq(device.as_bytes());
            let shown = printable_bytes(device.as_bytes());
            (!hops.iter().any(is_it)).then(|| format!("no packet passed a device {shown}"))
        });
        netns.chain(device).collect()
    }
}

fn netns_notes(name: &str, identity: &Identity, hops: &[Hop], is_there: bool) -> Vec<String> {
    let Identity { inode, cookie } = *identity;
    let mut mixes: Vec<u32> = hops.iter().filter(|hop| hop.netns == inode).map(|hop| hop.netns_mix).collect();
    mixes.retain(|mix| cookie.is_none_or(|cookie| cookie == *mix));
    mixes.sort_unstable();
    mixes.dedup();
    let mut notes = Vec::new();
    if mixes.is_empty() {
        notes.push(format!("no packet passed the network namespace {name}"));
    }
    if !is_there {
        notes.push(format!("the network namespace {name} was deleted during the recording: it ends there"));
    }
    if mixes.len() > 1 {
        notes.push(format!(
            "another network namespace got the inode number of {name} during the recording: only packets of the first \
             that had any are recorded"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(netns: u32, netns_mix: u32, device: &str) -> Hop {
        let mut hop = Hop { netns, netns_mix, ..Hop::default() };
        hop.device[..device.len()].copy_from_slice(device.as_bytes());
        hop
    }

    fn watch(cookie: Option<u32>, device: Option<&str>) -> FilterWatch {
        FilterWatch {
            netns: vec![("a".into(), Identity { inode: 7, cookie })],
            device: device.map(str::to_owned),
        }
    }

    #[test]
    fn what_had_packets_and_lives_is_not_mentioned() {
        let hops = [hop(7, 5, "eth0"), hop(8, 1, "eth1")];
        assert!(watch(Some(5), Some("eth1")).notes_with(&hops, |_, _| true).is_empty());
        assert!(watch(None, None).notes_with(&hops, |_, _| true).is_empty());
    }

    #[test]
    fn packets_of_a_namespace_that_got_the_number_later_do_not_count() {
        // The wanted one was deleted without a packet, and another one got its inode number.
        let notes = watch(Some(5), None).notes_with(&[hop(7, 6, "eth0")], |_, _| false);
        assert_eq!(notes.len(), 2);
        assert_eq!(notes[0], "no packet passed the network namespace a");
        assert!(notes[1].contains("a was deleted during the recording"), "{notes:?}");
        let hops = [hop(7, 5, "eth0"), hop(7, 6, "eth0")];
        let notes = watch(None, None).notes_with(&hops, |_, _| true);
        assert!(notes.len() == 1 && notes[0].contains("another network namespace got the inode number"));
    }

    #[test]
    fn a_device_without_packets_is_named() {
        let notes = watch(Some(5), Some("eth")).notes_with(&[hop(7, 5, "eth0")], |_, _| true);
        assert_eq!(notes, ["no packet passed a device eth"]);
    }

    #[test]
    fn a_namespace_whose_name_leads_nowhere_any_more_is_gone() {
        let watch = watch(Some(5), None);
        assert!(watch.notes(&[]).iter().any(|note| note.contains("was deleted")));
    }
}
