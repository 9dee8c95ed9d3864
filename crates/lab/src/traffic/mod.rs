//! Test traffic, with nothing to install: request/response at a constant rate ([`Kind::Rr`]), bulk TCP
//! ([`Kind::Bulk`]), a UDP stream ([`Kind::Stream`]) and ICMP echo ([`Kind::Ping`]).
//!
//! Request/response is an **open loop**: the schedule is fixed before the first request is sent, and a
//! latency counts from when its request was *due*, not from when it could at last be sent. A server or a
//! network that stalls for a second therefore shows a second of latency in every request that was due in
//! that second, where a closed loop would have waited politely and reported one slow request.
//!
//! One port answers everything ([`Server`]); a client announces what it will do on a TCP connection
//! (`wire::Hello`), and the server answers no datagram that was not announced, so that it cannot be
//! used to reflect traffic.

mod bulk;
mod clock;
mod datagram;
mod icmp;
mod options;
mod pace;
mod parse;
mod report;
mod server;
mod session;
mod sessions;
mod stop;
mod stream;
mod table;
mod tally;
mod tcp;
mod udp;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

pub use options::Options;
pub use parse::{parse_bit_rate, parse_duration, parse_plan};
pub use report::{Distribution, TrafficReport};
pub use server::Server;
pub use stop::Stop;
pub use table::table;
pub use udp::is_readable;

/// The port that the server listens on when none is named.
pub const PORT: u16 = 7700;

/// The most connections, or streams, of one run.
const MAX_CONNECTIONS: u32 = 256;
/// The most requests or packets of one run.
const MAX_COUNT: u64 = 1 << 30;
/// The longest run.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// What kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Requests at a constant rate, each with an answer.
    Rr,
    /// As many bytes as the network takes.
    Bulk,
    /// Packets one way at a constant rate.
    Stream,
    /// ICMP echo requests at a constant rate, answered by the kernel of the other side.
    Ping,
}

/// The transport protocol of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tcp,
    Udp,
    /// ICMP or ICMPv6.
    Icmp,
}

/// The sizes of a request (or of a stream's packet) and of its answer: payload bytes, without any header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub request: u32,
    pub answer: u32,
}

impl Size {
    /// A request of 100 bytes, an answer of 350: a small web page.
    pub const B350: Size = Size { request: 100, answer: 350 };
    /// A request of 100 bytes, an answer of 4096.
    pub const KB4: Size = Size { request: 100, answer: 4096 };
}

/// One run of traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub kind: Kind,
    pub protocol: Protocol,
    /// Requests or packets per second, over all connections. Bulk traffic has no rate.
    pub rate: f64,
    /// How long to send.
    pub duration: Duration,
    /// The most requests or packets to send; `None`: as many as fit in the duration.
    pub count: Option<u64>,
    pub size: Size,
    /// Over how many connections (bulk: streams) the traffic is spread, in turn.
    pub connections: u32,
    /// How long after it was due a request's answer is still waited for; later ones are lost.
    pub timeout: Duration,
    /// What of it is out of the ordinary.
    pub options: Options,
}

impl Spec {
    /// A run of the given kind with the defaults: 1000 requests per second of the size 350B for 10
    /// seconds on one connection, answers awaited for 1 second.
    pub fn new(kind: Kind, protocol: Protocol) -> Spec {
        Spec {
            kind,
            protocol,
            rate: 1000.0,
            duration: Duration::from_secs(10),
            count: None,
            size: Size::B350,
            connections: 1,
            timeout: Duration::from_secs(1),
            options: Options::default(),
        }
    }

    /// Name of the run in tables and plans, as `udp-rr`.
    pub fn name(&self) -> String {
        name(self.kind, self.protocol)
    }

    fn check(&self) -> Result<()> {
        let possible = match self.kind {
            Kind::Rr => self.protocol != Protocol::Icmp,
            Kind::Bulk => self.protocol == Protocol::Tcp,
            Kind::Stream => self.protocol == Protocol::Udp,
            Kind::Ping => self.protocol == Protocol::Icmp,
        };
        ensure!(possible, "there is no traffic of the kind {}", self.name());
        ensure!(
            self.rate.is_finite() && self.rate > 0.0 && self.rate <= 1e8,
            "the rate must be more than 0 and at most 100 million per second, not {}",
            self.rate
        );
        ensure!(
            !self.duration.is_zero() && self.duration <= MAX_DURATION,
            "the duration must be more than 0 and at most 24 hours"
        );
        ensure!(
            (1..=MAX_CONNECTIONS).contains(&self.connections),
            "the number of connections must be between 1 and {MAX_CONNECTIONS}, not {}",
            self.connections
        );
        self.check_sizes()?;
        self.options.check(self)
    }

    fn check_sizes(&self) -> Result<()> {
        let (least, most) = match self.protocol {
            Protocol::Tcp => (1, wire::MAX_TCP_MESSAGE),
            Protocol::Udp | Protocol::Icmp => (wire::HEADER, wire::MAX_DATAGRAM),
        };
        for bytes in [self.size.request, self.size.answer] {
            ensure!(
                (least..=most).contains(&(bytes as usize)),
                "a size of {bytes} bytes is not possible for {}: take {least} to {most}",
                self.name()
            );
        }
        Ok(())
    }

    /// How many requests or packets the run will send.
    fn total(&self) -> u64 {
        let fitting = (self.duration.as_secs_f64() * self.rate).ceil().max(1.0) as u64;
        self.count.unwrap_or(u64::MAX).min(fitting).min(MAX_COUNT)
    }
}

fn name(kind: Kind, protocol: Protocol) -> String {
    match (kind, protocol) {
        (Kind::Ping, _) => "ping".to_string(),
        (kind, protocol) => {
            format!("{}-{}", format!("{protocol:?}").to_lowercase(), format!("{kind:?}").to_lowercase())
        }
    }
}

/// Drives one run of traffic to a [`Server`] (for [`Kind::Ping`]: to any host) and says what came of it. A
/// `stop` ends it early; the report then covers what was sent until then.
///
/// # Errors
///
/// One sentence when the run is not possible, or the server does not answer.
pub fn run(spec: &Spec, to: SocketAddr, stop: &Stop) -> Result<TrafficReport> {
    spec.check()?;
    match (spec.kind, spec.protocol) {
        (Kind::Rr, Protocol::Tcp) => tcp::run(spec, to, stop),
        (Kind::Rr, _) | (Kind::Ping, _) => datagram::run(spec, to, stop),
        (Kind::Bulk, _) => bulk::run(spec, to, stop),
        (Kind::Stream, _) => stream::run(spec, to, stop),
    }
}

#[cfg(test)]
mod tests;
