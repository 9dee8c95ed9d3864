//! What was joined, by record: as little as can be kept of each.

use rustc_hash::FxHashMap;

use crate::{
    edge::{Device, Passage},
    join::How,
    machine::Machine,
};

/// No join.
const NONE: u32 = u32::MAX;
/// A crossing's time that is in the table of long ones.
const LONG: u32 = u32::MAX;

/// A record of any machine, by one number for all.
pub type Record = u32;

/// What a join makes of two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The entry's path continues the exit's.
    Continues,
    /// The exit's packet has become a part of the entry's.
    Merged,
    /// The entry's packet is a part of the exit's.
    Cut,
}

/// A join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossed {
    pub exit: Record,
    pub entry: Record,
    pub kind: Kind,
    pub devices: (Device, Device),
    pub ns: u64,
}

/// All joins.
pub struct Store {
    /// By machine: the number of its first record.
    first: Vec<Record>,
    /// By record: the join behind it and the one before it.
    after: Vec<u32>,
    before: Vec<u32>,
    /// By join.
    exits: Vec<Record>,
    entries: Vec<Record>,
    kinds: Vec<Kind>,
    ns: Vec<u32>,
    links: Vec<u16>,
    /// Crossings of more than four seconds, by join.
    long: FxHashMap<u32, u64>,
    devices: Vec<(Device, Device)>,
    /// By exit: so many parts came in.
    parts: FxHashMap<Record, u16>,
}

impl Store {
    /// Of the records of these machines, of which so many leave them.
    pub fn new(machines: &[Machine], exits: u64) -> Store {
        let mut first = Vec::new();
        let mut all = 0u32;
        for machine in machines {
            first.push(all);
            all = all.saturating_add(machine.count);
        }
        let none = || vec![NONE; all as usize];
        let most = exits.min(u64::from(all)) as usize;
        Store {
            first,
            after: none(),
            before: none(),
            exits: Vec::with_capacity(most),
            entries: Vec::with_capacity(most),
            kinds: Vec::with_capacity(most),
            ns: Vec::with_capacity(most),
            links: Vec::with_capacity(most),
            long: FxHashMap::default(),
            devices: Vec::new(),
            parts: FxHashMap::default(),
        }
    }

    /// The number of a machine's record among all.
    pub fn record(&self, machine: u16, record: u32) -> Record {
        self.first[usize::from(machine)].saturating_add(record)
    }

    /// The machine of a record, and its number there.
    pub fn place(&self, record: Record) -> (u16, u32) {
        let machine = self.first.partition_point(|first| *first <= record).saturating_sub(1);
        // Machines without records begin where the next one does.
        (machine as u16, record - self.first[machine])
    }

    /// Adds a join.
    pub fn add(&mut self, exit: &Passage, entry: &Passage, how: How, ns: u64) {
        let of = |passage: &Passage| self.record(passage.device.machine, passage.record);
        let (from, to) = (of(exit), of(entry));
        let kind = match how {
            How::Part if exit.bytes > entry.bytes => Kind::Cut,
            How::Part if exit.flow.sequence != entry.flow.sequence => Kind::Merged,
            _ => Kind::Continues,
        };
        let number = self.exits.len() as u32;
        self.after[from as usize] = number;
        match kind {
            Kind::Continues => self.before[to as usize] = number,
            Kind::Cut => {
                self.before[to as usize] = number;
                let parts = self.parts.entry(from).or_default();
                *parts = parts.saturating_add(1);
            }
            Kind::Merged => {}
        }
        let devices = (exit.device, entry.device);
        let known = self.devices.iter().position(|known| *known == devices);
        let link = known.unwrap_or_else(|| {
            self.devices.push(devices);
            self.devices.len() - 1
        });
        if ns >= u64::from(LONG) {
            self.long.insert(number, ns);
        }
        self.exits.push(from);
        self.entries.push(to);
        self.kinds.push(kind);
        self.ns.push(ns.min(u64::from(LONG)) as u32);
        self.links.push(link as u16);
    }

    fn join(&self, number: u32) -> Option<Crossed> {
        let at = number as usize;
        let ns = match *self.ns.get(at)? {
            LONG => self.long.get(&number).copied().unwrap_or(u64::from(LONG)),
            ns => u64::from(ns),
        };
        Some(Crossed {
            exit: self.exits[at],
            entry: self.entries[at],
            kind: self.kinds[at],
            devices: self.devices[usize::from(self.links[at])],
            ns,
        })
    }

    /// The join behind a record: of one that was cut any of them.
    pub fn after(&self, record: Record) -> Option<Crossed> {
        self.join(self.after[record as usize])
    }

    /// The join before a record, if its packet continues another record's or is a part of it.
    pub fn before(&self, record: Record) -> Option<Crossed> {
        self.join(self.before[record as usize])
    }

    /// Into how many parts a record's packet was cut on its way.
    pub fn parts(&self, record: Record) -> u16 {
        self.parts.get(&record).copied().unwrap_or(0)
    }

    /// The longest crossing, in ns.
    pub fn longest_ns(&self) -> u64 {
        let short = self.ns.iter().copied().max().map_or(0, u64::from);
        self.long.values().copied().fold(short, u64::max)
    }

    /// Whether there is a join.
    pub fn is_empty(&self) -> bool {
        self.exits.is_empty()
    }
}
