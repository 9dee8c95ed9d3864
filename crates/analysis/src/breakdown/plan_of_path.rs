//! Makes the plan of a path: directions, rows and costs of its steps.

use overlay_trace_common::path::Span;

use super::{
    By, Collector, Direction,
    direction::{Origin, directions},
    fold::Step,
    key::Packed,
    plan::{Plan, Slot},
    sums::END_TO_END,
};

impl Collector {
    /// The plan of the current packet's folded path.
    pub(super) fn plan(&mut self, origin: Origin) -> Plan {
        let steps = std::mem::take(&mut self.packet.folded.steps);
        let path: Vec<Span> = steps.iter().map(|step| step.span()).collect();
        let plan = self.plan_of(&steps, &path, origin);
        self.packet.folded.steps = steps;
        plan
    }

    fn plan_of(&mut self, steps: &[Step], path: &[Span], origin: Origin) -> Plan {
        let (mut hop_keys, mut runs) = (Vec::new(), Vec::new());
        self.hop_keys.of_path(path, &mut hop_keys);
        let last_run = directions(path, &hop_keys, &self.stages, origin, &mut runs);
        let end = (
            hop_keys.last().map_or(0, |hop_key| hop_key.number),
            runs.last().copied().unwrap_or(Direction::Ingress),
        );
        let mut plan = Plan::new(steps, origin, last_run, end);
        let costs = self.stages.probe_costs(path, origin);
        let mut slot_of = Vec::with_capacity(path.len());
        for (at, (hop_key, direction)) in hop_keys.iter().zip(runs).enumerate() {
            let packed = self.packed(self.by, path[at], (hop_key.number, direction));
            let row = self.sums.row(packed);
            let cost = costs[at];
            let stage = path[at].stage;
            let facts = self.stages.of(stage);
            let known = plan.slots.iter().position(|slot| slot.row == row);
            let slot = known.unwrap_or(plan.slots.len());
            match known {
                Some(slot) => plan.slots[slot].cost += cost,
                None => plan.slots.push(Slot { row, cell: 0, cost, behind_others: facts.behind_others }),
            }
            slot_of.push(slot as u32);
            plan.cost += cost;
            if facts.behind_others && known.is_none() {
                plan.behind_others.push(slot as u32);
            }
            if self.stages.is_other(stage) {
                plan.unclaimed.push(at as u32);
            }
        }
        for slot in &mut plan.slots {
            slot.cell = self.sums.cell(slot.row, slot.cost, 0);
        }
        plan.end_to_end = self.sums.cell(END_TO_END, plan.cost, 0);
        plan.always = plan.slots.len();
        plan.slot_of = slot_of.into();
        plan
    }

    /// The row of a span at a hop, in a direction.
    pub(super) fn packed(&self, by: By, span: Span, (hop_key, direction): (u16, Direction)) -> Packed {
        let facts = self.stages.of(span.stage);
        Packed::new(by, facts.layer, span.stage, facts.wait, span.level, direction, hop_key)
    }
}
