//! The client of request/response over TCP. Requests are pipelined; the answers on a connection arrive in the order
//! of its requests.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use anyhow::{Context, Result};

use super::clock;
use super::open_loop::{self, Schedule};
use super::protocol::{self, Hello, Trailer};
use super::report::TrafficReport;
use super::response_stats::ResponseStats;
use super::round_robin::{Connection, POLL_INTERVAL, SenderState};
use super::spec::Spec;
use super::stop::Stop;
use super::tcp_info::retransmits;

pub fn run(spec: &Spec, to: SocketAddr, stop: &Stop) -> Result<TrafficReport> {
    let reader_delay = spec.options.reader_delay;
    let hello = Hello::TcpRr { request: spec.size.request, answer: spec.size.answer, reader_delay };
    let connections: Vec<BufReader<TcpStream>> =
        (0..spec.connections).map(|_| protocol::connect(to, &hello)).collect::<Result<_>>()?;
    let streams: Vec<TcpStream> =
        connections.iter().map(|reader| reader.get_ref().try_clone()).collect::<Result<_, _>>()?;
    let schedule = Schedule::of(spec);
    let report =
        TrafficReport::begin(spec, streams[0].local_addr()?.to_string(), to.to_string(), schedule.start_ns);
    let state = SenderState::default();

    let (sent, received) = thread::scope(|scope| {
        let receivers: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(index, reader)| {
                let connection = Connection { index: index as u64, of: streams.len() as u64 };
                let state = &state;
                scope.spawn(move || receive(reader, spec, connection, &schedule, state))
            })
            .collect();
        let sent = send(spec, &streams, &schedule, stop);
        let (count, end_ns) = sent.as_ref().map_or((0, clock::now_ns()), |sent| (sent.count, sent.end_ns));
        state.finish(count, end_ns);
        for stream in &streams {
            // The receiver of a broken connection reports it.
            let _ = stream.shutdown(Shutdown::Write);
        }
        let received: Vec<_> = receivers.into_iter().filter_map(|thread| thread.join().ok()).collect();
        (sent, received)
    });

    let sent = sent?;
    let own: u64 = streams.iter().map(retransmits).sum();
    let theirs: u64 = received.iter().map(|(_, trailer)| trailer.retransmits).sum();
    let responses = received.into_iter().fold(ResponseStats::new(), |sum, (responses, _)| sum.add(responses));
    let mut report = report.with_responses(&schedule, &sent, &responses);
    report.retransmits = Some(own + theirs);
    Ok(report)
}

fn send(spec: &Spec, streams: &[TcpStream], schedule: &Schedule, stop: &Stop) -> Result<open_loop::Sent> {
    let request = vec![b'q'; spec.size.request as usize];
    open_loop::send_all(schedule, stop, |number, _due| {
        let mut stream = &streams[(number % streams.len() as u64) as usize];
        stream.write_all(&request).context("the connection broke, or the server read nothing for 5 seconds")
    })
}

/// Reads the answers, and after the last one the server's trailer.
fn receive(
    mut reader: BufReader<TcpStream>,
    spec: &Spec,
    connection: Connection,
    schedule: &Schedule,
    state: &SenderState,
) -> (ResponseStats, Trailer) {
    let mut responses = ResponseStats::new();
    let mut trailer = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let answer = u64::from(spec.size.answer);
    // The socket is valid; without a timeout only the wait for lost answers would be longer.
    let _ = reader.get_ref().set_read_timeout(Some(POLL_INTERVAL));
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => break,
        };
        let now_ns = clock::now_ns();
        let finished = state.finished();
        let expected = finished.map_or(u64::MAX, |(sent, _)| connection.share(sent) * answer);
        let answers = read.min(expected - responses.bytes.min(expected));
        trailer.extend_from_slice(&buffer[answers as usize..read as usize]);
        responses.bytes += answers;
        while (responses.received + 1) * answer <= responses.bytes {
            responses.count_in_order(schedule.due_ns(connection.number(responses.received)), now_ns);
        }
        if finished.is_some_and(|(_, end_ns)| now_ns > end_ns + spec.timeout.as_nanos() as u64) {
            break;
        }
    }
    (responses, serde_json::from_slice(&trailer).unwrap_or_default())
}
