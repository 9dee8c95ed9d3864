//! What one connection's receiver counts.

use hdrhistogram::Histogram;

use super::{clock, report};

/// The answers of one connection, or of several added up.
pub struct Tally {
    /// From when the request was due to its answer, ns.
    pub latency: Histogram<u64>,
    pub received: u64,
    pub duplicates: u64,
    pub out_of_order: u64,
    /// Payload bytes received.
    pub bytes: u64,
    /// When the last answer came, CLOCK_MONOTONIC; 0 when none did.
    pub last_ns: u64,
    seen: Seen,
    next: u64,
}

impl Tally {
    pub fn new() -> Tally {
        Tally {
            latency: report::histogram(),
            received: 0,
            duplicates: 0,
            out_of_order: 0,
            bytes: 0,
            last_ns: 0,
            seen: Seen::default(),
            next: 0,
        }
    }

    /// An answer in the order of the requests (TCP).
    pub fn answered(&mut self, due_ns: u64, now_ns: u64) {
        self.received += 1;
        self.last_ns = now_ns;
        self.latency.saturating_record(now_ns.saturating_sub(due_ns));
    }

    /// The answer to this connection's request `number`; it may come twice, and in any order.
    pub fn answered_any_order(&mut self, number: u64, due_ns: u64, bytes: usize) {
        if !self.seen.insert(number) {
            self.duplicates += 1;
            return;
        }
        if number < self.next {
            self.out_of_order += 1;
        }
        self.next = self.next.max(number + 1);
        self.bytes += bytes as u64;
        self.answered(due_ns, clock::now_ns());
    }

    /// Adds another connection's answers.
    pub fn add(mut self, other: Tally) -> Tally {
        // Both histograms have the same, growing, range.
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
pub struct Seen(Vec<u64>);

impl Seen {
    /// Whether the number is new.
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
