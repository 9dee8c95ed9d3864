//! What follows from the steps of a way: directions, rows, costs.

use overlay_trace_common::path::Span;

use super::{
    By, Collector, Direction,
    direction::directions,
    fold::Step,
    key::Packed,
    plan::{Origin, Plan, Slot},
    sums::WHOLE,
};

impl Collector {
    /// The plan of the folded way at hand.
    pub(super) fn plan(&mut self, origin: Origin) -> Plan {
        let steps = std::mem::take(&mut self.way.folded.steps);
        let way: Vec<Span> = steps.iter().map(|step| step.segment()).collect();
        let plan = self.plan_of(&steps, &way, origin);
        self.way.folded.steps = steps;
        plan
    }

    fn plan_of(&mut self, steps: &[Step], way: &[Span], origin: Origin) -> Plan {
        let (mut places, mut runs) = (Vec::new(), Vec::new());
        self.places.of_way(way, &mut places);
        let last_run = directions(way, &places, &self.stages, origin, &mut runs);
        let end = (
            places.last().map_or(0, |place| place.number),
            runs.last().copied().unwrap_or(Direction::Ingress),
        );
        let mut plan = Plan::new(steps, origin, last_run, end);
        let costs = self.stages.probe_costs(way, origin);
        let mut slot_of = Vec::with_capacity(way.len());
        for (at, (place, direction)) in places.iter().zip(runs).enumerate() {
            let packed = self.packed(self.by, way[at], (place.number, direction));
            let row = self.sums.row(packed);
            let cost = costs[at];
            let stage = way[at].stage;
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
        plan.whole = self.sums.cell(WHOLE, plan.cost, 0);
        plan.always = plan.slots.len();
        plan.slot_of = slot_of.into();
        plan
    }

    /// The row of a segment at a place, in a direction.
    pub(super) fn packed(&self, by: By, segment: Span, (place, direction): (u16, Direction)) -> Packed {
        let facts = self.stages.of(segment.stage);
        Packed::new(by, facts.layer, segment.stage, facts.wait, segment.level, direction, place)
    }
}
