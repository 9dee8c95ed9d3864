//! What the flows of dropped packets show: whether anything else of them got through, and what became of other flows to
//! the same destination. It tells causes apart that the kernel gives one reason for.

use std::collections::{BTreeMap, BTreeSet};

use overlay_trace_common::{
    behaviour::Role,
    flags::RecordFlags,
    headers::{IPPROTO_ICMPV6, IPPROTO_TCP},
    record::{Flow, Outcome},
};
use rustc_hash::FxHashMap;

use super::{
    drop_site::{DropNumbers, DropSite, Place, place},
    sample::flow,
};
use crate::breakdown::{Drop, Key, Rows, TracedPacket};
use overlay_trace_format::{Header, Names, StageRow};

/// At most this many flows are followed; the packets of further ones are counted only.
const FLOWS_MAX: usize = 1 << 16;
/// At most this many flows and destinations are kept for each site.
const SITE_FLOWS_MAX: usize = 1 << 12;
const IGMP: u8 = 2;
/// A sign holds if this fraction of the flows or packets shows it.
const MOST: f64 = 0.5;
/// Nearly all packets go to one destination.
const NEARLY_ALL: f64 = 0.9;

/// A protocol, IP version, address and port.
type End = (u8, u8, [u8; 16], u16);

/// What is known of a flow, in one direction.
#[derive(Clone, Default)]
struct FlowFacts {
    /// When the last packet that got through started and ended, in ns; 0 if there was none.
    passed_ns: (u64, u64),
    /// The first packet that was dropped: when, in ns, and whether another one had got through before.
    first_drop: Option<(u64, bool)>,
    /// When the last packet that was dropped started and ended, in ns, and at which site.
    dropped: Option<(u64, u64, usize)>,
    /// How many packets in a row have been dropped at the site of the last one.
    run: u64,
    /// The longest packet that got through, in bytes.
    passed_bytes: u32,
}

/// What the packets dropped at one site, for one reason, have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct SiteFacts {
    pub packets: u64,
    /// Clones that their receiver dropped: nothing is lost with them.
    pub clones: u64,
    /// Multicast, broadcast, neighbour discovery.
    pub background: u64,
    /// Packets that had passed connection tracking, or may have: not every probe set sees it.
    tracked: u64,
    /// While the packet was in flight, another one of its flow was, and got through.
    raced: u64,
    tcp: u64,
    /// TCP segments without data.
    empty: u64,
    /// The most packets of one flow that were dropped here with none in between that got through.
    pub run: u64,
    /// The most packets to one address and port.
    to_one: u64,
    /// What is known of the flows of the packets, by their numbers, up to a limit.
    signs: BTreeMap<u32, FlowSigns>,
}

/// What is known of a flow of which packets were dropped.
#[derive(Clone, Copy, Debug)]
struct FlowSigns {
    /// Nothing of it got through after the first drop.
    silenced: bool,
    /// Packets of it had got through before.
    established: bool,
    /// After the first drop, packets of other flows to the same destination got through.
    others_served: bool,
    /// The same, packets of the flow itself included.
    served: bool,
    /// Its addresses are translated between the client and the server.
    translated: bool,
    /// Each packet of it that was dropped is longer than all those that got through, of which there are some.
    longest: bool,
}

impl SiteFacts {
    /// Adds what is known of another site.
    pub fn add(&mut self, other: &SiteFacts) {
        let SiteFacts { packets, clones, background, tracked, raced, tcp, empty, run, to_one, ref signs } =
            *other;
        let sums = [
            (&mut self.packets, packets),
            (&mut self.clones, clones),
            (&mut self.background, background),
            (&mut self.tracked, tracked),
            (&mut self.raced, raced),
            (&mut self.tcp, tcp),
            (&mut self.empty, empty),
            (&mut self.to_one, to_one),
        ];
        sums.into_iter().for_each(|(sum, part)| *sum += part);
        self.run = self.run.max(run);
        self.signs.extend(signs);
    }

    /// Flows of the packets, up to a limit.
    pub fn flows(&self) -> u64 {
        self.signs.len() as u64
    }

    /// Those of which nothing got through after the first drop.
    pub fn silenced(&self) -> u64 {
        self.signs.values().filter(|flow| flow.silenced).count() as u64
    }

    /// Two packets of one flow were on their way at the same time, and the other one got through.
    pub fn is_raced(&self) -> bool {
        self.raced as f64 >= MOST * self.packets as f64 && self.raced > 0
    }

    /// New flows, none of which raced, nearly all to one destination.
    pub fn is_one_destination(&self) -> bool {
        self.flows() > 1
            && !self.is_raced()
            && self.to_one as f64 >= NEARLY_ALL * self.packets as f64
            && self.are_most(|flow| !flow.established)
    }

    /// Tracked flows that got through before, while others still get through to the same destination.
    pub fn is_stale_entry(&self) -> bool {
        self.are_most(|flow| flow.established)
            && self.are_most(|flow| flow.others_served)
            && self.are_most(|flow| flow.silenced)
            && self.tracked as f64 >= MOST * self.packets as f64
    }

    /// Flows that got through before, and whose addresses are translated in between.
    pub fn is_translation_lost(&self) -> bool {
        self.are_most(|flow| flow.translated)
            && self.are_most(|flow| flow.established)
            && self.tcp as f64 >= MOST * self.packets as f64
    }

    /// First packets of flows, while others to the same destination get through, their own next attempts among them.
    pub fn is_sometimes(&self) -> bool {
        self.are_most(|flow| flow.served) && self.are_most(|flow| !flow.established)
    }

    /// Acknowledgements: the next one says what these said.
    pub fn is_empty(&self) -> bool {
        self.empty == self.packets
    }

    /// Nothing of the flows got through any more, nor anything else to the same destinations.
    pub fn is_total(&self) -> bool {
        self.are_most(|flow| !flow.served)
    }

    /// The packets are the longest ones of their flows, and the others get through.
    pub fn is_longest(&self) -> bool {
        self.are_most(|flow| flow.longest)
    }

    /// Some packets of a flow or to a destination are dropped and others are not, and nobody sends datagrams again. A
    /// policy that forbids a destination lets none through.
    pub fn is_partial(&self) -> bool {
        self.tcp < self.packets && self.are_most(|flow| flow.established || flow.served)
    }

    /// The last segments of TCP connections that stood.
    pub fn is_closing(&self) -> bool {
        self.tcp == self.packets && self.are_most(|flow| flow.established)
    }

    fn are_most(&self, is_so: impl Fn(&FlowSigns) -> bool) -> bool {
        let flows = self.signs.values().filter(|flow| is_so(flow)).count();
        flows > 0 && flows as f64 >= MOST * self.signs.len() as f64
    }
}

/// A site while packets are read.
#[derive(Default)]
struct Site {
    facts: SiteFacts,
    /// The flows of the packets that were dropped, with the shortest packet of each, in bytes.
    flows: FxHashMap<u32, u32>,
    destinations: FxHashMap<End, u64>,
}

/// Collects the packets of a recording.
pub(super) struct DropCollector {
    /// Stages that interrupt others.
    interrupts: BTreeSet<u8>,
    /// Stages of connection tracking and address translation.
    tracking: BTreeSet<u8>,
    numbers: FxHashMap<Flow, u32>,
    flows: Vec<FlowFacts>,
    index: BTreeMap<DropNumbers, usize>,
    sites: Vec<Site>,
}

/// The sites of a recording with what is known of them, by reason, location and place.
#[derive(Default)]
pub(super) struct DropEvidence(FxHashMap<(String, String, Place), Vec<(Key, SiteFacts)>>);

impl DropEvidence {
    /// What is known of the packets of a drop. Where none has its direction, which can be derived differently, those at
    /// the same place.
    pub fn of(&self, drop: &Drop) -> SiteFacts {
        let site = (drop.reason.clone(), drop.location.clone(), place(&drop.key));
        let here = self.0.get(&site).map_or(&[][..], Vec::as_slice);
        let mut facts = SiteFacts::default();
        let is_exact = here.iter().any(|(key, _)| *key == drop.key);
        let parts = here.iter().filter(|(key, _)| !is_exact || *key == drop.key);
        parts.for_each(|(_, part)| facts.add(part));
        facts
    }
}

impl DropCollector {
    pub fn new(header: &Header) -> DropCollector {
        let of = |is_so: fn(&StageRow) -> bool| {
            let stages = (0..).zip(&header.stages).filter(|(_, row)| is_so(row));
            stages.map(|(number, _)| number).collect()
        };
        DropCollector {
            interrupts: of(|row| row.behaviour.interrupts),
            tracking: of(|row| row.behaviour.role == Role::Conntrack && row.probe.is_some()),
            numbers: FxHashMap::default(),
            flows: Vec::new(),
            index: BTreeMap::new(),
            sites: Vec::new(),
        }
    }

    /// Takes a packet with the row of each span of its path.
    pub fn add(&mut self, packet: &TracedPacket<'_>, rows: &[u32]) {
        let header = packet.header;
        match Outcome::from_u8(header.outcome) {
            Some(Outcome::Dropped) => self.drop(packet, rows),
            Some(Outcome::Split) | None => {}
            Some(_) => {
                let Some(at) = self.number(&flow(header)) else { return };
                let known = &mut self.flows[at as usize];
                known.passed_ns = (packet.start_ns, header.end_ns);
                known.passed_bytes = known.passed_bytes.max(header.bytes);
                known.run = 0;
                let raced =
                    known.dropped.filter(|&(start, end, _)| start < header.end_ns && packet.start_ns < end);
                if let Some((.., site)) = raced {
                    self.sites[site].facts.raced += 1;
                    known.dropped = None;
                }
            }
        }
    }

    fn drop(&mut self, packet: &TracedPacket<'_>, rows: &[u32]) {
        let header = packet.header;
        let times = header.times();
        let numbers = DropNumbers::of(packet, rows, &self.interrupts);
        let next = self.sites.len();
        let site = *self.index.entry(numbers).or_insert(next);
        if site == next {
            self.sites.push(Site::default());
        }
        let number = self.number(&flow(header));
        let Site { facts, flows, destinations } = &mut self.sites[site];
        facts.packets += times;
        facts.clones += times * u64::from(packet.is_clone);
        facts.background += times * u64::from(is_background(&header.flow));
        let passed_tracking = packet.path.iter().any(|span| self.tracking.contains(&span.stage));
        facts.tracked += times * u64::from(passed_tracking || self.tracking.is_empty());
        let is_tcp = header.flow.protocol == IPPROTO_TCP;
        facts.tcp += times * u64::from(is_tcp);
        let is_empty =
            is_tcp && header.flags.has(RecordFlags::NO_DATA) && !header.flags.has(RecordFlags::SYN);
        facts.empty += times * u64::from(is_empty);
        let destination = destination(&header.flow);
        if destinations.len() < SITE_FLOWS_MAX || destinations.contains_key(&destination) {
            *destinations.entry(destination).or_default() += times;
        }
        let Some(at) = number else { return };
        let known = &mut self.flows[at as usize];
        let (passed_start, passed_end) = known.passed_ns;
        let is_raced = passed_start < header.end_ns && packet.start_ns < passed_end;
        facts.raced += u64::from(is_raced);
        if packet.is_clone {
            known.dropped = (!is_raced).then_some((packet.start_ns, header.end_ns, site));
            return;
        }
        if flows.len() < SITE_FLOWS_MAX || flows.contains_key(&at) {
            let shortest = flows.entry(at).or_insert(header.bytes);
            *shortest = header.bytes.min(*shortest);
        }
        let same = known.dropped.is_some_and(|(.., last)| last == site);
        known.run = if same { known.run + 1 } else { 1 };
        facts.run = facts.run.max(known.run);
        known.first_drop = known.first_drop.or(Some((header.end_ns, passed_end > 0)));
        // A drop that raced has been counted.
        known.dropped = Some((if is_raced { header.end_ns } else { packet.start_ns }, header.end_ns, site));
    }

    fn number(&mut self, flow: &Flow) -> Option<u32> {
        if let Some(&number) = self.numbers.get(flow) {
            return Some(number);
        }
        let number = self.flows.len();
        (number < FLOWS_MAX).then(|| {
            self.numbers.insert(*flow, number as u32);
            self.flows.push(FlowFacts::default());
            number as u32
        })
    }

    /// The result, after the last packet.
    pub fn finish(self, rows: &Rows, names: &Names) -> DropEvidence {
        let DropCollector { numbers, flows, index, mut sites, .. } = self;
        let mut by_number = vec![Flow::default(); flows.len()];
        let (mut to, mut from) = (FxHashMap::<End, Peers>::default(), FxHashMap::<End, Peers>::default());
        for (flow, &number) in &numbers {
            by_number[number as usize] = *flow;
            let known = &flows[number as usize];
            to.entry(destination(flow)).or_default().add(flow.source, known, number);
            from.entry(source(flow)).or_default().add(flow.destination, known, number);
        }
        for Site { facts, flows: of_site, destinations } in &mut sites {
            facts.to_one = destinations.values().copied().max().unwrap_or(0);
            for (&number, &shortest) in &*of_site {
                let flow = &by_number[number as usize];
                let known = &flows[number as usize];
                let (first_ns, is_established) = known.first_drop.unwrap_or_default();
                let peers = to.get(&destination(flow));
                let others_served = peers.is_some_and(|peers| peers.passed_after(first_ns, Some(number)));
                let served = peers.is_some_and(|peers| peers.passed_after(first_ns, None));
                // The client asks another address than the answer comes from, and still does; or it gets answers from
                // another address than it asks.
                let is_answer = flow.destination_port >= flow.source_port;
                let asked = from
                    .get(&destination(flow))
                    .is_some_and(|peers| is_answer && peers.has_other_after(&flow.source, first_ns));
                let answered = to
                    .get(&source(flow))
                    .is_some_and(|peers| !is_answer && peers.has_other_after(&flow.destination, 0));
                let answered = answered && !numbers.contains_key(&reverse(flow));
                let signs = FlowSigns {
                    silenced: known.passed_ns.1 <= first_ns,
                    established: is_established,
                    others_served,
                    served,
                    translated: asked || answered,
                    longest: (1..shortest).contains(&known.passed_bytes),
                };
                facts.signs.insert(number, signs);
            }
        }
        let mut evidence = DropEvidence::default();
        for (numbers, at) in index {
            let DropSite { reason, location, key } = numbers.site(rows, names);
            let here = evidence.0.entry((reason, location, place(&key))).or_default();
            here.push((key, std::mem::take(&mut sites[at].facts)));
        }
        evidence
    }
}

/// The flows that have one end in common.
#[derive(Default)]
struct Peers {
    /// The two flows that got through last: when, in ns, and their numbers.
    latest: [(u64, u32); 2],
    /// Up to two addresses at their other ends, and when the last packet to or from each started, in ns.
    addresses: [Option<([u8; 16], u64)>; 2],
}

impl Peers {
    fn add(&mut self, address: [u8; 16], flow: &FlowFacts, number: u32) {
        let next = (flow.passed_ns.1, number);
        if next > self.latest[0] {
            self.latest = [next, self.latest[0]];
        } else {
            self.latest[1] = self.latest[1].max(next);
        }
        let seen_ns = flow.passed_ns.0.max(flow.dropped.map_or(0, |(start_ns, ..)| start_ns));
        let is_free = |place: &Option<([u8; 16], u64)>| place.is_none_or(|(known, _)| known == address);
        if let Some(place) = self.addresses.iter_mut().find(|place| is_free(place)) {
            *place = Some((address, place.map_or(0, |(_, ns)| ns).max(seen_ns)));
        }
    }

    /// Whether packets got through later than that, of another flow than this one.
    fn passed_after(&self, ns: u64, but: Option<u32>) -> bool {
        self.latest.iter().any(|&(passed_ns, flow)| but != Some(flow) && passed_ns > ns)
    }

    /// Whether a packet with another address at the other end started later than that.
    fn has_other_after(&self, address: &[u8; 16], ns: u64) -> bool {
        self.addresses.iter().flatten().any(|(known, seen_ns)| known != address && *seen_ns > ns)
    }
}

fn destination(flow: &Flow) -> End {
    (flow.protocol, flow.version, flow.destination, flow.destination_port)
}

fn source(flow: &Flow) -> End {
    (flow.protocol, flow.version, flow.source, flow.source_port)
}

fn reverse(flow: &Flow) -> Flow {
    Flow {
        source: flow.destination,
        destination: flow.source,
        source_port: flow.destination_port,
        destination_port: flow.source_port,
        ..*flow
    }
}

/// Whether a packet is no traffic of programs: multicast, broadcast, neighbour discovery.
fn is_background(flow: &Flow) -> bool {
    let to = &flow.destination;
    match flow.version {
        4 => flow.protocol == IGMP || to[0] >= 224,
        6 => {
            to[0] == 0xff
                || flow.protocol == IPPROTO_ICMPV6 && is_link_local(&flow.source) | is_link_local(to)
        }
        _ => false,
    }
}

fn is_link_local(address: &[u8; 16]) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80
}
