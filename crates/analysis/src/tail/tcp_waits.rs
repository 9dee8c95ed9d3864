//! Waits of a TCP sender that are nobody's drop, told from the gaps between packets.
//!
//! A segment that is sent at once when an acknowledgement arrives has been waiting for it. If the receiver had the data
//! before and delayed its acknowledgement, and the sender had more to send, that is Nagle's algorithm together with a
//! delayed acknowledgement. If the receiver's window was zero before, the sender waited for the receiving program. If the
//! acknowledgement came as soon as it could, the sender had as much in flight as it may have: its congestion window or the
//! receiver's window was full.

/// A receiver delays an acknowledgement for 40 ms to 200 ms (TCP_DELACK_MIN, TCP_DELACK_MAX); timers can be early or late.
const DELAYED_ACK_NS: std::ops::RangeInclusive<u64> = 30_000_000..=250_000_000;
/// What begins so soon after something has ended is its consequence.
pub(super) const AT_ONCE_NS: u64 = 100_000;

/// An acknowledgement without data that has arrived.
#[derive(Clone, Copy)]
pub(super) struct Acknowledgement {
    pub start_ns: u64,
    pub end_ns: u64,
    /// It announces a window of zero.
    pub is_zero_window: bool,
}

impl Acknowledgement {
    /// Whether it has made its receiver send something at this time.
    fn has_caused(&self, at_ns: u64) -> bool {
        (self.start_ns..=self.end_ns.saturating_add(AT_ONCE_NS)).contains(&at_ns)
    }
}

/// How long the sender of a request or an answer waited, in ns.
#[derive(Clone, Copy, Default)]
pub(super) struct Waited {
    pub delayed_ack_ns: u64,
    pub zero_window_ns: u64,
    pub window_ns: u64,
}

/// What is known of a sender.
#[derive(Default)]
pub(super) struct SenderWaits {
    acknowledgement: Option<Acknowledgement>,
    /// When the receiver's window became zero, in ns.
    closed_ns: Option<u64>,
    /// When the latest segment was sent, and the last one so far was read, in ns.
    sent_ns: u64,
    read_ns: u64,
    pub waited: Waited,
}

impl SenderWaits {
    /// An acknowledgement has arrived at the sender.
    pub fn acknowledge(&mut self, acknowledgement: Acknowledgement) {
        if acknowledgement.is_zero_window {
            self.closed_ns.get_or_insert(acknowledgement.end_ns);
        } else {
            self.acknowledgement = Some(acknowledgement);
        }
    }

    /// Whether what is sent at this time is sent because of an acknowledgement.
    pub fn is_acknowledged(&self, at_ns: u64) -> bool {
        self.acknowledgement.is_some_and(|acknowledgement| acknowledgement.has_caused(at_ns))
    }

    /// A segment has been sent, and read.
    pub fn send(&mut self, start_ns: u64, end_ns: u64) {
        if start_ns > self.sent_ns
            && let Some(acknowledgement) = self.acknowledgement
            && acknowledgement.has_caused(start_ns)
        {
            let from = acknowledgement.start_ns;
            let delayed_ns = from.saturating_sub(self.read_ns);
            if let Some(closed_ns) = self.closed_ns.take() {
                self.waited.zero_window_ns += from.saturating_sub(closed_ns);
            } else if self.read_ns > 0 && DELAYED_ACK_NS.contains(&delayed_ns) {
                self.waited.delayed_ack_ns += delayed_ns;
            } else if self.sent_ns > 0 && from > self.sent_ns {
                self.waited.window_ns += start_ns - self.sent_ns;
            }
        }
        self.sent_ns = self.sent_ns.max(start_ns);
        self.read_ns = self.read_ns.max(end_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn acknowledgement(start_ns: u64, is_zero_window: bool) -> Acknowledgement {
        Acknowledgement { start_ns, end_ns: start_ns + MS / 10, is_zero_window }
    }

    #[test]
    fn only_what_was_sent_because_of_a_late_acknowledgement_waited_for_it() {
        for (sent_ns, expected) in [(43 * MS + MS / 10, 41 * MS), (50 * MS, 0)] {
            let mut waits = SenderWaits::default();
            waits.send(MS, 2 * MS);
            waits.acknowledge(acknowledgement(43 * MS, false));
            waits.send(sent_ns, sent_ns + MS);
            assert_eq!(waits.waited.delayed_ack_ns, expected);
        }
    }

    #[test]
    fn a_window_of_zero_is_waited_for_until_it_opens() {
        let mut waits = SenderWaits::default();
        waits.send(MS, 2 * MS);
        waits.acknowledge(acknowledgement(3 * MS, true));
        waits.acknowledge(acknowledgement(90 * MS, true));
        waits.acknowledge(acknowledgement(300 * MS, false));
        waits.send(300 * MS + 1, 301 * MS);
        assert_eq!(waits.waited.zero_window_ns, 297 * MS - MS / 10);
        assert_eq!((waits.waited.delayed_ack_ns, waits.waited.window_ns), (0, 0));
    }

    #[test]
    fn what_follows_a_prompt_acknowledgement_waited_for_the_window() {
        let mut waits = SenderWaits::default();
        // An acknowledgement of something before has nothing to do with it.
        waits.acknowledge(acknowledgement(MS, false));
        waits.send(MS, 2 * MS);
        waits.send(MS + 5, 2 * MS);
        waits.acknowledge(acknowledgement(3 * MS, false));
        waits.send(3 * MS + MS / 10, 4 * MS);
        assert_eq!(waits.waited.window_ns, 2 * MS + MS / 10 - 5);
        // The program wrote this one later.
        waits.send(9 * MS, 10 * MS);
        assert_eq!((waits.waited.window_ns, waits.waited.delayed_ack_ns), (2 * MS + MS / 10 - 5, 0));
    }
}
