//! The lines that packets leave possible between two clocks.
//!
//! Each packet says on which side of a point the line `reference = offset + (1 + drift) * own` passes. What all of them
//! leave over is a convex polygon of (offset, drift); the offset's interval at any time is the least and the greatest
//! over its corners.

/// The greatest difference of two clocks' rates that is believed.
pub const DRIFT_MAX: f64 = 500e-6;
/// Corners lie this far outside, in ns, until packets bound them.
const OFFSET_MAX: f64 = 1e18;

/// One packet's word on the line of a clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constraint {
    /// A time on the own clock, in ns.
    pub own_ns: i128,
    /// A time on the reference, in ns.
    pub reference_ns: i128,
    /// Whether the own time, mapped, is at most the reference's; otherwise it is at least that.
    pub is_upper: bool,
}

/// A convex set of lines. Offsets are counted from `origin_offset` at the own time `origin_ns`.
#[derive(Clone, Debug, PartialEq)]
pub struct Polygon {
    pub origin_ns: i128,
    pub origin_offset: i128,
    /// (offset, drift) of its corners, in order; empty: no line is possible.
    pub corners: Vec<(f64, f64)>,
}

impl Polygon {
    /// All lines, around a point of the two clocks.
    pub fn all(own_ns: i128, reference_ns: i128) -> Polygon {
        let (a, d) = (OFFSET_MAX, DRIFT_MAX);
        Polygon {
            origin_ns: own_ns,
            origin_offset: reference_ns - own_ns,
            corners: vec![(-a, -d), (a, -d), (a, d), (-a, d)],
        }
    }

    /// Leaves the lines that the constraint allows, with 1 ns to spare, so that rounding breaks none.
    pub fn clip(&mut self, constraint: Constraint) {
        let since = (constraint.own_ns - self.origin_ns) as f64;
        let offset = (constraint.reference_ns - constraint.own_ns - self.origin_offset) as f64;
        let sign = if constraint.is_upper { 1.0 } else { -1.0 };
        // What is not greater than 0 stays.
        let beyond = |(a, d): (f64, f64)| sign * (a + d * since - offset) + 1.0;
        if self.corners.iter().all(|&corner| beyond(corner) <= 0.0) {
            return;
        }
        let mut kept = Vec::with_capacity(self.corners.len() + 1);
        for (at, &corner) in self.corners.iter().enumerate() {
            let next = self.corners[(at + 1) % self.corners.len()];
            let (here, there) = (beyond(corner), beyond(next));
            if here <= 0.0 {
                kept.push(corner);
            }
            if (here <= 0.0) != (there <= 0.0) {
                let part = here / (here - there);
                kept.push((corner.0 + part * (next.0 - corner.0), corner.1 + part * (next.1 - corner.1)));
            }
        }
        self.corners = kept;
    }

    /// Whether a line is possible.
    pub fn is_feasible(&self) -> bool {
        !self.corners.is_empty()
    }

    /// The least and the greatest offset at a time of the own clock, in ns beyond `origin_offset`.
    pub fn offsets_at(&self, own_ns: i128) -> (f64, f64) {
        let since = (own_ns - self.origin_ns) as f64;
        let offsets = self.corners.iter().map(|(a, d)| a + d * since);
        offsets.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), one| (low.min(one), high.max(one)))
    }

    /// A line in the middle: inside, since the set is convex.
    pub fn middle(&self) -> (f64, f64) {
        let count = self.corners.len().max(1) as f64;
        let sum = self.corners.iter().fold((0.0, 0.0), |(a, d), corner| (a + corner.0, d + corner.1));
        (sum.0 / count, sum.1 / count)
    }

    /// How far the line in the middle passes by a constraint's point, in ns.
    pub fn distance(&self, constraint: Constraint) -> f64 {
        let since = (constraint.own_ns - self.origin_ns) as f64;
        let offset = (constraint.reference_ns - constraint.own_ns - self.origin_offset) as f64;
        let (a, d) = self.middle();
        (a + d * since - offset).abs()
    }

    /// Whether packets bound the offset from both sides.
    pub fn is_bounded(&self) -> bool {
        let (low, high) = self.offsets_at(self.origin_ns);
        high - low < OFFSET_MAX / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_both_directions_bound_the_line() {
        // The reference is 1 000 000 ns ahead and runs 20 ppm faster.
        let truth = |own: i128| own + 1_000_000 + own / 50_000;
        let mut polygon = Polygon::all(5_000_000_000, truth(5_000_000_000));
        for step in 0..100i128 {
            let own = step * 100_000_000;
            let crossing = 40_000 + step * 7919 % 90_000;
            let (out, back) = (truth(own) + crossing, truth(own) - crossing / 2);
            polygon.clip(Constraint { own_ns: own, reference_ns: out, is_upper: true });
            polygon.clip(Constraint { own_ns: own, reference_ns: back, is_upper: false });
        }
        for own in [0, 4_000_000_000, 9_900_000_000] {
            let (low, high) = polygon.offsets_at(own);
            let true_offset = (truth(own) - own - polygon.origin_offset) as f64;
            assert!(low <= true_offset && true_offset <= high, "{low} {true_offset} {high}");
            assert!(high - low < 130_000.0, "{}", high - low);
        }
        let (a, d) = polygon.middle();
        assert!((d - 20e-6).abs() < 20e-6 && polygon.is_bounded(), "{a} {d}");
        polygon.clip(Constraint { own_ns: 0, reference_ns: 0, is_upper: true });
        assert!(!polygon.is_feasible());
    }
}
