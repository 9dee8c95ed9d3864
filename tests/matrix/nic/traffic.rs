//! The traffic over NICs: bulk over TCP, and small and large datagrams, each in both directions.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use overlay_trace_lab::dataplanes::{Endpoint, Running};
use overlay_trace_lab::traffic::{self, Kind, PORT, Protocol, Server, Size, Spec, Stop, TrafficReport};

/// Payloads of datagrams, bytes. The larger one fits into each lab's MTU.
const SMALL: u32 = 100;
const LARGE: u32 = 1400;
/// The same over IPv6, inside IPv6.
const LARGE_V6: u32 = 1380;
/// Datagrams per second: an emulated NIC keeps up.
const RATE: f64 = 1000.0;
/// So many fill the ring of a driver that is late to take out what was sent.
const FAST: f64 = 20_000.0;
const DURATION: Duration = Duration::from_millis(700);

/// From the lab's client to its server, and then the other way.
pub fn both_ways(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    both_ways_at(RATE, running, stop)
}

/// The same, with more datagrams in the same time.
pub fn fast(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    both_ways_at(FAST, running, stop)
}

fn both_ways_at(rate: f64, running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let (client, server) = (running.client()?, running.server()?);
    let large = if running.knobs().ipv6 { LARGE_V6 } else { LARGE };
    let mut reports = Vec::new();
    for (from, to) in [(&client, &server), (&server, &client)] {
        reports.extend(one_way((from, to), (large, rate), stop)?);
    }
    Ok(reports)
}

fn one_way(
    (from, to): (&Endpoint, &Endpoint),
    (large, rate): (u32, f64),
    stop: &Stop,
) -> Result<Vec<TrafficReport>> {
    let address = SocketAddr::new(to.address, PORT);
    let _server = to.netns.run(|| Server::start(address))??;
    let stream = |bytes| Spec {
        rate,
        size: Size { request: bytes, answer: bytes },
        ..Spec::new(Kind::Stream, Protocol::Udp)
    };
    let plan = [Spec::new(Kind::Bulk, Protocol::Tcp), stream(SMALL), stream(large)];
    plan.into_iter()
        .map(|spec| {
            let spec = Spec { duration: DURATION, timeout: Duration::from_secs(3), ..spec };
            from.netns.run(|| traffic::run(&spec, address, stop))?
        })
        .collect()
}
