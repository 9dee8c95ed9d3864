//! Notes which clients were translated during a recording.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use overlay_trace_format::Translation;

use crate::sys::{
    conntrack,
    lookup::{self, Lookup},
};

/// At most this many are noted.
const TRANSLATIONS_MAX: usize = 1 << 16;
/// The table is read so often: an entry of UDP lives for 30 s after its last packet, one of TCP for longer.
const INTERVAL: Duration = Duration::from_secs(15);

/// The translated clients so far.
pub struct Translations {
    known: HashSet<Translation>,
    read_at: Instant,
    /// The table is being read.
    lookup: Option<Lookup<Vec<Translation>>>,
}

impl Translations {
    pub fn new() -> Translations {
        Translations { known: HashSet::new(), read_at: Instant::now(), lookup: None }
    }

    /// Those that are new, when the table has been read again; for the last time this waits for it. Needs CAP_SYS_ADMIN, to
    /// enter namespaces, and CAP_SYS_PTRACE, to see those of processes.
    pub fn look(&mut self, is_last: bool) -> Vec<Translation> {
        let is_time = self.lookup.is_none() && self.read_at.elapsed() >= INTERVAL;
        if is_last || is_time {
            self.lookup = Lookup::start(|| conntrack::translations(TRANSLATIONS_MAX));
            self.read_at = Instant::now();
        }
        // A table of millions may take longer; those that are known stay.
        let limit = if is_last { lookup::LIMIT } else { Duration::ZERO };
        let found = lookup::poll(&mut self.lookup, limit).unwrap_or_default();
        let room = TRANSLATIONS_MAX - self.known.len();
        let mut new: Vec<Translation> =
            found.into_iter().filter(|one| !self.known.contains(one)).take(room).collect();
        new.sort_unstable();
        new.dedup();
        self.known.extend(&new);
        new
    }
}
