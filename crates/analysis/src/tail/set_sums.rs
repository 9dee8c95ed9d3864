//! Sums over one set of samples, the slow or the ordinary one, in total and by row.

/// The samples of one set and the sums of their times.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SetSums {
    pub count: u64,
    /// In ns.
    pub ns: u128,
    /// By the row's number.
    pub rows: Vec<RowSum>,
}

/// The time of a set in one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RowSum {
    pub ns: u128,
    /// Samples that passed the row.
    pub packets: u64,
}

impl SetSums {
    /// Adds `times` samples with their time by row, each row once.
    pub fn add(&mut self, time: &[(u32, u64)], times: u64) {
        self.count += times;
        for &(row, ns) in time {
            let row = row as usize;
            if row >= self.rows.len() {
                self.rows.resize(row + 1, RowSum::default());
            }
            let ns = u128::from(ns) * u128::from(times);
            self.ns += ns;
            self.rows[row].ns += ns;
            self.rows[row].packets += times;
        }
    }

    /// The mean time per sample, in ns, rounded.
    pub fn mean(&self) -> i128 {
        divide(self.ns, self.count)
    }

    /// The time per sample in each of `rows` rows, in whole ns. The values add up to [`mean`](SetSums::mean) exactly:
    /// rounding errors are carried to the next row.
    pub fn means(&self, rows: usize) -> Vec<i128> {
        let (mut sum, mut before) = (0, 0);
        let mut next = |row: usize| {
            sum += self.rows.get(row).map_or(0, |row| row.ns);
            let until = divide(sum, self.count);
            let mean = until - before;
            before = until;
            mean
        };
        (0..rows).map(&mut next).collect()
    }
}

/// Rounded to the nearest integer.
fn divide(sum: u128, count: u64) -> i128 {
    let count = u128::from(count.max(1));
    i128::try_from(sum.saturating_add(count / 2) / count).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn means_add_up_and_are_the_means(
            packets in prop::collection::vec(prop::collection::vec(0u64..1 << 40, 9), 1..40)
        ) {
            let mut sums = SetSums::default();
            for packet in &packets {
                let time: Vec<(u32, u64)> = (0..).zip(packet.iter().copied()).collect();
                sums.add(&time, 1);
            }
            let means = sums.means(9);
            prop_assert_eq!(means.iter().sum::<i128>(), sums.mean());
            for (row, mean) in means.iter().enumerate() {
                let exact: u128 = packets.iter().map(|packet| u128::from(packet[row])).sum();
                let scaled = mean * packets.len() as i128;
                prop_assert!(scaled.abs_diff(exact as i128) <= packets.len() as u128);
            }
        }
    }
}
