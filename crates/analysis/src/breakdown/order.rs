//! The order of rows along the packets' path.

use std::collections::HashMap;

use super::{Key, Part, plan::Plans};

/// All rows in order: those of the most frequent path first; rows of other paths are inserted behind those that they
/// follow. Rows of one namespace, direction and level stay together.
pub(super) fn order(plans: &Plans, keys: &[Key]) -> Vec<u32> {
    let mut order = Order::new(keys);
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
    order.rows()
}

/// The end of a list.
const NONE: u32 = u32::MAX;

/// The rows of each part as a list: a namespace can have tens of thousands of devices, each with rows that are inserted
/// among those that are there.
struct Order<'a> {
    keys: &'a [Key],
    /// The first and the last row of each part, the parts in order of first appearance.
    parts: Vec<(u32, u32)>,
    index: HashMap<Part<'a>, usize>,
    placed: Vec<bool>,
    /// By row: the rows before and behind it.
    before: Vec<u32>,
    behind: Vec<u32>,
}

impl<'a> Order<'a> {
    fn new(keys: &'a [Key]) -> Order<'a> {
        let none = vec![NONE; keys.len()];
        Order {
            keys,
            parts: Vec::new(),
            index: HashMap::new(),
            placed: vec![false; keys.len()],
            before: none.clone(),
            behind: none,
        }
    }

    /// Inserts the row `path[at]`, if it is new: behind the row before it on the path, else before one that comes later
    /// on the path, else at the end of its part.
    fn place(&mut self, path: &[u32], at: usize) {
        let row = path[at];
        if self.placed[row as usize] {
            return;
        }
        let part = self.part(row);
        let index = *self.index.entry(part).or_insert_with(|| {
            self.parts.push((NONE, NONE));
            self.parts.len() - 1
        });
        let is_there = |row: &u32| self.placed[*row as usize] && self.part(*row) == part;
        let before = at.checked_sub(1).map(|before| path[before]).filter(is_there);
        let before = before.unwrap_or_else(|| match path[at + 1..].iter().copied().find(is_there) {
            Some(later) => self.before[later as usize],
            None => self.parts[index].1,
        });
        self.placed[row as usize] = true;
        self.insert(index, row, before);
    }

    /// Inserts a row behind another one of its part; at its beginning for [`NONE`].
    fn insert(&mut self, part: usize, row: u32, before: u32) {
        let (first, last) = &mut self.parts[part];
        let behind = if before == NONE { *first } else { self.behind[before as usize] };
        (self.before[row as usize], self.behind[row as usize]) = (before, behind);
        match before {
            NONE => *first = row,
            before => self.behind[before as usize] = row,
        }
        match behind {
            NONE => *last = row,
            behind => self.before[behind as usize] = row,
        }
    }

    fn rows(&self) -> Vec<u32> {
        let mut rows = Vec::with_capacity(self.keys.len());
        for &(first, _) in &self.parts {
            let mut row = first;
            while row != NONE {
                rows.push(row);
                row = self.behind[row as usize];
            }
        }
        rows
    }

    fn part(&self, row: u32) -> Part<'a> {
        self.keys[row as usize].part()
    }
}
