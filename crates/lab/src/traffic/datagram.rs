//! The client of request/response over datagrams: UDP and ICMP echo. Each request carries its number and
//! when it was due, so that answers can be lost, doubled or reordered, and each is still known.

use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;

use anyhow::{Context, Result};

use super::icmp::Icmp;
use super::pace::{self, Schedule};
use super::tally::Tally;
use super::tcp::{LOOK, Lane, Progress};
use super::wire::{self, HEADER, Header, Hello, MAX_DATAGRAM};
use super::{Kind, Protocol, Spec, Stop, TrafficReport, clock, udp};

/// A connected socket that carries datagrams with our header.
pub trait Channel: Send + Sync {
    /// Sends a payload that begins with the header.
    fn send(&self, payload: &[u8], number: u64) -> io::Result<()>;
    /// Waits at most [`LOOK`] for a datagram; gives the payload.
    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]>;
    fn local_address(&self) -> io::Result<SocketAddr>;
}

impl Channel for UdpSocket {
    fn send(&self, payload: &[u8], _number: u64) -> io::Result<()> {
        UdpSocket::send(self, payload).map(drop)
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let length = self.recv(buffer)?;
        Ok(&buffer[..length])
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

pub fn run(spec: &Spec, to: SocketAddr, stop: &Stop) -> Result<TrafficReport> {
    let session = wire::random();
    // The server answers the session's datagrams while this connection lasts.
    let _announced = announce(spec, to, session)?;
    let channels: Vec<Box<dyn Channel>> =
        (0..spec.connections).map(|_| open(spec, to)).collect::<Result<_>>()?;
    let schedule = Schedule::of(spec);
    let report = TrafficReport::begin(
        spec,
        channels[0].local_address()?.to_string(),
        to.to_string(),
        schedule.start_ns,
    );
    let progress = Progress::default();

    let (sent, tally) = thread::scope(|scope| {
        let receivers: Vec<_> = channels
            .iter()
            .enumerate()
            .map(|(index, channel)| {
                let lane = Lane { index: index as u64, of: channels.len() as u64 };
                let progress = &progress;
                scope.spawn(move || receive(channel.as_ref(), spec, session, lane, progress))
            })
            .collect();
        let sent = send(spec, &channels, session, &schedule, stop);
        let (count, end_ns) = sent.as_ref().map_or((0, clock::now_ns()), |sent| (sent.count, sent.end_ns));
        progress.finish(count, end_ns);
        let tallies = receivers.into_iter().filter_map(|thread| thread.join().ok());
        (sent, tallies.fold(Tally::new(), Tally::add))
    });
    let sent = sent?;
    Ok(report.answered(&schedule, &sent, &tally))
}

fn announce(spec: &Spec, to: SocketAddr, session: u64) -> Result<Option<BufReader<TcpStream>>> {
    if spec.kind == Kind::Ping {
        return Ok(None);
    }
    wire::connect(
        to,
        &Hello::UdpRr { session, answer: spec.size.answer, reader_delay: spec.options.reader_delay },
    )
    .map(Some)
}

fn open(spec: &Spec, to: SocketAddr) -> Result<Box<dyn Channel>> {
    match spec.protocol {
        Protocol::Icmp => Ok(Box::new(Icmp::open(to.ip())?)),
        _ => Ok(Box::new(udp::connected(to, LOOK)?)),
    }
}

fn send(
    spec: &Spec,
    channels: &[Box<dyn Channel>],
    session: u64,
    schedule: &Schedule,
    stop: &Stop,
) -> Result<pace::Sent> {
    let mut payload = vec![b'q'; spec.size.request as usize];
    let (mut failures, mut last_failure) = (0, None);
    let sent = pace::send_all(schedule, stop, |number, due_ns| {
        Header { session, number, time_ns: due_ns }.write(&mut payload);
        let channel = &channels[(number % channels.len() as u64) as usize];
        if let Err(error) = channel.send(&payload, number) {
            // What the kernel refuses is lost as surely as what the network drops, and counted so.
            failures += 1;
            last_failure = Some(error);
        }
        Ok(())
    })?;
    match last_failure {
        Some(error) if failures == sent.count => Err(error).context("no datagram could be sent"),
        _ => Ok(sent),
    }
}

fn receive(channel: &dyn Channel, spec: &Spec, session: u64, lane: Lane, progress: &Progress) -> Tally {
    let timeout_ns = spec.timeout.as_nanos() as u64;
    let mut buffer = vec![0; MAX_DATAGRAM + HEADER + 64];
    let mut tally = Tally::new();
    loop {
        if let Ok(payload) = channel.receive(&mut buffer)
            && let Some(header) = Header::read(payload)
            && header.session == session
            && header.number % lane.of == lane.index
            && clock::now_ns().saturating_sub(header.time_ns) <= timeout_ns
        {
            tally.answered_any_order(header.number / lane.of, header.time_ns, payload.len());
        }
        if let Some((sent, end_ns)) = progress.finished()
            && (tally.received >= lane.share(sent) || clock::now_ns() > end_ns + timeout_ns)
        {
            return tally;
        }
    }
}
