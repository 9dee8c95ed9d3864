//! The description of one run of traffic.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::options::{MAX_GSO_BATCH, MAX_READER_DELAY, Options};
use super::protocol;

/// The maximum number of connections, or streams, of one run.
pub(super) const MAX_CONNECTIONS: u32 = 256;
/// The maximum number of requests or packets of one run.
pub(super) const MAX_COUNT: u64 = 1 << 30;
/// The maximum duration of a run.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// The kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Requests at a constant rate, each with an answer.
    Rr,
    /// As much TCP throughput as the network allows.
    Bulk,
    /// One-way packets at a constant rate.
    Stream,
    /// ICMP echo requests at a constant rate, answered by the peer's kernel.
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
    /// The sending time.
    pub duration: Duration,
    /// The maximum number of requests or packets to send; `None`: as many as fit in the duration.
    pub count: Option<u64>,
    pub size: Size,
    /// The number of connections (bulk: streams), used round-robin.
    pub connections: u32,
    /// The time limit of an answer, from the scheduled send time of its request. Later answers count as lost.
    pub timeout: Duration,
    /// Less common options.
    pub options: Options,
}

impl Spec {
    /// A run of the given kind with the defaults: 1000 requests per second of size 350B for 10 seconds on one
    /// connection, with a timeout of 1 second.
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

    /// The run's name in tables and plans, as `udp-rr`.
    pub fn name(&self) -> String {
        name(self.kind, self.protocol)
    }

    /// Fails when such a run is not possible.
    pub(super) fn check(&self) -> Result<()> {
        let possible = match self.kind {
            Kind::Rr => self.protocol != Protocol::Icmp,
            Kind::Bulk => self.protocol == Protocol::Tcp,
            Kind::Stream => self.protocol == Protocol::Udp,
            Kind::Ping => self.protocol == Protocol::Icmp,
        };
        ensure!(possible, "there is no traffic kind {}", self.name());
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
        self.check_options()
    }

    fn check_sizes(&self) -> Result<()> {
        let (least, most) = match self.protocol {
            Protocol::Tcp => (1, protocol::MAX_TCP_MESSAGE),
            Protocol::Udp | Protocol::Icmp => (protocol::HEADER, protocol::MAX_DATAGRAM),
        };
        for bytes in [self.size.request, self.size.answer] {
            ensure!(
                (least..=most).contains(&(bytes as usize)),
                "a size of {bytes} bytes is not possible for {}: use {least} to {most}",
                self.name()
            );
        }
        Ok(())
    }

    fn check_options(&self) -> Result<()> {
        let options = &self.options;
        let is_stream_only = options.gso > 1 || options.gro || options.group.is_some();
        ensure!(
            !is_stream_only || self.kind == Kind::Stream,
            "gso, gro and group apply only to udp-stream, not to {}",
            self.name()
        );
        ensure!(
            options.gso_batch() <= MAX_GSO_BATCH
                && u64::from(options.gso_batch()) * u64::from(self.size.request)
                    <= protocol::MAX_DATAGRAM as u64,
            "one GSO send takes at most {MAX_GSO_BATCH} packets and {} bytes, not {} packets of {} bytes",
            protocol::MAX_DATAGRAM,
            options.gso_batch(),
            self.size.request
        );
        ensure!(
            options.reader_delay <= MAX_READER_DELAY,
            "the reader delay is at most {MAX_READER_DELAY:?}, not {:?}",
            options.reader_delay
        );
        ensure!(
            options.reader_delay.is_zero() || self.kind != Kind::Ping,
            "reader-delay does not apply to ping, which the kernel answers"
        );
        ensure!(
            options.group.is_none_or(|group| group.is_multicast() || group.octets()[3] == 255),
            "group is not an IPv4 multicast or broadcast address"
        );
        Ok(())
    }

    /// The number of requests or packets that the run will send.
    pub(super) fn total(&self) -> u64 {
        let fitting = (self.duration.as_secs_f64() * self.rate).ceil().max(1.0) as u64;
        self.count.unwrap_or(u64::MAX).min(fitting).min(MAX_COUNT)
    }
}

pub(super) fn name(kind: Kind, protocol: Protocol) -> String {
    match (kind, protocol) {
        (Kind::Ping, _) => "ping".to_string(),
        (kind, protocol) => {
            format!("{}-{}", format!("{protocol:?}").to_lowercase(), format!("{kind:?}").to_lowercase())
        }
    }
}
