//! A packet's time by row, and the shares that its parts have of it.

/// Time in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    pub row: u32,
    pub ns: u128,
    /// The probes' cost in 1/1024 ns.
    pub cost: u128,
    /// The part of the time that passed with the work of other packets.
    pub behind_others: u128,
}

impl Part {
    /// Adds time that is in the same row.
    pub fn add(&mut self, other: &Part) {
        self.ns += other.ns;
        self.cost += other.cost;
        self.behind_others += other.behind_others;
    }
}

/// Shares a packet's time among its parts by their lengths. The shares add up to it exactly.
pub(super) struct Shares {
    time: Vec<Part>,
    /// What the parts so far have of it.
    given: Vec<Part>,
    /// The length of the parts so far, and of all.
    bytes: u64,
    all: u64,
}

impl Shares {
    pub fn new(time: Vec<Part>, all: u64) -> Shares {
        let given = time.iter().map(|part| Part { row: part.row, ..Part::default() }).collect();
        Shares { time, given, bytes: 0, all }
    }

    /// The share of the next part: what all parts up to it should have, less what those before it have.
    pub fn next(&mut self, length: u64) -> Vec<Part> {
        self.bytes += length;
        let (all, bytes) = (u128::from(self.all), u128::from(self.bytes));
        let next = |whole: u128, given: &mut u128| {
            if whole == 0 {
                return 0;
            }
            let share = whole / all * bytes + whole % all * bytes / all - *given;
            *given += share;
            share
        };
        let parts = self.time.iter().zip(&mut self.given);
        let share = parts.map(|(whole, given)| Part {
            row: whole.row,
            ns: next(whole.ns, &mut given.ns),
            cost: next(whole.cost, &mut given.cost),
            behind_others: next(whole.behind_others, &mut given.behind_others),
        });
        share.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_go_by_length() {
        for whole in [0, 1, 2, 1000, 99_999, u128::from(u64::MAX)] {
            let time = [Part { row: 0, ns: whole, cost: whole * 3, behind_others: 0 }];
            let mut shares = Shares::new(time.into(), 4422);
            let (mut ns, mut cost) = (0, 0);
            for length in [1448, 1448, 1448, 77, 1] {
                let part = shares.next(length)[0];
                let exact = whole as f64 * length as f64 / 4422.0;
                assert!((part.ns as f64 - exact).abs() <= 1.0 + exact * 1e-9, "{whole} {length}");
                (ns, cost) = (ns + part.ns, cost + part.cost);
            }
            assert_eq!((ns, cost), (whole, whole * 3));
        }
    }
}
