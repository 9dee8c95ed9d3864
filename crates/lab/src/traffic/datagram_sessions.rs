//! The server's announced datagram sessions, and the threads that receive the datagrams.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::protocol::{HEADER, Header, MAX_DATAGRAM, Welcome};
use super::spec::MAX_COUNT;
use super::stop::{POLL_INTERVAL, Stop};
use super::stream::StreamStats;
use super::{clock, udp};

/// The maximum number of concurrent sessions.
const LIMIT: usize = 256;

/// How a session's datagrams are handled.
pub enum Session {
    /// Each is answered with this many bytes.
    Answered { bytes: usize },
    /// They are counted, not answered.
    Counted(Box<StreamStats>),
}

struct Entry {
    session: Session,
    /// The receiving thread sleeps this long before each read.
    reader_delay: Duration,
}

/// The announced sessions.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Shared>);

#[derive(Default)]
struct Shared {
    announced: Mutex<HashMap<u64, Entry>>,
    /// How often the receiving thread has read the session table.
    table_reads: AtomicU64,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.0.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a datagram; returns the length of the answer, if there is one.
    fn datagram(&self, datagram: &[u8], now_ns: u64) -> Option<usize> {
        let header = Header::read(datagram).filter(|header| header.number < MAX_COUNT)?;
        match &mut self.lock().get_mut(&header.session)?.session {
            Session::Answered { bytes } => Some(*bytes),
            Session::Counted(stats) => {
                stats.count(&header, now_ns, datagram.len());
                None
            }
        }
    }

    /// The sleep before each read: the largest reader delay of all sessions.
    fn reader_delay(&self) -> Duration {
        let delay = self.lock().values().map(|announced| announced.reader_delay).max().unwrap_or_default();
        self.0.table_reads.fetch_add(1, Ordering::Relaxed);
        delay
    }

    /// Waits until the receiving thread has read the session table once more.
    fn wait_for_table_read(&self) {
        let (before, begun) = (self.0.table_reads.load(Ordering::Relaxed), Instant::now());
        while self.0.table_reads.load(Ordering::Relaxed) == before && begun.elapsed() < POLL_INTERVAL * 10 {
            thread::sleep(POLL_INTERVAL / 20);
        }
    }

    /// Calls `read` with the statistics of a stream session.
    pub fn stream_stats<T>(&self, session: u64, read: impl FnOnce(&StreamStats) -> T) -> Option<T> {
        match &self.lock().get(&session)?.session {
            Session::Counted(stats) => Some(read(stats)),
            Session::Answered { .. } => None,
        }
    }
}

/// A datagram session that is in the table while this value lives.
pub struct SessionGuard<'a> {
    sessions: &'a Sessions,
    number: u64,
    full: bool,
}

impl<'a> SessionGuard<'a> {
    pub fn new(
        sessions: &'a Sessions,
        number: u64,
        session: Session,
        reader_delay: Duration,
    ) -> SessionGuard<'a> {
        let mut all = sessions.lock();
        let full = all.len() >= LIMIT || all.contains_key(&number);
        if !full {
            all.insert(number, Entry { session, reader_delay });
        }
        drop(all);
        if !reader_delay.is_zero() {
            sessions.wait_for_table_read();
        }
        SessionGuard { sessions, number, full }
    }

    pub fn welcome(&self) -> Welcome {
        if self.full { Welcome::Refused(format!("it already has {LIMIT} sessions")) } else { Welcome::Ready }
    }
}

impl Drop for SessionGuard<'_> {
    fn drop(&mut self) {
        if !self.full {
            self.sessions.lock().remove(&self.number);
        }
    }
}

/// Receives datagrams from a socket, and counts or answers them, until `stop` is set.
pub fn receive_datagrams(socket: &UdpSocket, sessions: &Sessions, stop: &Stop) {
    let mut buffer = vec![0; udp::MAX_RECEIVE];
    let mut answer = vec![b'a'; MAX_DATAGRAM];
    while !stop.is_set() {
        let delay = sessions.reader_delay();
        if !delay.is_zero() {
            if !udp::is_readable(socket, POLL_INTERVAL) {
                continue;
            }
            thread::sleep(delay);
        }
        let Ok(received) = udp::receive(socket, &mut buffer) else { continue };
        let now_ns = clock::now_ns();
        for datagram in buffer[..received.bytes].chunks(received.segment) {
            if let Some(bytes) = sessions.datagram(datagram, now_ns) {
                let answer = &mut answer[..bytes];
                answer[..HEADER].copy_from_slice(&datagram[..HEADER]);
                // An answer that cannot be sent is lost; the client counts it.
                let _ = socket.send_to(answer, received.from);
            }
        }
    }
}
