//! Two guests on one hypervisor with clocks that drift, step and stop, whose packets are cut, merged, lost, doubled and
//! translated: no join is wrong, nothing is uncounted, and the true clocks lie inside the intervals.

use std::collections::BTreeSet;

use overlay_trace_common::record::Flow;
use overlay_trace_format::ClockReading;
use overlay_trace_merge::{
    edge::{Device, Passage},
    join::{Counts, How, Joined, Recorded, join},
    links::Method,
    scan::{PARTS, Sample, hash, part},
    spill::Spill,
    stream::{Sink, join_spilled},
};
use proptest::prelude::*;

const GUEST1: u16 = 0;
const HOST: u16 = 1;
const GUEST2: u16 = 2;
const NIC1: Device = Device { machine: GUEST1, hop: 3, is_tap: false };
const TAP1: Device = Device { machine: HOST, hop: 1, is_tap: true };
const TAP2: Device = Device { machine: HOST, hop: 2, is_tap: true };
const NIC2: Device = Device { machine: GUEST2, hop: 5, is_tap: false };

/// A clock in terms of true time, in ns.
#[derive(Clone, Copy, Debug)]
struct TrueClock {
    offset: i64,
    drift_ppm: f64,
    /// From then on the machine, and its clock, was stopped for so long.
    stopped: Option<(i64, i64)>,
}

impl TrueClock {
    fn read(&self, ns: i64) -> u64 {
        let late = self.stopped.map_or(0, |(at, by)| (ns - at).clamp(0, by));
        (ns + self.offset + (ns as f64 * self.drift_ppm / 1e6).round() as i64 - late).max(0) as u64
    }
}

#[derive(Clone, Copy, Debug)]
struct Choices {
    seed: u64,
    packets: u32,
    /// In a thousand.
    lost: u64,
    doubled: u64,
    nat: bool,
    /// Data leaves guest1 as wholes that are cut, or arrives merged at guest2.
    cut: bool,
    merged: bool,
    udp: bool,
    drift: (f64, f64),
    stop: bool,
}

fn choices() -> impl Strategy<Value = Choices> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let rates = (0..60u64, prop_oneof![Just(0u64), 1..30u64]);
    let drift = (-80.0..80.0f64, -80.0..80.0f64);
    (any::<u64>(), 50..300u32, flags, rates, drift).prop_map(
        |(seed, packets, (nat, cut, merged, udp, stop), (lost, doubled), drift)| Choices {
            seed,
            packets,
            lost,
            doubled,
            nat,
            cut,
            merged,
            udp,
            drift,
            stop,
        },
    )
}

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }

    fn chance(&mut self, of_thousand: u64) -> bool {
        self.next(1000) < of_thousand
    }

    /// A crossing: most are short, some are not.
    fn crossing(&mut self) -> i64 {
        let long = if self.chance(20) { self.next(4_000_000) } else { 0 };
        (30_000 + self.next(90_000) + long) as i64
    }
}

struct World {
    random: Random,
    choices: Choices,
    clocks: [TrueClock; 3],
    exits: Vec<Passage>,
    entries: Vec<Passage>,
    truth: BTreeSet<(usize, usize)>,
    /// Entries that a copy of the same packet makes ambiguous.
    doubled: BTreeSet<usize>,
    ip_id: u16,
    /// When the last packet was sent.
    last_ns: i64,
}

const HEADERS: u32 = 52;

impl World {
    fn new(choices: Choices) -> World {
        let mut random = Random(choices.seed | 1);
        let offset = |random: &mut Random| 1_000_000_000_000 + random.next(1 << 40) as i64;
        let stopped = choices.stop.then_some((6_000_000_000, 2_170_000_000));
        let clocks = [
            TrueClock { offset: offset(&mut random), drift_ppm: choices.drift.0, stopped },
            TrueClock { offset: offset(&mut random), drift_ppm: 0.0, stopped: None },
            TrueClock { offset: offset(&mut random), drift_ppm: choices.drift.1, stopped: None },
        ];
        World {
            random,
            choices,
            clocks,
            exits: Vec::new(),
            entries: Vec::new(),
            truth: BTreeSet::new(),
            doubled: BTreeSet::new(),
            ip_id: 7,
            last_ns: 0,
        }
    }

    fn passage(&self, device: Device, ns: i64, like: &Passage) -> Passage {
        let ns = self.clocks[usize::from(device.machine)].read(ns);
        Passage { device, ns, began_ns: ns, ..*like }
    }

    /// A packet leaves by one edge and enters by another, or is lost; returns when it has entered.
    fn cross(&mut self, from: Device, to: Device, ns: i64, packet: &Passage) -> Option<i64> {
        let took = self.random.crossing();
        let freed = ns + took + self.random.next(1_000_000) as i64;
        let exit = self.passage(from, ns, packet);
        let freed_ns = (!from.is_tap).then(|| self.clocks[usize::from(from.machine)].read(freed));
        self.exits.push(Passage { freed_ns, record: self.exits.len() as u32, ..exit });
        if self.random.chance(self.choices.lost) {
            return None;
        }
        let number = self.exits.len() - 1;
        self.enter(to, ns + took, packet, &[number]);
        if self.random.chance(self.choices.doubled) {
            let first = self.entries.len() - 1;
            self.enter(to, ns + took + 5_000, packet, &[number]);
            self.doubled.extend([first, first + 1]);
        }
        Some(ns + took)
    }

    fn enter(&mut self, device: Device, ns: i64, packet: &Passage, exits: &[usize]) {
        let entry = self.passage(device, ns, packet);
        self.entries.push(Passage { record: self.entries.len() as u32, freed_ns: None, ..entry });
        self.truth.extend(exits.iter().map(|&exit| (exit, self.entries.len() - 1)));
    }

    fn run(&mut self) {
        let (mut ns, mut sequence, mut answer) = (1_000_000_000i64, 0xffff_f000u32, 5u32);
        for packet in 0..self.choices.packets {
            ns += 5_000_000 + self.random.next(60_000_000) as i64;
            if let Some((at, by)) = self.clocks[0].stopped
                && (at - 100_000_000..at + by).contains(&ns)
            {
                ns = at + by;
            }
            self.last_ns = ns;
            let length = 100 + self.random.next(1300) as u32;
            if self.choices.udp && packet % 3 == 0 {
                let data = self.packet(true, 17, 0, length);
                self.deliver(ns, data, true);
            } else if self.choices.cut && packet % 4 == 1 {
                self.cut(ns, sequence);
                sequence = sequence.wrapping_add(4 * 1400);
            } else if self.choices.merged && packet % 4 == 2 {
                self.merged(ns, sequence);
                sequence = sequence.wrapping_add(3 * 1400);
            } else {
                let data = self.packet(true, 6, sequence, length + HEADERS);
                self.deliver(ns, data, true);
                sequence = sequence.wrapping_add(length);
                let back = self.packet(false, 6, answer, 200 + HEADERS);
                self.deliver(ns + 3_000_000, back, false);
                answer = answer.wrapping_add(200);
            }
        }
    }

    /// A packet from guest1 to guest2, or back.
    fn packet(&mut self, is_out: bool, protocol: u8, sequence: u32, bytes: u32) -> Passage {
        self.ip_id = self.ip_id.wrapping_add(1);
        let (mut here, mut there) = ([0; 16], [0; 16]);
        (here[0], there[0]) = if is_out { (1, 2) } else { (2, 1) };
        let ports = if is_out { (4000, 80) } else { (80, 4000) };
        let flow = Flow {
            source: here,
            destination: there,
            source_port: ports.0,
            destination_port: ports.1,
            protocol,
            version: 4,
            ip_id: self.ip_id,
            sequence,
        };
        let witness = 1 + self.random.next(u64::MAX - 1);
        Passage { flow, witness, bytes, ..Passage::default() }
    }

    /// The packet after the hypervisor's translation.
    fn translated(&self, packet: &Passage, is_out: bool) -> Passage {
        let mut translated = *packet;
        if self.choices.nat {
            let flow = &mut translated.flow;
            if is_out { flow.source[0] = 99 } else { flow.source[0] = 98 }
        }
        translated
    }

    fn deliver(&mut self, ns: i64, packet: Passage, is_out: bool) {
        let edges = if is_out { [NIC1, TAP1, TAP2, NIC2] } else { [NIC2, TAP2, TAP1, NIC1] };
        let Some(ns) = self.cross(edges[0], edges[1], ns, &packet) else { return };
        // A record has the addresses of its start: those on the wire are others.
        let number = self.exits.len();
        let Some(_) = self.cross(edges[2], edges[3], ns + 200_000, &packet) else { return };
        let translated = self.translated(&packet, is_out).flow;
        for (_, entry) in self.truth.iter().filter(|(exit, _)| *exit == number) {
            self.entries[*entry].flow = translated;
        }
    }

    /// Four segments leave guest1 as one packet.
    fn cut(&mut self, ns: i64, sequence: u32) {
        let whole = self.packet(true, 6, sequence, HEADERS + 4 * 1400);
        let exit = self.passage(NIC1, ns, &whole);
        self.exits.push(Passage { record: self.exits.len() as u32, ..exit });
        let number = self.exits.len() - 1;
        for part in 0..4 {
            let mut segment = Passage { bytes: HEADERS + 1400, ..whole };
            segment.flow.sequence = sequence.wrapping_add(part * 1400);
            segment.flow.ip_id = whole.flow.ip_id.wrapping_add(part as u16);
            let took = self.random.crossing();
            self.enter(TAP1, ns + took, &segment, &[number]);
        }
        self.ip_id = self.ip_id.wrapping_add(4);
    }

    /// Three segments leave the hypervisor and are one packet for guest2.
    fn merged(&mut self, ns: i64, sequence: u32) {
        let whole = self.packet(true, 6, sequence, HEADERS + 3 * 1400);
        let mut numbers = Vec::new();
        for part in 0..3 {
            let mut segment = Passage { bytes: HEADERS + 1400, ..whole };
            segment.flow.sequence = sequence.wrapping_add(part * 1400);
            segment.flow.ip_id = whole.flow.ip_id.wrapping_add(part as u16);
            let exit = self.passage(TAP2, ns + i64::from(part) * 10_000, &segment);
            self.exits.push(Passage { record: self.exits.len() as u32, ..exit });
            numbers.push(self.exits.len() - 1);
        }
        let took = self.random.crossing();
        self.enter(NIC2, ns + 30_000 + took, &whole, &numbers);
        self.ip_id = self.ip_id.wrapping_add(3);
    }

    fn recorded(&self) -> Vec<Recorded> {
        let bounds = |clock: &TrueClock| Recorded {
            from_ns: clock.read(0),
            to_ns: clock.read(60_000_000_000),
            ..Recorded::default()
        };
        self.clocks.iter().map(bounds).collect()
    }
}

fn check(world: &World, joined: &Joined) {
    for join in &joined.joins {
        let pair = (join.exit as usize, join.entry as usize);
        let (exit, entry) = (&world.exits[pair.0], &world.entries[pair.1]);
        assert!(world.truth.contains(&pair), "{join:?} is no packet\n{exit:?}\n{entry:?}");
    }
    let counts = &joined.counts;
    let exits = counts.joined_exits
        + counts.ambiguous
        + counts.lost_between
        + counts.perhaps_lost
        + counts.out_of_recording
        + counts.across_epoch;
    assert_eq!((exits, counts.exits), (world.exits.len() as u64, world.exits.len() as u64), "{counts:?}");
    let entries = counts.joined_entries + counts.ambiguous_entries + counts.foreign;
    assert_eq!(entries, world.entries.len() as u64, "{counts:?}");
}

fn check_clocks(world: &World, joined: &Joined) {
    let reference = world.clocks[usize::from(joined.clocks.reference)];
    for (machine, clock) in world.clocks.iter().enumerate() {
        let known = joined.clocks.clocks[machine].as_ref();
        let Some(known) = known.filter(|known| !known.epochs.is_empty()) else { continue };
        // Between the last packet before a stop and the first behind it nobody knows when it was.
        let from = world.exits.iter().chain(&world.entries).map(|passage| passage.ns).min().unwrap_or(0);
        for step in 0..40i64 {
            let ns = 1_000_000_000 + step * 250_000_000;
            let own = clock.read(ns);
            let near_stop =
                clock.stopped.is_some_and(|(at, by)| (at - 300_000_000..at + by + 300_000_000).contains(&ns));
            if near_stop || own < from || clock.stopped.is_some() && ns > world.last_ns {
                continue;
            }
            let Some(mapped) = known.map(own) else { continue };
            let error = mapped - i128::from(reference.read(ns));
            let (late, early) = joined.clocks.uncertainty(machine as u16, own);
            assert!(
                -i128::from(early) - 2 <= error && error <= i128::from(late) + 2,
                "machine {machine} at {ns}: {error} is not within -{early} and {late}"
            );
        }
    }
}

/// The records of joins, by machine, and how many packets were lost.
#[derive(Default)]
struct Found {
    joins: BTreeSet<[(u16, u32); 2]>,
    lost: usize,
}

impl Sink for Found {
    fn joined(&mut self, exit: &Passage, entry: &Passage, _: How, _: u64) {
        let place = |passage: &Passage| (passage.device.machine, passage.record);
        assert!(self.joins.insert([place(exit), place(entry)]), "joined twice");
    }

    fn lost(&mut self, _: &Passage, _: i128) {
        self.lost += 1;
    }
}

/// The same as [`join`] does in memory, through files.
fn through_files(world: &World, known: &Joined) -> (Counts, Found) {
    let folder = tempfile::tempdir().unwrap();
    let mut spill = Spill::new(PARTS, folder.path()).unwrap();
    for (passages, is_exit) in [(&world.exits, true), (&world.entries, false)] {
        passages.iter().for_each(|one| spill.push(part(hash(one)), one, is_exit).unwrap());
    }
    let mut found = Found::default();
    let counts = join_spilled(known, &world.recorded(), &mut spill, folder.path(), &mut found).unwrap();
    (counts, found)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_joined_wrongly_and_nothing_is_uncounted(choices in choices()) {
        let mut world = World::new(choices);
        world.run();
        let joined = join(&world.recorded(), &world.exits, &world.entries, None);
        check(&world, &joined);
        check_clocks(&world, &joined);
        if !choices.stop {
            // What has one candidate is found.
            let possible = world.truth.iter().filter(|(_, entry)| !world.doubled.contains(entry)).count();
            let found = joined.joins.len();
            prop_assert!(found * 100 >= possible * 98, "{found} of {possible}: {:?}", joined.counts);
        }
    }

    /// A part at a time the same is found as at once.
    #[test]
    fn recordings_of_any_length_are_joined_alike(choices in choices()) {
        let mut world = World::new(choices);
        world.run();
        let joined = join(&world.recorded(), &world.exits, &world.entries, None);
        let (counts, found) = through_files(&world, &joined);
        prop_assert_eq!(counts, joined.counts);
        let place = |passage: &Passage| (passage.device.machine, passage.record);
        let joins = joined.joins.iter();
        let joins = joins.map(|join| [place(&world.exits[join.exit as usize]), place(&world.entries[join.entry as usize])]);
        prop_assert_eq!(found.joins, joins.collect::<BTreeSet<_>>());
        prop_assert_eq!(found.lost, joined.lost.len());
    }

    /// Of a packet that is kept in a sample both sides are, and its clocks hold for all.
    #[test]
    fn a_sample_is_enough_for_the_clocks(choices in choices()) {
        let mut world = World::new(Choices { packets: 300, stop: false, ..choices });
        world.run();
        let all = world.exits.len() + world.entries.len();
        let mut sample = Sample::new(all / 2);
        for (passages, is_exit) in [(&world.exits, true), (&world.entries, false)] {
            passages.iter().for_each(|one| sample.add(hash(one), one, is_exit));
        }
        let (exits, entries) = sample.passages();
        prop_assert!(exits.len() + entries.len() <= all / 2 && exits.len() > all / 20);
        let known = join(&world.recorded(), &exits, &entries, None);
        check_clocks(&world, &known);
        let (counts, found) = through_files(&world, &known);
        for join in &found.joins {
            let number = |(_, record): (u16, u32)| record as usize;
            prop_assert!(world.truth.contains(&(number(join[0]), number(join[1]))), "{join:?} is no packet");
        }
        prop_assert!(counts.joined_entries > 0);
    }

    /// The order in which machines and packets are given changes nothing.
    #[test]
    fn one_machine_missing_leaves_its_edges_open(choices in choices()) {
        let mut world = World::new(choices);
        world.run();
        let keep = |passages: &[Passage]| -> Vec<Passage> {
            passages.iter().copied().filter(|passage| passage.device.machine != GUEST2).collect()
        };
        let (exits, entries) = (keep(&world.exits), keep(&world.entries));
        let joined = join(&world.recorded(), &exits, &entries, None);
        for join in &joined.joins {
            let devices = (exits[join.exit as usize].device, entries[join.entry as usize].device);
            prop_assert!(devices == (NIC1, TAP1) || devices == (TAP1, NIC1));
        }
        prop_assert!(joined.counts.out_of_recording > 0);
    }

    /// Where packets go one way only, and no driver says when it has freed them, wall clocks that are kept bound the others.
    #[test]
    fn wall_clocks_serve_where_packets_go_one_way(choices in choices(), wrong in -1_900_000..1_900_000i64) {
        let mut world = World::new(Choices { stop: false, nat: false, ..choices });
        world.run();
        let one_way = |passages: &[Passage]| -> Vec<Passage> {
            let mut kept = passages.to_vec();
            kept.retain(|passage| [NIC1, TAP1].contains(&passage.device) && passage.flow.source[0] == 1);
            kept.iter_mut().for_each(|passage| passage.freed_ns = None);
            kept
        };
        let (exits, entries) = (one_way(&world.exits), one_way(&world.entries));
        let mut recorded = world.recorded();
        let joined = |recorded: &[Recorded]| join(recorded, &exits, &entries, Some(HOST));
        prop_assert!(joined(&recorded).joins.is_empty());
        for (clock, recorded) in world.clocks.iter().zip(&mut recorded) {
            let reading = |second: i64| ClockReading {
                monotonic_ns: clock.read(second * 1_000_000_000),
                realtime_ns: (second * 1_000_000_000 + 1_700_000_000_000_000_000) as u64,
                within_ns: 100,
                realtime_error_ns: Some(1_000_000),
                ..ClockReading::default()
            };
            recorded.clocks = (1..12).map(reading).collect();
        }
        // The guest's wall clock is wrong, by less than both say.
        for reading in &mut recorded[usize::from(GUEST1)].clocks {
            reading.realtime_ns = reading.realtime_ns.wrapping_add_signed(wrong);
        }
        let joined = joined(&recorded);
        prop_assert_eq!(joined.clocks.methods[usize::from(GUEST1)], Method::Realtime);
        prop_assert!(!joined.joins.is_empty());
        check_clocks(&world, &joined);
    }
}
