//! What is sent while a cause is at work: requests at a constant rate, varied from run to run by a seed that is
//! printed.

use std::time::Duration;

use overlay_trace_lab::traffic::{Kind, Protocol, Size, Spec};

/// How long a window of traffic lasts.
pub const DURATION: Duration = Duration::from_millis(3200);
/// Requests per second, between which it varies.
const RATES: (f64, f64) = (200.0, 400.0);
/// Answers' payloads, bytes: each fits into one packet.
const ANSWERS: &[u32] = &[100, 350, 700, 1200];

/// A load, as a seed gives it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub seed: u64,
    /// Requests per second.
    pub rate: f64,
    pub connections: u32,
    pub size: Size,
}

impl Load {
    /// The load of a seed; the same one each time.
    pub fn of(seed: u64) -> Load {
        let mut random = fastrand::Rng::with_seed(seed);
        let (least, most) = RATES;
        Load {
            seed,
            rate: (least + random.f64() * (most - least)).round(),
            connections: random.u32(2..=8),
            size: Size { request: 100, answer: ANSWERS[random.usize(..ANSWERS.len())] },
        }
    }

    /// Requests of this load.
    pub fn requests(&self, protocol: Protocol) -> Spec {
        Spec {
            rate: self.rate,
            duration: DURATION,
            connections: self.connections,
            size: self.size,
            timeout: Duration::from_secs(3),
            ..Spec::new(Kind::Rr, protocol)
        }
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Load { seed, rate, connections, size } = self;
        write!(out, "seed {seed}: {rate}/s over {connections}, answers of {} bytes", size.answer)
    }
}
