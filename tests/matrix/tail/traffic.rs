//! The traffic of the injections.

use std::time::Duration;

use anyhow::Result;
use overlay_trace::lab::drive;
use overlay_trace::traffic::{Kind, Options, Protocol, Size, Spec};

use super::load::Load;
use crate::truth::ground::Ground;

/// So many packets are handed to the kernel at once.
const TRAIN: u32 = 40;

/// Requests over TCP.
pub fn tcp(ground: &Ground, load: &Load) -> Result<()> {
    send(ground, &[load.requests(Protocol::Tcp)])
}

/// Requests over UDP.
pub fn udp(ground: &Ground, load: &Load) -> Result<()> {
    send(ground, &[load.requests(Protocol::Udp)])
}

/// Requests over UDP, and packets that are handed to the kernel many at once, as one.
pub fn trains(ground: &Ground, load: &Load) -> Result<()> {
    let stream = Spec {
        rate: 10.0 * f64::from(TRAIN),
        duration: Duration::from_secs(1),
        size: Size { request: 200, answer: 200 },
        options: Options { gso: TRAIN, ..Options::default() },
        ..Spec::new(Kind::Stream, Protocol::Udp)
    };
    send(ground, &[load.requests(Protocol::Udp), stream])
}

fn send(ground: &Ground, plan: &[Spec]) -> Result<()> {
    drive(ground.running, plan, ground.stop).map(drop)
}
