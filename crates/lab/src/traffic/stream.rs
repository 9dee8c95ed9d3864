//! A UDP stream at a constant rate: the client that sends it, and what the server counts.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::pace::{self, Schedule};
use super::tally::Seen;
use super::tcp::LOOK;
use super::wire::{self, End, Header, Hello};
use super::{Distribution, Options, Spec, Stop, TrafficReport, clock, udp};

/// What has arrived of a stream.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Arrived {
    pub packets: u64,
    pub bytes: u64,
    pub duplicates: u64,
    pub out_of_order: u64,
    /// The estimate of RFC 3550, 6.4.1, ns.
    pub jitter_ns: f64,
    /// From the first packet's arrival to the last one's, ns.
    pub duration_ns: u64,
    #[serde(skip)]
    seen: Seen,
    #[serde(skip)]
    next: u64,
    #[serde(skip)]
    first_ns: u64,
    #[serde(skip)]
    last_transit_ns: Option<i64>,
}

impl Arrived {
    /// A packet has arrived.
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
        // The two clocks may differ: only differences of transit times are used.
        let transit_ns = now_ns.wrapping_sub(header.time_ns) as i64;
        if let Some(last) = self.last_transit_ns.replace(transit_ns) {
            let difference = transit_ns.wrapping_sub(last).unsigned_abs() as f64;
            self.jitter_ns += (difference - self.jitter_ns) / 16.0;
        }
    }
}

pub fn run(spec: &Spec, to: SocketAddr, stop: &Stop) -> Result<TrafficReport> {
    let session = wire::random();
    let Options { gro, group, reader_delay, .. } = spec.options;
    let mut control = wire::connect(to, &Hello::Stream { session, reader_delay, gro, group })?;
    let local = control.get_ref().local_addr()?.ip();
    let sockets = (0..spec.connections).map(|_| open(spec, to, local)).collect::<Result<Vec<_>>>()?;
    let (train, bytes) = (u64::from(spec.options.train()), spec.size.request as usize);
    let schedule = Schedule::of_trains(spec, spec.options.train());
    let from = sockets[0].local_addr()?.to_string();
    let mut report = TrafficReport::begin(spec, from, to.to_string(), schedule.start_ns);
    let mut payload = vec![b's'; bytes * train as usize];
    let (mut failures, mut last_failure) = (0, None);
    let sent = pace::send_all(&schedule, stop, |number, _due| {
        for (packet, place) in (number * train..).zip(payload.chunks_mut(bytes)) {
            Header { session, number: packet, time_ns: clock::now_ns() }.write(place);
        }
        // What the kernel refuses does not arrive, and is counted as lost.
        if let Err(error) = sockets[(number % sockets.len() as u64) as usize].send(&payload) {
            failures += 1;
            last_failure = Some(error);
        }
        Ok(())
    })?;
    if let Some(error) = last_failure.filter(|_| failures == sent.count) {
        return Err(error).context("no packet could be sent");
    }
    let count = sent.count * train;
    wire::send_line(control.get_mut(), &End { sent: count })?;
    let arrived: Arrived =
        wire::receive_line(&mut control).context("the server did not say what it received")?;
    report.sent = count;
    report.unsent = sent.unsent * train;
    report.received = arrived.packets;
    report.lost = count.saturating_sub(arrived.packets);
    report.duplicates = arrived.duplicates;
    report.out_of_order = arrived.out_of_order;
    report.lateness = Some(Distribution::of(&sent.lateness));
    report.jitter_ns = Some(arrived.jitter_ns as u64);
    Ok(report.timed(arrived.bytes, sent.end_ns.saturating_sub(schedule.start_ns)))
}

fn open(spec: &Spec, to: SocketAddr, local: IpAddr) -> Result<UdpSocket> {
    let socket = match spec.options.group {
        Some(group) => udp::to_group(group, to.port(), local)?,
        None => udp::connected(to, LOOK)?,
    };
    if spec.options.train() > 1 {
        udp::cut_into(&socket, spec.size.request as i32)?;
    }
    Ok(socket)
}
