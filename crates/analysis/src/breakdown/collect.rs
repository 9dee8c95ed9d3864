//! Records in, numbers out.

use std::collections::{BTreeMap, VecDeque};

use overlay_trace_common::{
    behaviour::Delivery,
    flags::RecordFlags,
    path::Span,
    record::{Outcome, RecordHeader},
};

use super::{
    By, Direction, Dist, Outcomes,
    completions::Completions,
    direction::{LastRun, Origin},
    drops::Drops,
    hop_keys::HopKeys,
    lineage::{Cut, Held, Inheritance, Lineages, Parent, Ready, has_lineage, is_cut, parts_of},
    packet_times::PacketTimes,
    plan::{Plan, Plans},
    shares::Part,
    stages::Stages,
    sums::{END_TO_END, Sums, WITH_LINEAGE},
};
use overlay_trace_format::{Header, HopName, RecordView};

/// Collects records; [`finish`](Collector::finish) gives the numbers.
///
/// Memory does not grow with the number of records: it holds sums by row, and a bounded number of packets whose
/// lineage is not complete yet.
pub struct Collector {
    pub(super) by: By,
    pub(super) header: Header,
    pub(super) stages: Stages,
    pub(super) hop_keys: HopKeys,
    pub(super) plans: Plans,
    pub(super) sums: Sums,
    pub(super) lineages: Lineages,
    pub(super) outcomes: Outcomes,
    pub(super) drops: Drops,
    pub(super) completions: Completions,
    pub(super) records: u64,
    pub(super) inconsistent: u64,
    pub(super) cut_paths: u64,
    /// Time that no stage claims, in ns.
    pub(super) unclaimed: u128,
    /// The end of the last packet, in ns of CLOCK_MONOTONIC.
    pub(super) last_end_ns: u64,
    /// The latency of packets with a lineage.
    pub(super) latency_with_lineage: Dist,
    /// The current packet.
    pub(super) packet: PacketTimes,
}

impl Collector {
    /// A collector for the records of a recording with this header and these hops.
    pub fn new(header: &Header, hops: &BTreeMap<u16, HopName>, by: By) -> Collector {
        Collector {
            by,
            header: header.clone(),
            stages: Stages::new(header),
            hop_keys: HopKeys::new(hops),
            plans: Plans::default(),
            sums: Sums::default(),
            lineages: Lineages::default(),
            outcomes: Outcomes::default(),
            drops: Drops::default(),
            completions: Completions::default(),
            records: 0,
            inconsistent: 0,
            cut_paths: 0,
            unclaimed: 0,
            last_end_ns: 0,
            latency_with_lineage: Dist::default(),
            packet: PacketTimes::default(),
        }
    }

    /// Adds a record.
    pub fn add(&mut self, record: &RecordView<'_>) {
        self.records += 1;
        self.last_end_ns = self.last_end_ns.max(record.header.end_ns);
        self.cut_paths += u64::from(record.header.flags.has(RecordFlags::PATH_FULL));
        self.completions.add(record);
        if !has_lineage(&record.header) {
            return self.add_alone(record);
        }
        let held = Held::new(record);
        let mut ready = VecDeque::new();
        if !record.header.flags.has(RecordFlags::CHILD) {
            ready.push_back(Ready::Packet(held, Inheritance::default()));
        } else {
            self.lineages.add_child(held, &mut ready);
        }
        self.add_ready(ready);
    }

    /// Adds the records of a collector of the same recording whose records came after.
    pub fn append(&mut self, mut later: Collector) {
        self.settle();
        later.settle();
        let (rows, cells) = self.sums.merge(later.sums);
        self.plans.append(later.plans, |plan| plan.renumber(&rows, &cells));
        self.outcomes.add(&later.outcomes);
        self.drops.append(later.drops);
        self.completions.append(later.completions);
        self.records += later.records;
        self.last_end_ns = self.last_end_ns.max(later.last_end_ns);
        self.inconsistent += later.inconsistent;
        self.cut_paths += later.cut_paths;
        self.unclaimed += later.unclaimed;
        self.latency_with_lineage.merge(&later.latency_with_lineage);
        let mut ready = VecDeque::new();
        self.lineages.orphans += later.lineages.orphans;
        self.lineages.incomplete += later.lineages.incomplete;
        while self.lineages.take_over(&mut later.lineages, |row| rows[row as usize], &mut ready) {
            self.add_ready(std::mem::take(&mut ready));
        }
    }

    /// Counts of lineages that were given up so far: parents that never came, and packets of which parts are missing.
    pub fn given_up(&self) -> (u64, u64) {
        (self.lineages.orphans, self.lineages.incomplete)
    }

    /// Adds a packet without a lineage.
    fn add_alone(&mut self, record: &RecordView<'_>) {
        let header = &record.header;
        let at = self.take_up(record, None);
        let (plan, packet, sums) = (self.plans.get_mut(at), &self.packet, &mut self.sums);
        plan.owed.add(header);
        let times = header.times();
        for (slot, &ns) in plan.slots[..plan.always].iter().zip(&packet.times) {
            sums.at(slot.cell).raw.add_times(ns, times);
        }
        for &slot in &plan.behind_others {
            let ns = u128::from(packet.times[slot as usize]) * u128::from(times);
            sums.at(plan.slots[slot as usize].cell).behind_others += ns;
        }
        for part in packet.extra(plan) {
            sums.add(&part, header);
        }
        let cost = plan.cost + packet.interruption_cost;
        let is_plain = packet.behind_others == 0 && packet.interruption_cost == 0;
        let cell = if is_plain { plan.end_to_end } else { sums.cell(END_TO_END, cost, packet.behind_others) };
        sums.at(cell).add_end_to_end((packet.total, header.bytes), cost, packet.behind_others, times);
        self.add_outcome(record, at);
    }

    /// Adds the packets whose lineage is as complete as it will get, and those that become so thereby.
    pub(super) fn add_ready(&mut self, mut ready: VecDeque<Ready>) {
        while let Some(next) = ready.pop_front() {
            match next {
                Ready::Packet(held, inheritance) => self.add_with_lineage(&held, inheritance, &mut ready),
                Ready::Alone(Parent { start_ns, cut, .. }) => {
                    if let Some(cut) = cut {
                        self.add_time(&cut.header, start_ns, &cut.time);
                    }
                }
            }
        }
    }

    fn add_with_lineage(&mut self, held: &Held, inheritance: Inheritance, ready: &mut VecDeque<Ready>) {
        let header = held.header;
        let record = RecordView { header, path: &held.path };
        let at = self.take_up(&record, inheritance.last_run);
        let plan = self.plans.get_mut(at);
        let mut time: Vec<Part> = self.packet.always(plan).chain(self.packet.extra(plan)).collect();
        let last_run = plan.last_run;
        for inherited in inheritance.time {
            match time.iter_mut().find(|part| part.row == inherited.row) {
                Some(part) => part.add(&inherited),
                None => time.push(inherited),
            }
        }
        let start_ns = inheritance.start_ns.unwrap_or(header.start_ns);
        self.add_outcome(&record, at);
        let cut = is_cut(&header).then_some(Cut { parts: parts_of(&header), time: Vec::new(), header });
        let is_parent = cut.is_some() || header.flags.has(RecordFlags::PARENT);
        let cut = match cut {
            Some(cut) => Some(Box::new(Cut { time, ..cut })),
            None => {
                self.add_time(&header, start_ns, &time);
                None
            }
        };
        if is_parent {
            self.lineages.add_parent(header.id, Parent { start_ns, last_run, cut, full_path: None }, ready);
        }
    }

    /// Adds the time of a packet with a lineage.
    fn add_time(&mut self, header: &RecordHeader, start_ns: u64, time: &[Part]) {
        let mut whole = Part { row: WITH_LINEAGE, ..Part::default() };
        for part in time {
            self.sums.add(part, header);
            whole.add(part);
        }
        self.sums.add(&whole, header);
        self.latency_with_lineage.add_times(header.end_ns.saturating_sub(start_ns), header.times());
    }

    /// Works out the packet's time in each row of its plan, whose number is returned.
    fn take_up(&mut self, record: &RecordView<'_>, parent: Option<LastRun>) -> usize {
        let header = &record.header;
        let has = |flag: RecordFlags| header.flags.has(flag);
        let origin =
            Origin { from_device: has(RecordFlags::FROM_DEVICE), is_child: has(RecordFlags::CHILD), parent };
        self.packet.folded.fold(record.path, &self.stages.interrupts);
        let steps = &self.packet.folded.steps;
        let hash = Plans::hash(steps, origin);
        let at = self.plans.find(hash, steps, origin).unwrap_or_else(|| {
            if self.plans.is_full() {
                self.settle();
                self.plans.forget();
            }
            let plan = self.plan(origin);
            self.plans.add(hash, plan)
        });
        let plan = self.plans.get_mut(at);
        plan.packets += header.times();
        let times = u128::from(header.times());
        self.unclaimed += self.packet.sum(plan, &mut self.sums, &self.stages, self.by) * times;
        let total = header.end_ns.saturating_sub(header.start_ns);
        self.inconsistent += u64::from(self.packet.total != total);
        if self.packet.total < total {
            self.unclaimed += u128::from(total - self.packet.total) * times;
            let level = self.last_step().map_or(0, |last| last.level);
            let other = Span { stage: self.stages.other, level, ..Span::default() };
            let end = self.plans.get_mut(at).end;
            let packed = self.packed(self.by, other, end);
            let row = self.sums.row(packed);
            self.packet.add_left_over(self.plans.get_mut(at), row, total);
        }
        at
    }

    /// Adds the packets that the plans have counted to the cells.
    pub(super) fn settle(&mut self) {
        for plan in self.plans.iter_mut() {
            let owed = std::mem::take(&mut plan.owed);
            for slot in &plan.slots[..plan.always] {
                self.sums.at(slot.cell).add_owed(owed, slot.cost);
            }
        }
    }

    fn add_outcome(&mut self, record: &RecordView<'_>, at: usize) {
        let header = &record.header;
        let times = header.times();
        let &mut Plan { end, last_run, .. } = self.plans.get_mut(at);
        match Outcome::from_u8(header.outcome) {
            Some(Outcome::Delivered) => self.outcomes.delivered += times,
            Some(Outcome::Merged) => self.outcomes.merged += times,
            Some(Outcome::Split) => self.outcomes.split += times,
            Some(Outcome::Dropped) => {
                self.outcomes.dropped += times;
                if let Some(last) = self.last_step() {
                    let key = self.packed(By::Stage, last, end);
                    self.drops.add(header, key);
                }
            }
            Some(Outcome::Freed) | None => {
                let delivers = self.last_step().map(|last| self.stages.of(last.stage).delivers);
                let stays = last_run.is_some_and(|run| run.direction == Direction::Ingress);
                let delivers = delivers.unwrap_or_default();
                if delivers.is_certain() || delivers == Delivery::Local && stays {
                    self.outcomes.delivered += times;
                } else {
                    self.outcomes.forwarded += times;
                }
            }
        }
    }

    /// The last step of the current packet that is not an interruption.
    fn last_step(&self) -> Option<Span> {
        let mut steps = self.packet.folded.steps.iter().rev().map(|step| step.span());
        steps.find(|step| !self.stages.of(step.stage).interrupts)
    }
}
