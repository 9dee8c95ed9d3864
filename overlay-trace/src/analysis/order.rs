//! The order of rows along the packets' path.

use std::hash::{BuildHasher, BuildHasherDefault};

use rustc_hash::{FxHashMap, FxHasher};

use super::Key;

/// So many different ways are remembered; the most frequent ones come early in any traffic.
const WAYS_MAX: usize = 4096;

/// Counts the different ways, each as the rows in the order in which they were first visited.
#[derive(Default)]
pub(super) struct Ways {
    by_hash: FxHashMap<u64, (u64, Vec<u32>)>,
}

impl Ways {
    pub fn add(&mut self, rows: &[u32]) {
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(rows);
        if let Some((count, _)) = self.by_hash.get_mut(&hash) {
            *count += 1;
        } else if self.by_hash.len() < WAYS_MAX {
            self.by_hash.insert(hash, (1, rows.to_vec()));
        }
    }

    /// All rows in order: the most frequent way first, each further way's own rows put in behind those
    /// that they follow. Rows of one namespace, direction and level stay together.
    pub fn order(&self, keys: &[Key]) -> Vec<u32> {
        let mut ways: Vec<&(u64, Vec<u32>)> = self.by_hash.values().collect();
        ways.sort_unstable_by(|(a_count, a), (b_count, b)| b_count.cmp(a_count).then(a.cmp(b)));
        let mut order: Vec<u32> = Vec::new();
        let rows_of_no_way: Vec<u32> = (0..keys.len() as u32).collect();
        for way in ways.iter().map(|(_, way)| way).chain([&rows_of_no_way]) {
            for (at, &row) in way.iter().enumerate() {
                if !order.contains(&row) {
                    let before = at.checked_sub(1).map(|before| way[before]);
                    order.insert(place_for(row, before, &order, keys), row);
                }
            }
        }
        order
    }
}

/// Where to put a row that comes after the row `before` on a way.
fn place_for(row: u32, before: Option<u32>, order: &[u32], keys: &[Key]) -> usize {
    let key = &keys[row as usize];
    let together = |other: u32| keys[other as usize].same_part(key);
    if let Some(before) = before.filter(|&before| together(before)) {
        return order.iter().position(|&placed| placed == before).map_or(order.len(), |at| at + 1);
    }
    order.iter().rposition(|&placed| together(placed)).map_or(order.len(), |at| at + 1)
}
