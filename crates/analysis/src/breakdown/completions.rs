//! What drivers keep of packets that their device has: from the end of the path until the packet is freed.

use std::collections::BTreeMap;

use overlay_trace_common::path::completion;
use overlay_trace_format::RecordView;

use super::{Dist, hop_keys::HopKeys};

/// The completions of a device's packets: no part of their paths.
#[derive(Clone, Debug, Default)]
pub struct Completion {
    pub netns: String,
    pub device: String,
    /// How long after the end of its path each packet was freed, in ns.
    pub ns: Dist,
}

/// Distributions by hop.
#[derive(Default)]
pub(super) struct Completions(BTreeMap<u16, Dist>);

impl Completions {
    pub fn add(&mut self, record: &RecordView<'_>) {
        if let Some(ns) = completion(record.path) {
            let hop = record.spans().last().map_or(0, |span| span.hop);
            self.0.entry(hop).or_default().add_times(ns, record.header.times());
        }
    }

    pub fn append(&mut self, later: Completions) {
        later.0.into_iter().for_each(|(hop, ns)| self.0.entry(hop).or_default().merge(&ns));
    }

    /// By the names of the devices.
    pub fn named(self, hop_keys: &HopKeys) -> Vec<Completion> {
        let mut by_name: BTreeMap<&(String, String), Dist> = BTreeMap::new();
        for (hop, ns) in self.0 {
            by_name.entry(hop_keys.name_of(hop)).or_default().merge(&ns);
        }
        let named = by_name.into_iter();
        named
            .map(|((netns, device), ns)| Completion { netns: netns.clone(), device: device.clone(), ns })
            .collect()
    }
}
