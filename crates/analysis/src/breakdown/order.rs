//! The order of rows along the packets' path.

use std::collections::HashMap;

use super::{Direction, Key, plan::Plans};

/// Rows of one namespace, direction and level stay together.
type Part<'a> = (Option<&'a str>, Option<Direction>, Option<u8>);

/// All rows in order: those of the most frequent path first; rows of other paths are inserted behind those that they
/// follow.
pub(super) fn order(plans: &Plans, keys: &[Key]) -> Vec<u32> {
    let mut order = Order { keys, parts: Vec::new(), index: HashMap::new(), placed: vec![false; keys.len()] };
    let mut path = Vec::new();
    for plan in plans.by_packets() {
        path.clear();
        for row in plan.rows() {
            if !path.contains(&row) {
                path.push(row);
            }
        }
        (0..path.len()).for_each(|at| order.place(&path, at));
    }
    // What is left are the rows of shapes that were forgotten.
    for row in 0..keys.len() as u32 {
        order.place(&[row], 0);
    }
    order.parts.concat()
}

struct Order<'a> {
    keys: &'a [Key],
    /// The rows of each part in order, the parts in order of first appearance.
    parts: Vec<Vec<u32>>,
    index: HashMap<Part<'a>, usize>,
    placed: Vec<bool>,
}

impl<'a> Order<'a> {
    /// Inserts the row `path[at]`, if it is new: behind the row before it on the path, else before one that comes later
    /// on the path, else at the end of its part.
    fn place(&mut self, path: &[u32], at: usize) {
        let row = path[at];
        if std::mem::replace(&mut self.placed[row as usize], true) {
            return;
        }
        let part = self.part(row);
        let index = *self.index.entry(part).or_insert_with(|| {
            self.parts.push(Vec::new());
            self.parts.len() - 1
        });
        let rows = &self.parts[index];
        let find = |row: u32| rows.iter().position(|&known| known == row);
        let before = at.checked_sub(1).map(|before| path[before]).filter(|&before| self.part(before) == part);
        let place = match before {
            Some(before) => find(before).map(|place| place + 1),
            None => path[at + 1..]
                .iter()
                .filter(|&&later| self.part(later) == part)
                .find_map(|&later| find(later)),
        };
        let place = place.unwrap_or(rows.len());
        self.parts[index].insert(place, row);
    }

    fn part(&self, row: u32) -> Part<'a> {
        let key = &self.keys[row as usize];
        (key.netns.as_deref(), key.direction, key.level)
    }
}
