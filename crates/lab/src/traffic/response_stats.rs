//! Counts and latencies of the answers that a client receives.

use hdrhistogram::Histogram;

use super::clock;
use super::distribution::histogram;

/// The answers of one connection, or the sum of several.
pub struct ResponseStats {
    /// From the scheduled send time of the request to its answer, ns.
    pub latency: Histogram<u64>,
    pub received: u64,
    pub duplicates: u64,
    pub out_of_order: u64,
    /// Payload bytes received.
    pub bytes: u64,
    /// When the last answer arrived, CLOCK_MONOTONIC, ns; 0 when none did.
    pub last_ns: u64,
    seen: SequenceSet,
    next: u64,
}

impl ResponseStats {
    pub fn new() -> ResponseStats {
        ResponseStats {
            latency: histogram(),
            received: 0,
            duplicates: 0,
            out_of_order: 0,
            bytes: 0,
            last_ns: 0,
            seen: SequenceSet::default(),
            next: 0,
        }
    }

    /// Counts an answer; the answers arrive in the order of the requests (TCP).
    pub fn count_in_order(&mut self, due_ns: u64, now_ns: u64) {
        self.received += 1;
        self.last_ns = now_ns;
        self.latency.saturating_record(now_ns.saturating_sub(due_ns));
    }

    /// Counts the answer to this connection's request `number`; answers may be duplicated and reordered.
    pub fn count_any_order(&mut self, number: u64, due_ns: u64, bytes: usize) {
        if !self.seen.insert(number) {
            self.duplicates += 1;
            return;
        }
        if number < self.next {
            self.out_of_order += 1;
        }
        self.next = self.next.max(number + 1);
        self.bytes += bytes as u64;
        self.count_in_order(due_ns, clock::now_ns());
    }

    /// Adds another connection's answers.
    pub fn add(mut self, other: ResponseStats) -> ResponseStats {
        // Both histograms have the same bounds, so this cannot fail.
        let _ = self.latency.add(&other.latency);
        self.received += other.received;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.bytes += other.bytes;
        self.last_ns = self.last_ns.max(other.last_ns);
        self
    }
}

/// A set of sequence numbers, one bit each.
#[derive(Debug, Default)]
pub struct SequenceSet(Vec<u64>);

impl SequenceSet {
    /// Adds the number; false when it was in the set.
    pub fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }
}
