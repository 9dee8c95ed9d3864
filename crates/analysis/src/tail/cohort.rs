//! The slow ones and the ordinary ones: sums by row, and the table of the difference.

/// Packets and what their time adds up to, as a whole and by number of row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub count: u64,
    /// In ns.
    pub ns: u128,
    /// In ns; how many were there.
    pub rows: Vec<(u128, u64)>,
}

impl Sums {
    /// Adds so many packets with their time by row, each row once.
    pub fn add(&mut self, time: &[(u32, u64)], times: u64) {
        self.count += times;
        for &(row, ns) in time {
            let row = row as usize;
            if row >= self.rows.len() {
                self.rows.resize(row + 1, (0, 0));
            }
            let ns = u128::from(ns) * u128::from(times);
            self.ns += ns;
            self.rows[row].0 += ns;
            self.rows[row].1 += times;
        }
    }

    /// The mean of the whole, in ns, rounded.
    pub fn mean(&self) -> i128 {
        divide(self.ns, self.count)
    }

    /// The time per packet in each of `rows` rows, in whole ns, which add up to the mean exactly: what
    /// is rounded off one row is in the next.
    pub fn means(&self, rows: usize) -> Vec<i128> {
        let (mut sum, mut before) = (0, 0);
        let mut next = |row: usize| {
            sum += self.rows.get(row).map_or(0, |row| row.0);
            let until = divide(sum, self.count);
            let mean = until - before;
            before = until;
            mean
        };
        (0..rows).map(&mut next).collect()
    }
}

/// Rounded to the nearest.
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
            let mut sums = Sums::default();
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
