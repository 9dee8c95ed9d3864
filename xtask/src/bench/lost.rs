//! What a run has lost.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// A kernel skips a probe whose program was itself interrupted, by a packet that comes to the same probe. It counts
/// these; more than one in so many would distort the cost.
const SKIPPED_AT_MOST: u64 = 500;
const SKIPPED: &str = "probe_misses";
/// Of a report's losses, those that a run at full load must not have.
const LOSSES: &[&str] = &["records", SKIPPED, "state_full", "unmatched_exits"];

/// Losses by their name, none of which is 0, and the probe hits among which they are.
#[derive(Clone, Debug, Default)]
pub struct Lost {
    counts: BTreeMap<&'static str, u64>,
    hits: u64,
}

impl Lost {
    /// What a recording's report says.
    pub fn of_report(report: &Value) -> Self {
        let mut lost =
            Self { hits: report["capture"]["probe_hits"].as_u64().unwrap_or(0), ..Self::default() };
        for name in LOSSES {
            lost.count(name, report["losses"][name].as_u64().unwrap_or(0));
        }
        lost
    }

    /// Counts so many more.
    pub fn count(&mut self, name: &'static str, number: u64) {
        if number > 0 {
            *self.counts.entry(name).or_default() += number;
        }
    }

    /// Counts what another run has lost.
    pub fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        other.counts.iter().for_each(|(name, number)| self.count(name, *number));
    }

    /// The number of everything.
    pub fn sum(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether it is more than what no run can help.
    pub fn is_grave(&self) -> bool {
        let is_grave =
            |(name, number): (&&str, &u64)| *name != SKIPPED || number * SKIPPED_AT_MOST > self.hits;
        self.counts.iter().any(is_grave)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> =
            self.counts.iter().map(|(name, number)| format!("{name} {number}")).collect();
        to.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_added_and_few_skipped_probes_are_not_grave() {
        let report = |losses: Value| serde_json::json!({"capture": {"probe_hits": 900}, "losses": losses});
        let mut lost = Lost::of_report(&report(serde_json::json!({"probe_misses": 1, "inconsistent": 9})));
        assert!(!lost.is_grave());
        lost.add(&Lost::of_report(&report(serde_json::json!({"probe_misses": 3, "records": 0}))));
        assert!(lost.is_grave());
        assert_eq!((lost.sum(), lost.to_string().as_str()), (4, "probe_misses 4"));
        let mut lost = Lost::default();
        assert!(!lost.is_grave());
        lost.count("packets", 1);
        assert!(lost.is_grave());
    }
}
