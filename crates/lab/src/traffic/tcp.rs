//! The client of request/response over TCP: requests are pipelined, the answers of a connection come in
//! the order of its requests.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::pace::{self, Schedule};
use super::tally::Tally;
use super::wire::{self, Hello, Trailer};
use super::{Spec, Stop, TrafficReport, clock};

/// How often a receiver looks whether its wait is over.
pub const LOOK: Duration = Duration::from_millis(50);

/// What the receivers need to know of the sender.
#[derive(Default)]
pub struct Progress {
    sent: AtomicU64,
    end_ns: AtomicU64,
}

impl Progress {
    /// The sender has sent this many requests, and no more.
    pub fn finish(&self, sent: u64, end_ns: u64) {
        self.sent.store(sent, Ordering::Relaxed);
        self.end_ns.store(end_ns, Ordering::Release);
    }

    /// How many requests were sent and when the last was, once the sender has finished.
    pub fn finished(&self) -> Option<(u64, u64)> {
        match self.end_ns.load(Ordering::Acquire) {
            0 => None,
            end_ns => Some((self.sent.load(Ordering::Relaxed), end_ns)),
        }
    }
}

/// Requests are dealt to the connections in turn: this is one connection's place in that.
#[derive(Clone, Copy)]
pub struct Lane {
    pub index: u64,
    pub of: u64,
}

impl Lane {
    /// The number of this lane's `nth` request in the whole schedule.
    pub fn number(self, nth: u64) -> u64 {
        nth * self.of + self.index
    }

    /// How many of the first `sent` requests are this lane's.
    pub fn share(self, sent: u64) -> u64 {
        sent / self.of + u64::from(self.index < sent % self.of)
    }
}

pub fn run(spec: &Spec, to: SocketAddr, stop: &Stop) -> Result<TrafficReport> {
    let reader_delay = spec.options.reader_delay;
    let hello = Hello::TcpRr { request: spec.size.request, answer: spec.size.answer, reader_delay };
    let connections: Vec<BufReader<TcpStream>> =
        (0..spec.connections).map(|_| wire::connect(to, &hello)).collect::<Result<_>>()?;
    let streams: Vec<TcpStream> =
        connections.iter().map(|reader| reader.get_ref().try_clone()).collect::<Result<_, _>>()?;
    let schedule = Schedule::of(spec);
    let report =
        TrafficReport::begin(spec, streams[0].local_addr()?.to_string(), to.to_string(), schedule.start_ns);
    let progress = Progress::default();

    let (sent, received) = thread::scope(|scope| {
        let receivers: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(index, reader)| {
                let lane = Lane { index: index as u64, of: streams.len() as u64 };
                let progress = &progress;
                scope.spawn(move || receive(reader, spec, lane, &schedule, progress))
            })
            .collect();
        let sent = send(spec, &streams, &schedule, stop);
        let (count, end_ns) = sent.as_ref().map_or((0, clock::now_ns()), |sent| (sent.count, sent.end_ns));
        progress.finish(count, end_ns);
        for stream in &streams {
            // A connection that is broken already is noticed by its receiver.
            let _ = stream.shutdown(Shutdown::Write);
        }
        let received: Vec<_> = receivers.into_iter().filter_map(|thread| thread.join().ok()).collect();
        (sent, received)
    });

    let sent = sent?;
    let own: u64 = streams.iter().map(retransmits).sum();
    let theirs: u64 = received.iter().map(|(_, trailer)| trailer.retransmits).sum();
    let tally = received.into_iter().fold(Tally::new(), |sum, (tally, _)| sum.add(tally));
    let mut report = report.answered(&schedule, &sent, &tally);
    report.retransmits = Some(own + theirs);
    Ok(report)
}

fn send(spec: &Spec, streams: &[TcpStream], schedule: &Schedule, stop: &Stop) -> Result<pace::Sent> {
    let request = vec![b'q'; spec.size.request as usize];
    pace::send_all(schedule, stop, |number, _due| {
        let mut stream = &streams[(number % streams.len() as u64) as usize];
        stream.write_all(&request).context("the connection broke, or the server read nothing for 5 seconds")
    })
}

/// Reads answers, and after the last one the server's trailer.
fn receive(
    mut reader: BufReader<TcpStream>,
    spec: &Spec,
    lane: Lane,
    schedule: &Schedule,
    progress: &Progress,
) -> (Tally, Trailer) {
    let mut tally = Tally::new();
    let mut trailer = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let answer = u64::from(spec.size.answer);
    // The socket exists; a refused time limit would only make the wait for lost answers longer.
    let _ = reader.get_ref().set_read_timeout(Some(LOOK));
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => break,
        };
        let now_ns = clock::now_ns();
        let finished = progress.finished();
        let expected = finished.map_or(u64::MAX, |(sent, _)| lane.share(sent) * answer);
        let answers = read.min(expected - tally.bytes.min(expected));
        trailer.extend_from_slice(&buffer[answers as usize..read as usize]);
        tally.bytes += answers;
        while (tally.received + 1) * answer <= tally.bytes {
            tally.answered(schedule.due_ns(lane.number(tally.received)), now_ns);
        }
        if finished.is_some_and(|(_, end_ns)| now_ns > end_ns + spec.timeout.as_nanos() as u64) {
            break;
        }
    }
    (tally, serde_json::from_slice(&trailer).unwrap_or_default())
}

/// How many segments the kernel has sent again on this connection.
pub fn retransmits(stream: &TcpStream) -> u64 {
    // SAFETY: tcp_info is plain integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has that many.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 { u64::from(info.tcpi_total_retrans) } else { 0 }
}
