//! The times of the current packet.

use super::{
    By,
    fold::{Folded, Wait},
    plan::{Plan, Slot},
    shares::Part,
    stages::{Facts, Stages},
    sums::Sums,
};

/// A packet's path and its sums. One is reused for all packets, to save allocations.
#[derive(Default)]
pub(super) struct PacketTimes {
    pub folded: Folded,
    /// By slot of the plan: the time in ns.
    pub times: Vec<u64>,
    /// The slots that only this packet visited, because it was interrupted, and the probes' cost there in
    /// 1/1024 ns.
    interrupted: Vec<(u32, u64)>,
    /// The probes' cost of all interruptions, in 1/1024 ns.
    pub interruption_cost: u64,
    /// Row and ns of the time that the spans do not cover, where no slot has that row.
    left_over: Option<(u32, u64)>,
    /// The time behind other packets, in ns.
    pub behind_others: u64,
    /// End to end, in ns.
    pub total: u64,
}

impl PacketTimes {
    /// Sums the folded path by slot of its plan; returns the time that no stage claims, in ns.
    pub fn sum(&mut self, plan: &mut Plan, sums: &mut Sums, stages: &Stages, by: By) -> u128 {
        let Folded { times, waits, .. } = &self.folded;
        self.times.clear();
        self.times.resize(plan.slots.len(), 0);
        for (&slot, &ns) in plan.slot_of.iter().zip(times) {
            self.times[slot as usize] += ns;
        }
        let unclaimed = plan.unclaimed.iter().map(|&step| u128::from(times[step as usize])).sum();
        let waited = plan.behind_others.iter().map(|&slot| self.times[slot as usize]);
        self.behind_others = waited.sum();
        self.interrupted.clear();
        self.interruption_cost = 0;
        self.left_over = None;
        for &wait in waits {
            let (slot, ns) = (wait_slot(plan, wait, sums, stages, by), wait.ns);
            if slot as usize >= self.times.len() {
                self.times.resize(slot as usize + 1, 0);
            }
            self.times[slot as usize] += ns;
            if slot as usize >= plan.always {
                let cost = plan.slots[slot as usize].cost;
                self.interruption_cost += cost;
                match self.interrupted.iter_mut().find(|(known, _)| *known == slot) {
                    Some((_, sum)) => *sum += cost,
                    None => self.interrupted.push((slot, cost)),
                }
            }
            if stages.of(wait.stage).behind_others {
                self.behind_others += ns;
            }
        }
        self.total = self.times.iter().sum();
        unclaimed
    }

    /// Adds what the spans do not cover of the time `total`, in ns, to a row.
    pub fn add_left_over(&mut self, plan: &Plan, row: u32, total: u64) {
        let ns = total - self.total;
        self.total = total;
        match plan.slots[..plan.always].iter().position(|slot| slot.row == row) {
            Some(slot) => self.times[slot] += ns,
            None => self.left_over = Some((row, ns)),
        }
    }

    /// The time in the rows that every packet of this shape visits.
    pub fn always<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = Part> + 'a {
        plan.slots[..plan.always].iter().zip(&self.times).map(|(slot, &ns)| {
            let behind_others = if slot.behind_others { ns } else { 0 };
            Part { row: slot.row, ns: ns.into(), cost: slot.cost.into(), behind_others: behind_others.into() }
        })
    }

    /// The time in the rows that only this packet visited.
    pub fn extra<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = Part> + 'a {
        let interrupted = self.interrupted.iter().map(|&(slot, cost)| {
            let (ns, Slot { row, behind_others, .. }) =
                (self.times[slot as usize], plan.slots[slot as usize]);
            let behind_others = if behind_others { ns } else { 0 };
            Part { row, ns: ns.into(), cost: cost.into(), behind_others: behind_others.into() }
        });
        let part = |(row, ns): (u32, u64)| Part { row, ns: ns.into(), ..Part::default() };
        interrupted.chain(self.left_over.map(part))
    }
}

/// The slot of an interruption.
fn wait_slot(plan: &mut Plan, wait: Wait, sums: &mut Sums, stages: &Stages, by: By) -> u32 {
    let Wait { step, stage, .. } = wait;
    if let Some(slot) = plan.known_wait((step, stage)) {
        return slot;
    }
    let at = plan.slots[plan.slot_of[step as usize] as usize].row;
    let row = sums.waiting(at, by, stages.of(stage).layer, stage);
    let cell = sums.cell(row, 0, 0);
    let Facts { cost, behind_others, .. } = *stages.of(stage);
    plan.wait_at((step, stage), Slot { row, cell, cost, behind_others })
}
