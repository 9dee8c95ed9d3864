//! The limits of this machine, which bound the rates of a plan.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::BASELINE;
use crate::dataplanes::{self, Knobs, Running};
use crate::traffic::{Kind, Protocol, Size, Spec, Stop};

/// The duration of each of the two trials.
const TRIAL: Duration = Duration::from_millis(500);
/// A rate per second that exceeds every machine's limit.
const UNREACHABLE_RATE: f64 = 5e6;

/// The maximum rates of the network without an overlay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Received UDP packets of 1400 bytes, per second.
    pub packets_per_s: f64,
    /// Answered TCP requests over 16 connections, per second.
    pub requests_per_s: f64,
}

impl Machine {
    /// Measures them in the baseline lab.
    ///
    /// # Errors
    ///
    /// When that lab cannot be built, or a `stop` interrupted it.
    pub fn measure(stop: &Stop) -> Result<Machine> {
        let host = dataplanes::find(BASELINE).context("the baseline lab is missing")?;
        let running = Running::up(host, Knobs::default(), stop)?;
        let trial = |kind, protocol| Spec {
            rate: UNREACHABLE_RATE,
            duration: TRIAL,
            timeout: Duration::from_millis(200),
            size: if kind == Kind::Stream { Size { request: 1400, answer: 1400 } } else { Size::B350 },
            connections: if kind == Kind::Stream { 1 } else { 16 },
            ..Spec::new(kind, protocol)
        };
        let plan = [trial(Kind::Stream, Protocol::Udp), trial(Kind::Rr, Protocol::Tcp)];
        let reports = dataplanes::drive(&running, &plan, stop)?;
        running.down()?;
        let per_s = |at: usize| {
            let report = &reports[at];
            report.received as f64 / (report.duration_ns.max(1) as f64 / 1e9)
        };
        Ok(Machine { packets_per_s: per_s(0), requests_per_s: per_s(1) })
    }
}
