//! One clock in terms of another: a line for each epoch, and how far it may be off.

use std::ops::Range;

use crate::polygon::{Constraint, Polygon};

/// Bits of a drift's fraction.
const DRIFT_BITS: u32 = 62;
/// So many packets behind one that contradicts the others decide whether it is alone.
const WITNESSES: usize = 16;

/// A time during which one line holds between two clocks.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// The first moment, on the own clock; the epoch lasts until the next one begins.
    pub from_ns: u64,
    /// The last packet's moment: when between this and the next epoch's first one the clock broke nobody knows.
    pub last_ns: u64,
    polygon: Polygon,
    /// The line in the middle: offset in ns and drift in 2^-62, from the polygon's origin.
    offset_ns: i128,
    drift: i128,
}

impl Epoch {
    fn new((from_ns, last_ns): (u64, u64), polygon: Polygon) -> Epoch {
        let (offset, drift) = polygon.middle();
        let offset_ns = polygon.origin_offset + offset.round() as i128;
        let drift = (drift * (1u64 << DRIFT_BITS) as f64) as i128;
        Epoch { from_ns, last_ns, polygon, offset_ns, drift }
    }

    /// A moment of the own clock on the reference, in ns: one function of integers, rounded once.
    pub fn map(&self, own_ns: u64) -> i128 {
        let own = i128::from(own_ns);
        own + self.offset_ns + (((own - self.polygon.origin_ns) * self.drift) >> DRIFT_BITS)
    }

    /// By how much the mapped moment may be too late, and too early, in ns.
    pub fn uncertainty(&self, own_ns: u64) -> (u64, u64) {
        let own = i128::from(own_ns);
        let mapped = (self.map(own_ns) - own - self.polygon.origin_offset) as f64;
        let (low, high) = self.polygon.offsets_at(own);
        ((mapped - low).max(0.0).ceil() as u64, (high - mapped).max(0.0).ceil() as u64)
    }

    /// Whether packets bound the epoch's line from both sides.
    pub fn is_bounded(&self) -> bool {
        self.polygon.is_bounded()
    }

    /// How much faster than the own clock the reference runs, in parts per million.
    pub fn drift_ppm(&self) -> f64 {
        self.drift as f64 / (1u64 << DRIFT_BITS) as f64 * 1e6
    }
}

/// A machine's clock in terms of the reference.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// In order; none for the reference itself, whose clock is the reference.
    pub epochs: Vec<Epoch>,
    /// Packets that contradicted all others.
    pub contradictions: u64,
    /// Packets that bounded it.
    pub constraints: u64,
}

impl Clock {
    /// The number of the epoch of a moment of the own clock.
    pub fn epoch_of(&self, own_ns: u64) -> usize {
        self.epochs.partition_point(|epoch| epoch.from_ns <= own_ns).saturating_sub(1)
    }

    /// A moment of the own clock on the reference, in ns; `None` in an epoch that packets do not bound.
    pub fn map(&self, own_ns: u64) -> Option<i128> {
        match self.epochs.get(self.epoch_of(own_ns)) {
            None => Some(i128::from(own_ns)),
            Some(epoch) => epoch.is_bounded().then(|| epoch.map(own_ns)),
        }
    }

    /// By how much a mapped moment may be too late, and too early, in ns.
    pub fn uncertainty(&self, own_ns: u64) -> (u64, u64) {
        self.epochs.get(self.epoch_of(own_ns)).map_or((0, 0), |epoch| epoch.uncertainty(own_ns))
    }
}

/// The clock that packets leave possible; `None` if they never bound it from both sides. Where no line fits all of them
/// a new epoch begins; one that contradicts its neighbours alone is left out.
pub fn clock_of(mut constraints: Vec<Constraint>) -> Option<Clock> {
    constraints.sort_by_key(|constraint| constraint.own_ns);
    let mut clock = Clock { constraints: constraints.len() as u64, ..Clock::default() };
    let mut pieces: Vec<Piece> = Vec::new();
    let mut from = 0;
    while from < constraints.len() {
        let (mut piece, contradictions) = Piece::longest(&constraints, from);
        clock.contradictions += contradictions;
        // No line fits even this one alone: its times, or those in the middle, are further off than clocks can be.
        let is_empty = piece.packets.is_empty();
        clock.contradictions += u64::from(is_empty);
        from = piece.packets.end + usize::from(is_empty);
        if !is_empty {
            if let Some(earlier) = pieces.last_mut() {
                piece.take_back(&constraints, earlier);
            }
            pieces.push(piece);
        }
    }
    clock.epochs =
        pieces.into_iter().enumerate().map(|(number, piece)| piece.epoch(&constraints, number)).collect();
    clock.epochs.iter().any(Epoch::is_bounded).then_some(clock)
}

/// Packets one after the other that one line fits.
struct Piece {
    packets: Range<usize>,
    polygon: Polygon,
}

impl Piece {
    /// From this packet on as many as one line fits, and how many between them contradict all others.
    fn longest(constraints: &[Constraint], from: usize) -> (Piece, u64) {
        let rest = &constraints[from..];
        let middle = rest[rest.len() / 2];
        let mut polygon = Polygon::all(middle.own_ns, middle.reference_ns);
        let (mut taken, mut contradictions) = (0, 0);
        while let Some(next) = rest.get(taken) {
            let mut narrower = polygon.clone();
            narrower.clip(*next);
            if narrower.is_feasible() {
                polygon = narrower;
            } else if is_alone(&polygon, &rest[taken + 1..]) {
                contradictions += 1;
            } else {
                break;
            }
            taken += 1;
        }
        (Piece { packets: from..from + taken, polygon }, contradictions)
    }

    /// Takes the last packets of the piece before that this one's line fits better: a clock that was stopped is late, and
    /// packets that bound it from the other side do not contradict its line of before.
    fn take_back(&mut self, constraints: &[Constraint], earlier: &mut Piece) {
        while earlier.packets.end == self.packets.start && earlier.packets.len() > 1 {
            let last = constraints[earlier.packets.end - 1];
            let mut narrower = self.polygon.clone();
            narrower.clip(last);
            let is_nearer = self.polygon.distance(last) < earlier.polygon.distance(last);
            if !narrower.is_feasible() || !is_nearer {
                break;
            }
            self.polygon = narrower;
            (self.packets.start, earlier.packets.end) = (self.packets.start - 1, earlier.packets.end - 1);
        }
    }

    fn epoch(self, constraints: &[Constraint], number: usize) -> Epoch {
        let own_ns = |packet: usize| constraints[packet].own_ns.max(0) as u64;
        let from_ns = if number == 0 { 0 } else { own_ns(self.packets.start) };
        Epoch::new((from_ns, own_ns(self.packets.end - 1)), self.polygon)
    }
}

/// Whether the packets that follow agree with those before, so that the one between is the odd one.
fn is_alone(polygon: &Polygon, following: &[Constraint]) -> bool {
    let mut polygon = polygon.clone();
    following.iter().take(WITNESSES).for_each(|constraint| polygon.clip(*constraint));
    polygon.is_feasible() && following.len() >= WITNESSES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets each way every 10 ms; `offset` is the true difference at a time.
    fn constraints(offset: impl Fn(i128) -> i128, count: i128) -> Vec<Constraint> {
        let each = |step: i128| {
            let own_ns = 1_000_000_000 + step * 10_000_000;
            let crossing = 30_000 + step * 7919 % 50_000;
            let truth = own_ns + offset(own_ns);
            [(crossing, true), (-crossing, false)].map(|(by, is_upper)| Constraint {
                own_ns,
                reference_ns: truth + by,
                is_upper,
            })
        };
        (0..count).flat_map(each).collect()
    }

    #[test]
    fn a_pause_begins_an_epoch() {
        let offset = |own: i128| if own < 3_000_000_000 { 70_000 } else { 2_170_070_000 };
        let clock = clock_of(constraints(offset, 500)).unwrap();
        assert_eq!(clock.epochs.len(), 2);
        for own in [1_500_000_000u64, 2_900_000_000, 3_100_000_000, 5_000_000_000] {
            let truth = i128::from(own) + offset(own.into());
            let (late, early) = clock.uncertainty(own);
            let error = clock.map(own).unwrap() - truth;
            assert!(-i128::from(early) <= error && error <= i128::from(late), "{error} {late} {early}");
        }
    }

    #[test]
    fn an_epoch_begins_with_the_first_packet_behind_a_pause() {
        // What is sent bounds the clock from above at once, and from below when it has been freed.
        let each = |step: i128| {
            let own_ns = 1_000_000_000 + step * 10_000_000;
            let pause = if step < 300 { 0 } else { 2_170_000_000 };
            let reference_ns = own_ns + 70_000 + pause;
            let sent = Constraint { own_ns, reference_ns: reference_ns + 40_000, is_upper: true };
            [sent, Constraint { own_ns: own_ns + 2_000_000, is_upper: false, ..sent }]
        };
        let clock = clock_of((0..500).flat_map(each).collect()).unwrap();
        let begins: Vec<u64> = clock.epochs.iter().map(|epoch| epoch.from_ns).collect();
        assert_eq!(begins, [0, 4_000_000_000]);
        assert_eq!(clock.epochs[0].last_ns, 3_992_000_000);
    }

    #[test]
    fn one_wrong_packet_is_left_out() {
        let mut all = constraints(|_| 5_000, 200);
        all[150].reference_ns -= 900_000_000;
        all[150].is_upper = true;
        let clock = clock_of(all).unwrap();
        assert_eq!((clock.epochs.len(), clock.contradictions), (1, 1));
    }

    #[test]
    fn times_that_fit_no_line_are_left_out() {
        let far = |own_ns, reference_ns| Constraint { own_ns, reference_ns, is_upper: true };
        let (most, offset) = (i128::from(u64::MAX), |_| 5_000);
        for absurd in [far(0, most), far(most, 0), far(0, -most), far(most, most)] {
            let mut all = constraints(offset, 200);
            all.push(absurd);
            let clock = clock_of(all).unwrap();
            let own = 1_500_000_000;
            let (late, early) = clock.uncertainty(own);
            let error = clock.map(own).unwrap() - i128::from(own) - 5_000;
            assert!(-i128::from(early) <= error && error <= i128::from(late), "{error} {late} {early}");
        }
        assert!(clock_of(vec![far(0, most), far(most, 0), far(0, most / 2)]).is_none());
    }

    #[test]
    fn one_direction_alone_bounds_nothing() {
        let all = constraints(|_| 5_000, 200);
        assert!(clock_of(all.into_iter().filter(|one| one.is_upper).collect()).is_none());
    }
}
