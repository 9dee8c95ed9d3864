//! The order of rows along the packets' path.

use super::{Key, plan::Plans};

/// All rows in order: those of the most frequent way first, each further way's own rows put in behind
/// those that they follow. Rows of one namespace, direction and level stay together.
pub(super) fn order(plans: &Plans, keys: &[Key]) -> Vec<u32> {
    let mut order: Vec<u32> = Vec::new();
    let rows_of_no_way: Vec<u32> = (0..keys.len() as u32).collect();
    for way in plans.by_packets().iter().map(|plan| &plan.rows).chain([&rows_of_no_way]) {
        for (at, &row) in way.iter().enumerate() {
            if !order.contains(&row) {
                let before = at.checked_sub(1).map(|before| way[before]);
                order.insert(place_for(row, before, &order, keys), row);
            }
        }
    }
    order
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
