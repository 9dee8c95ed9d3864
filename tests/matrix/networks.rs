//! The traffic of the recordings.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use overlay_trace_lab::dataplanes::{Running, drive};
use overlay_trace_lab::traffic::{self, Kind, PORT, Protocol, Spec, Stop, TrafficReport};

/// Requests per second: moderate, also for an emulated machine.
const RATE: f64 = 300.0;
const DURATION: Duration = Duration::from_millis(1500);

/// A run of this kind at a moderate rate.
pub fn moderate(kind: Kind, protocol: Protocol) -> Spec {
    Spec { rate: RATE, duration: DURATION, timeout: Duration::from_secs(3), ..Spec::new(kind, protocol) }
}

/// Requests over UDP, then over TCP.
pub fn requests(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let plan = [Protocol::Udp, Protocol::Tcp].map(|protocol| moderate(Kind::Rr, protocol));
    drive(running, &plan, stop)
}

/// The same, and then as much data over TCP as can be sent in a moment.
pub fn requests_and_bulk(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let mut plan = [Protocol::Udp, Protocol::Tcp].map(|protocol| moderate(Kind::Rr, protocol)).to_vec();
    plan.push(Spec { duration: Duration::from_millis(500), ..moderate(Kind::Bulk, Protocol::Tcp) });
    drive(running, &plan, stop)
}

/// Requests over UDP, then over TCP, and pings between the nodes, which no pod sees.
pub fn requests_and_node_pings(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let node2: SocketAddr = SocketAddr::new("192.0.2.2".parse()?, PORT);
    let ping = Spec { count: Some(50), ..moderate(Kind::Ping, Protocol::Icmp) };
    running.netns("node1")?.run(|| traffic::run(&ping, node2, stop))??;
    requests(running, stop)
}
