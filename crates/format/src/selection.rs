//! A part of a recording's packets: those that pass through some of its hops.

use std::collections::{HashMap, HashSet};

use overlay_trace_common::flags::RecordFlags;

use super::{HopName, ReadError, RecordView, Recording, extract::Part};

/// Which records are read.
pub(crate) struct Selection {
    /// By number of the hop.
    hops: Vec<bool>,
    /// Of packets that were made of another one: that one's id.
    parents: HashMap<u64, u64>,
    /// The first packets of lineages of which a packet passes through one of the hops.
    lineages: HashSet<u64>,
}

impl Selection {
    fn passes(&self, record: &RecordView<'_>) -> bool {
        record.spans().any(|span| self.hops.get(usize::from(span.hop)).copied().unwrap_or(false))
    }

    /// The packet that this one was made of in the end.
    fn first_of(&self, mut id: u64) -> u64 {
        // A damaged file may have a circle in it.
        for _ in 0..64 {
            match self.parents.get(&id) {
                Some(parent) => id = *parent,
                None => break,
            }
        }
        id
    }

    /// Whether the packet, or one of its lineage, passes through one of the hops.
    pub fn has(&self, record: &RecordView<'_>) -> bool {
        self.lineages.contains(&self.first_of(record.header.id)) || self.passes(record)
    }
}

impl Recording {
    /// From now on only packets are read that pass through a hop of which `is_wanted` holds, and their lineages (what they
    /// were cut or cloned from, or into). The counters become those of this part; of losses it is not known which were of
    /// it: all of them stay. `filter` says in words which part it is. Returns whether there are such hops.
    ///
    /// Some bytes are kept for each packet of a lineage; reading takes about twice as long.
    ///
    /// # Errors
    ///
    /// The file cannot be read any more, or is damaged.
    pub fn select(&mut self, filter: &str, is_wanted: impl Fn(&HopName) -> bool) -> Result<bool, ReadError> {
        let mut hops = vec![false; self.hops.keys().next_back().map_or(0, |last| usize::from(*last) + 1)];
        for (number, name) in &self.hops {
            hops[usize::from(*number)] = is_wanted(name);
        }
        let is_any = hops.contains(&true);
        let mut selection = Selection { hops, parents: HashMap::new(), lineages: HashSet::new() };
        let mut passing = Vec::new();
        self.for_each_record(|record| {
            let header = &record.header;
            if header.parent != 0 {
                selection.parents.insert(header.id, header.parent);
            }
            if (header.parent != 0 || header.flags.has(RecordFlags::PARENT | RecordFlags::CHILD))
                && selection.passes(&record)
            {
                passing.push(header.id);
            }
        })?;
        selection.lineages = passing.iter().map(|id| selection.first_of(*id)).collect();
        let mut part = Part::default();
        self.for_each_record(|record| {
            part.read(&record);
            if selection.has(&record) {
                part.add(&record);
            }
        })?;
        self.last.counters = part.counters(self);
        let both = [self.header.filter.as_str(), filter];
        self.header.filter =
            both.iter().filter(|text| !text.is_empty()).copied().collect::<Vec<_>>().join(", ");
        self.selection = Some(selection);
        Ok(is_any)
    }
}
