//! A UDP stream at a constant rate: the client that sends it, and the statistics of the server.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::distribution::Distribution;
use super::open_loop::{self, Schedule};
use super::options::Options;
use super::protocol::{self, End, Header, Hello};
use super::report::TrafficReport;
use super::response_stats::SequenceSet;
use super::round_robin::POLL_INTERVAL;
use super::spec::Spec;
use super::stop::Stop;
use super::{clock, udp};

/// The packets of a stream that have stats.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct StreamStats {
    pub packets: u64,
    pub bytes: u64,
    pub duplicates: u64,
    pub out_of_order: u64,
    /// The estimate of RFC 3550, 6.4.1, ns.
    pub jitter_ns: f64,
    /// From the first packet's arrival to the last one's, ns.
    pub duration_ns: u64,
    #[serde(skip)]
    seen: SequenceSet,
    #[serde(skip)]
    next: u64,
    #[serde(skip)]
    first_ns: u64,
    #[serde(skip)]
    last_transit_ns: Option<i64>,
}

impl StreamStats {
    /// Counts a packet that has stats.
    pub fn count(&mut self, header: &Header, now_ns: u64, bytes: usize) {
        if !self.seen.insert(header.number) {
            self.duplicates += 1;
            return;
        }
        if header.number < self.next {
            self.out_of_order += 1;
        }
        self.next = self.next.max(header.number + 1);
        if self.packets == 0 {
            self.first_ns = now_ns;
        }
        self.packets += 1;
        self.bytes += bytes as u64;
        self.duration_ns = now_ns - self.first_ns;
        // The clocks of the two ends may differ; only differences of transit times are used.
        let transit_ns = now_ns.wrapping_sub(header.time_ns) as i64;
        if let Some(last) = self.last_transit_ns.replace(transit_ns) {
            let difference = transit_ns.wrapping_sub(last).unsigned_abs() as f64;
            self.jitter_ns += (difference - self.jitter_ns) / 16.0;
        }
    }
}

pub fn run(spec: &Spec, to: SocketAddr, stop: &Stop) -> Result<TrafficReport> {
    let session = protocol::random_session();
    let Options { gro, group, reader_delay, .. } = spec.options;
    let mut control = protocol::connect(to, &Hello::Stream { session, reader_delay, gro, group })?;
    let local = control.get_ref().local_addr()?.ip();
    let sockets = (0..spec.connections).map(|_| open(spec, to, local)).collect::<Result<Vec<_>>>()?;
    let (batch, bytes) = (u64::from(spec.options.gso_batch()), spec.size.request as usize);
    let schedule = Schedule::of_batches(spec, spec.options.gso_batch());
    let from = sockets[0].local_addr()?.to_string();
    let mut report = TrafficReport::begin(spec, from, to.to_string(), schedule.start_ns);
    let mut payload = vec![b's'; bytes * batch as usize];
    let (mut failures, mut last_failure) = (0, None);
    let sent = open_loop::send_all(&schedule, stop, |number, _due| {
        for (packet, datagram) in (number * batch..).zip(payload.chunks_mut(bytes)) {
            Header { session, number: packet, time_ns: clock::now_ns() }.write(datagram);
        }
        // A packet that the kernel rejects counts as lost.
        if let Err(error) = sockets[(number % sockets.len() as u64) as usize].send(&payload) {
            failures += 1;
            last_failure = Some(error);
        }
        Ok(())
    })?;
    if let Some(error) = last_failure.filter(|_| failures == sent.count) {
        return Err(error).context("no packet could be sent");
    }
    let count = sent.count * batch;
    protocol::send_line(control.get_mut(), &End { sent: count })?;
    let stats: StreamStats = protocol::receive_line(&mut control).context("the server sent no result")?;
    report.sent = count;
    report.unsent = sent.unsent * batch;
    report.received = stats.packets;
    report.lost = count.saturating_sub(stats.packets);
    report.duplicates = stats.duplicates;
    report.out_of_order = stats.out_of_order;
    report.scheduling_delay = Some(Distribution::of(&sent.scheduling_delay));
    report.jitter_ns = Some(stats.jitter_ns as u64);
    Ok(report.with_throughput(stats.bytes, sent.end_ns.saturating_sub(schedule.start_ns)))
}

fn open(spec: &Spec, to: SocketAddr, local: IpAddr) -> Result<UdpSocket> {
    let socket = match spec.options.group {
        Some(group) => udp::group_sender(group, to.port(), local)?,
        None => udp::connected(to, POLL_INTERVAL)?,
    };
    if spec.options.gso_batch() > 1 {
        udp::set_gso_size(&socket, spec.size.request as i32)?;
    }
    Ok(socket)
}
