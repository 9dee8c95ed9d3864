//! What a request/response client's sender and receivers share: requests are distributed round-robin to the
//! connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The interval at which a receiver checks whether its run is over.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The state of the sender that the receivers need.
#[derive(Default)]
pub struct SenderState {
    sent: AtomicU64,
    end_ns: AtomicU64,
}

impl SenderState {
    /// The sender has finished after this many requests.
    pub fn finish(&self, sent: u64, end_ns: u64) {
        self.sent.store(sent, Ordering::Relaxed);
        self.end_ns.store(end_ns, Ordering::Release);
    }

    /// The number of requests sent and the time of the last one, once the sender has finished.
    pub fn finished(&self) -> Option<(u64, u64)> {
        match self.end_ns.load(Ordering::Acquire) {
            0 => None,
            end_ns => Some((self.sent.load(Ordering::Relaxed), end_ns)),
        }
    }
}

/// One connection's position in the round-robin distribution of requests.
#[derive(Clone, Copy)]
pub struct Connection {
    pub index: u64,
    pub of: u64,
}

impl Connection {
    /// The number in the schedule of this connection's `nth` request.
    pub fn number(self, nth: u64) -> u64 {
        nth * self.of + self.index
    }

    /// How many of the first `sent` requests are on this connection.
    pub fn share(self, sent: u64) -> u64 {
        sent / self.of + u64::from(self.index < sent % self.of)
    }
}
