//! A load generator with its own server, so that nothing has to be installed: request/response at a constant
//! rate ([`Kind::Rr`]), bulk TCP ([`Kind::Bulk`]), a UDP stream ([`Kind::Stream`]) and ICMP echo
//! ([`Kind::Ping`]).
//!
//! Request/response is an **open loop**: the send times are fixed before the first request is sent, and a
//! latency is measured from the scheduled send time of its request, not from the actual one. This avoids
//! coordinated omission: a server or network that stalls for a second shows up as latency of every request that
//! was due in that second, where a closed loop would wait and report one slow request. The difference between
//! scheduled and actual send time is reported separately, as the scheduling delay of the load generator
//! ([`TrafficReport::scheduling_delay`]).
//!
//! One port answers everything ([`Server`]). A client announces its traffic on a TCP connection
//! (`protocol::Hello`), and the server answers no datagram of an unannounced session, so that it cannot be
//! abused as a reflector.

mod bulk;
mod channel;
mod clock;
mod connection;
mod datagram_rr;
mod datagram_sessions;
mod distribution;
mod icmp;
mod open_loop;
mod options;
mod parse;
mod protocol;
mod report;
mod response_stats;
mod round_robin;
mod server;
mod spec;
mod stop;
mod stream;
mod table;
mod tcp_info;
mod tcp_rr;
mod udp;

use std::net::SocketAddr;

use anyhow::Result;

pub use distribution::Distribution;
pub use options::Options;
pub use parse::{parse_bit_rate, parse_duration, parse_plan};
pub use report::TrafficReport;
pub use server::Server;
pub use spec::{Kind, Protocol, Size, Spec};
pub use stop::{Stop, is_hangup_ignored};
pub use table::table;
pub use udp::is_readable;

/// The port that the server listens on when no other is given.
pub const PORT: u16 = 7700;

/// Sends one run of traffic to a [`Server`] (for [`Kind::Ping`]: to any host) and reports the result. A `stop`
/// ends it early; the report then covers the traffic until then.
///
/// # Errors
///
/// One sentence when the run is not possible, or the server does not answer.
pub fn run(spec: &Spec, to: SocketAddr, stop: &Stop) -> Result<TrafficReport> {
    spec.check()?;
    match (spec.kind, spec.protocol) {
        (Kind::Rr, Protocol::Tcp) => tcp_rr::run(spec, to, stop),
        (Kind::Rr, _) | (Kind::Ping, _) => datagram_rr::run(spec, to, stop),
        (Kind::Bulk, _) => bulk::run(spec, to, stop),
        (Kind::Stream, _) => stream::run(spec, to, stop),
    }
}

#[cfg(test)]
mod tests;
