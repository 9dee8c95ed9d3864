//! Where packets were when they were cut into segments or fragments.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::direction::LastRun;

/// Parts follow their parent closely, so only so many parents are remembered.
const PARENTS_MAX: usize = 8192;

#[derive(Default)]
pub(super) struct Parents {
    by_id: FxHashMap<u64, LastRun>,
    oldest_first: VecDeque<u64>,
}

impl Parents {
    pub fn add(&mut self, id: u64, run: LastRun) {
        if self.by_id.insert(id, run).is_some() {
            return;
        }
        self.oldest_first.push_back(id);
        if self.oldest_first.len() > PARENTS_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }

    pub fn get(&self, id: u64) -> Option<LastRun> {
        self.by_id.get(&id).copied()
    }
}
