//! Which edges are joined to each other, and the clocks of their machines: both follow from packets that only one exit
//! and only one entry can be of.

use std::collections::{BTreeMap, BTreeSet};

use overlay_trace_common::record::Flow;
use rustc_hash::FxHashMap;

use crate::{
    clock::{Clock, clock_of},
    edge::{Device, Passage},
    join::Recorded,
    polygon::Constraint,
    wall,
};

/// A device is a guest's, and its other side a tap, if at least so many of a hundred of the packets that it shares with
/// taps are shared with that one.
const BOND_PERCENT: u64 = 95;

/// Everything that a packet is told by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    flow: Flow,
    witness: u64,
    bytes: u32,
}

impl Identity {
    pub fn of(passage: &Passage) -> Identity {
        Identity { flow: passage.flow, witness: passage.witness, bytes: passage.bytes }
    }
}

/// The numbers of an exit and of an entry that are the same packet.
pub(crate) type Pair = (u32, u32);

/// Pairs of which both are the only packets of their identity on their machines, in all of the recordings.
pub(crate) fn unique_pairs(machines: usize, exits: &[Passage], entries: &[Passage]) -> Vec<Pair> {
    let unique = |passages: &[Passage]| {
        let mut by_machine = vec![FxHashMap::<Identity, Option<u32>>::default(); machines];
        for (number, passage) in passages.iter().enumerate() {
            let known = by_machine[usize::from(passage.device.machine)].entry(Identity::of(passage));
            known.and_modify(|number| *number = None).or_insert(Some(number as u32));
        }
        by_machine
    };
    let (exits, entries) = (unique(exits), unique(entries));
    let mut pairs = Vec::new();
    for (from, exits) in exits.iter().enumerate() {
        for (to, entries) in entries.iter().enumerate() {
            if from != to {
                let both = exits.iter().filter_map(|(id, exit)| Some(((*exit)?, (*entries.get(id)?)?)));
                pairs.extend(both);
            }
        }
    }
    pairs.sort_unstable();
    pairs
}

/// The edges that packets cross between, in the order of their numbers, and how many packets said so.
#[derive(Clone, Debug, Default)]
pub struct Links {
    votes: BTreeMap<(Device, Device), u64>,
}

impl Links {
    /// The links that these pairs show. A guest's NIC and its tap have only each other; otherwise wires join NICs, and
    /// programs join taps.
    pub(crate) fn new(exits: &[Passage], entries: &[Passage], pairs: &[Pair]) -> Links {
        let mut votes = BTreeMap::new();
        for &(exit, entry) in pairs {
            let link = ordered(exits[exit as usize].device, entries[entry as usize].device);
            *votes.entry(link).or_insert(0) += 1;
        }
        let taps = taps_of(&votes);
        let bonded: BTreeSet<Device> = taps.iter().flat_map(|(&nic, &tap)| [nic, tap]).collect();
        votes.retain(|(one, other), _| match (one.is_tap, other.is_tap) {
            (true, false) => taps.get(other) == Some(one),
            (false, true) => taps.get(one) == Some(other),
            _ => !bonded.contains(one) && !bonded.contains(other),
        });
        Links { votes }
    }

    /// Whether packets cross between these edges.
    pub fn has(&self, one: Device, other: Device) -> bool {
        self.votes.contains_key(&ordered(one, other))
    }

    /// The edges on the other side of this one.
    pub fn partners(&self, device: Device) -> impl Iterator<Item = Device> {
        self.votes.keys().filter_map(move |&(one, other)| match () {
            () if one == device => Some(other),
            () if other == device => Some(one),
            () => None,
        })
    }

    /// The links, and the packets that showed them.
    pub fn iter(&self) -> impl Iterator<Item = (Device, Device, u64)> {
        self.votes.iter().map(|(&(one, other), &votes)| (one, other, votes))
    }

    /// The machine with most neighbours; of several the one with most packets.
    pub fn center(&self, machines: usize) -> u16 {
        let rank = |machine: u16| {
            let is_at = |link: &(Device, Device, u64)| link.0.machine == machine || link.1.machine == machine;
            let of_it: Vec<_> = self.iter().filter(is_at).collect();
            let neighbours: BTreeSet<u16> =
                of_it.iter().flat_map(|(one, other, _)| [one.machine, other.machine]).collect();
            (neighbours.len(), of_it.iter().map(|(.., votes)| votes).sum::<u64>())
        };
        (0..machines as u16).rev().max_by_key(|&machine| rank(machine)).unwrap_or(0)
    }
}

fn ordered(one: Device, other: Device) -> (Device, Device) {
    if one <= other { (one, other) } else { (other, one) }
}

/// The tap behind each NIC that has one.
fn taps_of(votes: &BTreeMap<(Device, Device), u64>) -> BTreeMap<Device, Device> {
    let mut by_nic: BTreeMap<Device, Vec<(u64, Device)>> = BTreeMap::new();
    for (&(one, other), &votes) in votes {
        if one.is_tap != other.is_tap {
            let (nic, tap) = if one.is_tap { (other, one) } else { (one, other) };
            by_nic.entry(nic).or_default().push((votes, tap));
        }
    }
    let bond = |(nic, taps): (Device, Vec<(u64, Device)>)| {
        let all: u64 = taps.iter().map(|(votes, _)| votes).sum();
        let (most, tap) = taps.into_iter().max()?;
        (most * 100 >= all * BOND_PERCENT).then_some((nic, tap))
    };
    by_nic.into_iter().filter_map(bond).collect()
}

/// What a clock was compared by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    #[default]
    Unknown,
    Reference,
    Packets,
    /// Packets bound it from one side at most; both wall clocks state their errors.
    Realtime,
}

/// The clocks of machines in terms of one of them.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    pub reference: u16,
    /// By machine.
    pub methods: Vec<Method>,
    /// By machine; `None` where nothing bounds it.
    pub clocks: Vec<Option<Clock>>,
    /// By machine: the one whose clock its own was compared with.
    pub base: Vec<u16>,
}

impl Clocks {
    /// Compares each machine's clock with that of a neighbour that is nearer to the reference: first where most packets
    /// cross.
    pub(crate) fn new(
        recorded: &[Recorded],
        reference: u16,
        links: &Links,
        (exits, entries): (&[Passage], &[Passage]),
        pairs: &[Pair],
    ) -> Clocks {
        let machines = recorded.len();
        let mut clocks = Clocks {
            reference,
            methods: vec![Method::Unknown; machines],
            clocks: vec![None; machines],
            base: vec![reference; machines],
        };
        clocks.clocks[usize::from(reference)] = Some(Clock::default());
        clocks.methods[usize::from(reference)] = Method::Reference;
        let linked: Vec<(&Passage, &Passage)> = pairs
            .iter()
            .map(|&(exit, entry)| (&exits[exit as usize], &entries[entry as usize]))
            .filter(|(exit, entry)| links.has(exit.device, entry.device))
            .collect();
        let mut tried = BTreeSet::new();
        loop {
            let mut votes: BTreeMap<(u16, u16), u64> = BTreeMap::new();
            for (one, other, packets) in links.iter() {
                for (known, new) in [(one.machine, other.machine), (other.machine, one.machine)] {
                    let is_open = clocks.clocks[usize::from(known)].is_some()
                        && clocks.clocks[usize::from(new)].is_none();
                    if is_open && !tried.contains(&(known, new)) {
                        *votes.entry((known, new)).or_default() += packets;
                    }
                }
            }
            let Some((&(known, new), _)) = votes.iter().max_by_key(|(_, packets)| **packets) else { break };
            tried.insert((known, new));
            let constraints: Vec<Constraint> =
                linked.iter().flat_map(|(exit, entry)| clocks.constraints(known, new, exit, entry)).collect();
            let by_packets = clock_of(constraints.clone()).map(|clock| (Method::Packets, clock));
            let found = by_packets.or_else(|| {
                let clock = clocks.by_realtime(known, &recorded[usize::from(new)], recorded, constraints)?;
                Some((Method::Realtime, clock))
            });
            clocks.base[usize::from(new)] = known;
            if let Some((method, clock)) = found {
                clocks.methods[usize::from(new)] = method;
                clocks.clocks[usize::from(new)] = Some(clock);
            }
        }
        clocks
    }

    /// The clock by what wall clocks and packets say together; `None` where they contradict each other.
    fn by_realtime(
        &self,
        known: u16,
        new: &Recorded,
        recorded: &[Recorded],
        mut constraints: Vec<Constraint>,
    ) -> Option<Clock> {
        let packets = constraints.len() as u64;
        let points = wall::points(&new.clocks, &recorded[usize::from(known)].clocks);
        let of_walls = points.iter().filter_map(|point| point.constraints(|ns| self.map(known, ns)));
        constraints.extend(of_walls.flatten());
        let clock = clock_of(constraints)?;
        let agrees = clock.epochs.len() == 1 && clock.contradictions == 0;
        agrees.then_some(Clock { constraints: packets, ..clock })
    }

    /// What a packet says of the clock of `new` in terms of that of `known`.
    fn constraints(&self, known: u16, new: u16, exit: &Passage, entry: &Passage) -> Vec<Constraint> {
        let map = |ns: u64| self.map(known, ns);
        let (from, to) = (exit.device, entry.device);
        // A virtual NIC's packet is its sender's until the other side has it; a physical one's leaves earlier.
        let freed = exit.freed_ns.filter(|_| from.is_tap || to.is_tap);
        match (from.machine, to.machine) {
            pair if pair == (new, known) => {
                let Some(reference_ns) = map(entry.ns) else { return Vec::new() };
                let upper = Constraint { own_ns: i128::from(exit.ns), reference_ns, is_upper: true };
                let lower =
                    freed.map(|ns| Constraint { own_ns: i128::from(ns), reference_ns, is_upper: false });
                [Some(upper), lower].into_iter().flatten().collect()
            }
            pair if pair == (known, new) => {
                let own_ns = i128::from(entry.ns);
                let lower =
                    map(exit.ns).map(|reference_ns| Constraint { own_ns, reference_ns, is_upper: false });
                let upper = freed.and_then(map).map(|reference_ns| Constraint {
                    own_ns,
                    reference_ns,
                    is_upper: true,
                });
                [lower, upper].into_iter().flatten().collect()
            }
            _ => Vec::new(),
        }
    }

    /// A moment of a machine's clock on the reference, in ns; `None` where its clock is not known.
    pub fn map(&self, machine: u16, ns: u64) -> Option<i128> {
        self.clocks[usize::from(machine)].as_ref()?.map(ns)
    }

    /// By how much a mapped moment may be too late, and too early, in ns: of all comparisons up to the reference.
    pub fn uncertainty(&self, machine: u16, ns: u64) -> (u64, u64) {
        let (mut machine, mut ns, mut sum) = (machine, ns, (0u64, 0u64));
        while machine != self.reference {
            let Some(clock) = &self.clocks[usize::from(machine)] else { break };
            let (late, early) = clock.uncertainty(ns);
            sum = (sum.0.saturating_add(late), sum.1.saturating_add(early));
            // The bases' clocks differ little from the reference, compared with how slowly intervals change.
            ns = clock.map(ns).unwrap_or(0).max(0) as u64;
            machine = self.base[usize::from(machine)];
        }
        sum
    }
}
