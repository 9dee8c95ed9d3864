//! The client of request/response over datagrams: UDP and ICMP echo. Each request carries its number and its
//! scheduled send time, so that lost, duplicated and reordered answers are recognized.

use std::io::BufReader;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use anyhow::{Context, Result};

use super::channel::DatagramChannel;
use super::icmp::Icmp;
use super::open_loop::{self, Schedule};
use super::protocol::{self, HEADER, Header, Hello, MAX_DATAGRAM};
use super::report::TrafficReport;
use super::response_stats::ResponseStats;
use super::round_robin::{Connection, POLL_INTERVAL, SenderState};
use super::spec::{Kind, Protocol, Spec};
use super::stop::Stop;
use super::{clock, udp};

pub fn run(spec: &Spec, to: SocketAddr, stop: &Stop) -> Result<TrafficReport> {
    let session = protocol::random_session();
    // The server answers the session's datagrams while this connection is open.
    let _announced = announce(spec, to, session)?;
    let channels: Vec<Box<dyn DatagramChannel>> =
        (0..spec.connections).map(|_| open(spec, to)).collect::<Result<_>>()?;
    let schedule = Schedule::of(spec);
    let report = TrafficReport::begin(
        spec,
        channels[0].local_address()?.to_string(),
        to.to_string(),
        schedule.start_ns,
    );
    let state = SenderState::default();

    let (sent, responses) = thread::scope(|scope| {
        let receivers: Vec<_> = channels
            .iter()
            .enumerate()
            .map(|(index, channel)| {
                let connection = Connection { index: index as u64, of: channels.len() as u64 };
                let state = &state;
                scope.spawn(move || receive(channel.as_ref(), spec, session, connection, state))
            })
            .collect();
        let sent = send(spec, &channels, session, &schedule, stop);
        let (count, end_ns) = sent.as_ref().map_or((0, clock::now_ns()), |sent| (sent.count, sent.end_ns));
        state.finish(count, end_ns);
        let all = receivers.into_iter().filter_map(|thread| thread.join().ok());
        (sent, all.fold(ResponseStats::new(), ResponseStats::add))
    });
    let sent = sent?;
    Ok(report.with_responses(&schedule, &sent, &responses))
}

fn announce(spec: &Spec, to: SocketAddr, session: u64) -> Result<Option<BufReader<TcpStream>>> {
    if spec.kind == Kind::Ping {
        return Ok(None);
    }
    protocol::connect(
        to,
        &Hello::UdpRr { session, answer: spec.size.answer, reader_delay: spec.options.reader_delay },
    )
    .map(Some)
}

fn open(spec: &Spec, to: SocketAddr) -> Result<Box<dyn DatagramChannel>> {
    match spec.protocol {
        Protocol::Icmp => Ok(Box::new(Icmp::open(to.ip())?)),
        _ => Ok(Box::new(udp::connected(to, POLL_INTERVAL)?)),
    }
}

fn send(
    spec: &Spec,
    channels: &[Box<dyn DatagramChannel>],
    session: u64,
    schedule: &Schedule,
    stop: &Stop,
) -> Result<open_loop::Sent> {
    let mut payload = vec![b'q'; spec.size.request as usize];
    let (mut failures, mut last_failure) = (0, None);
    let sent = open_loop::send_all(schedule, stop, |number, due_ns| {
        Header { session, number, time_ns: due_ns }.write(&mut payload);
        let channel = &channels[(number % channels.len() as u64) as usize];
        if let Err(error) = channel.send(&payload, number) {
            // A datagram that the kernel rejects counts as lost, like one that the network drops.
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

fn receive(
    channel: &dyn DatagramChannel,
    spec: &Spec,
    session: u64,
    connection: Connection,
    state: &SenderState,
) -> ResponseStats {
    let timeout_ns = spec.timeout.as_nanos() as u64;
    let mut buffer = vec![0; MAX_DATAGRAM + HEADER + 64];
    let mut responses = ResponseStats::new();
    loop {
        if let Ok(payload) = channel.receive(&mut buffer)
            && let Some(header) = Header::read(payload)
            && header.session == session
            && header.number % connection.of == connection.index
            && clock::now_ns().saturating_sub(header.time_ns) <= timeout_ns
        {
            responses.count_any_order(header.number / connection.of, header.time_ns, payload.len());
        }
        if let Some((sent, end_ns)) = state.finished()
            && (responses.received >= connection.share(sent) || clock::now_ns() > end_ns + timeout_ns)
        {
            return responses;
        }
    }
}
