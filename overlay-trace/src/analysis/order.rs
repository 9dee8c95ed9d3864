//! The order of rows along the packets' path.

use super::{Key, plan::Plans};

/// All rows in order: those of the most frequent way first, each further way's own rows put in behind
/// those that they follow. Rows of one namespace, direction and level stay together.
pub(super) fn order(plans: &Plans, keys: &[Key]) -> Vec<u32> {
    let mut order: Vec<u32> = Vec::new();
    for way in plans.by_packets().iter().map(|plan| &plan.rows) {
        for at in 0..way.len() {
            if !order.contains(&way[at]) {
                order.insert(place_for(way, at, &order, keys), way[at]);
            }
        }
    }
    // Only the rows of the ways beyond the first few thousand shapes are left.
    for row in 0..keys.len() as u32 {
        if order.contains(&row) {
            continue;
        }
        order.insert(place_for(&[row], 0, &order, keys), row);
    }
    order
}

/// Where to put the row `way[at]`: behind the row before it on the way, else before one that comes later
/// on the way, else at the end of its namespace, direction and level.
fn place_for(way: &[u32], at: usize, order: &[u32], keys: &[Key]) -> usize {
    let key = &keys[way[at] as usize];
    let together = |row: &u32| keys[*row as usize].same_part(key);
    let placed = |row: &u32| order.iter().position(|placed| placed == row);
    if let Some(before) = at.checked_sub(1).map(|before| &way[before]).filter(|before| together(before)) {
        return placed(before).map_or(order.len(), |place| place + 1);
    }
    if let Some(place) = way[at + 1..].iter().filter(|row| together(row)).find_map(placed) {
        return place;
    }
    order.iter().rposition(together).map_or(order.len(), |place| place + 1)
}
