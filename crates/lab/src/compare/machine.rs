//! What the machine can offer: plans ask for no more.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::BASELINE;
use crate::dataplanes::{self, Knobs, Running};
use crate::traffic::{Kind, Protocol, Size, Spec, Stop};

/// How long each of the two is tried.
const TRIAL: Duration = Duration::from_millis(500);
/// Per second: more than any machine can do.
const TOO_MANY: f64 = 5e6;

/// What the network without any overlay takes, at the most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// UDP packets of 1400 bytes that arrive, per second.
    pub packets_per_s: f64,
    /// TCP requests that are answered over 16 connections, per second.
    pub requests_per_s: f64,
}

impl Machine {
    /// Tries it, on the lab of the baseline.
    ///
    /// # Errors
    ///
    /// When that lab cannot be built, or a `stop` interrupted it.
    pub fn measure(stop: &Stop) -> Result<Machine> {
        let host = dataplanes::find(BASELINE).context("there is no lab to compare with")?;
        let running = Running::up(host, Knobs::default(), stop)?;
        let trial = |kind, protocol| Spec {
            rate: TOO_MANY,
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
