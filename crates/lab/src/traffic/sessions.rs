//! The announced sessions of datagrams, and the threads that take the datagrams.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::server::LOOK;
use super::stream::Arrived;
use super::wire::{HEADER, Header, MAX_DATAGRAM, Welcome};
use super::{MAX_COUNT, Stop, clock, udp};

/// The most sessions at a time.
const LIMIT: usize = 256;

/// What is done with a session's datagrams.
pub enum Session {
    Answered { bytes: usize },
    Counted(Box<Arrived>),
}

struct Announced {
    session: Session,
    /// Who takes the session's datagrams sleeps so long before.
    reader_delay: Duration,
}

/// The announced sessions.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Shared>);

#[derive(Default)]
struct Shared {
    announced: Mutex<HashMap<u64, Announced>>,
    /// How often the thread that takes datagrams has looked at the sessions.
    looks: AtomicU64,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Announced>> {
        self.0.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a datagram; the length of the answer when there shall be one.
    fn datagram(&self, datagram: &[u8], now_ns: u64) -> Option<usize> {
        let header = Header::read(datagram).filter(|header| header.number < MAX_COUNT)?;
        match &mut self.lock().get_mut(&header.session)?.session {
            Session::Answered { bytes } => Some(*bytes),
            Session::Counted(arrived) => {
                arrived.count(&header, now_ns, datagram.len());
                None
            }
        }
    }

    /// How long to sleep before datagrams are taken: as the slowest session asks.
    fn reader_delay(&self) -> Duration {
        let delay = self.lock().values().map(|announced| announced.reader_delay).max().unwrap_or_default();
        self.0.looks.fetch_add(1, Ordering::Relaxed);
        delay
    }

    /// Waits until whoever takes the datagrams knows of the sessions that there are now.
    fn wait_for_look(&self) {
        let (before, begun) = (self.0.looks.load(Ordering::Relaxed), Instant::now());
        while self.0.looks.load(Ordering::Relaxed) == before && begun.elapsed() < LOOK * 10 {
            thread::sleep(LOOK / 20);
        }
    }

    /// What was counted of a session.
    pub fn arrived<T>(&self, session: u64, of: impl FnOnce(&Arrived) -> T) -> Option<T> {
        match &self.lock().get(&session)?.session {
            Session::Counted(arrived) => Some(of(arrived)),
            Session::Answered { .. } => None,
        }
    }
}

/// A session of datagrams, for as long as this value lives.
pub struct Open<'a> {
    sessions: &'a Sessions,
    number: u64,
    full: bool,
}

impl<'a> Open<'a> {
    pub fn new(sessions: &'a Sessions, number: u64, session: Session, reader_delay: Duration) -> Open<'a> {
        let mut all = sessions.lock();
        let full = all.len() >= LIMIT || all.contains_key(&number);
        if !full {
            all.insert(number, Announced { session, reader_delay });
        }
        drop(all);
        if !reader_delay.is_zero() {
            sessions.wait_for_look();
        }
        Open { sessions, number, full }
    }

    pub fn welcome(&self) -> Welcome {
        if self.full { Welcome::Refused(format!("it has {LIMIT} sessions already")) } else { Welcome::Ready }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.full {
            self.sessions.lock().remove(&self.number);
        }
    }
}

/// Takes datagrams from a socket, and counts or answers them, until it shall stop.
pub fn take_datagrams(socket: &UdpSocket, sessions: &Sessions, stop: &Stop) {
    let mut buffer = vec![0; udp::LARGEST];
    let mut answer = vec![b'a'; MAX_DATAGRAM];
    while !stop.is_set() {
        let delay = sessions.reader_delay();
        if !delay.is_zero() {
            if !udp::is_readable(socket, LOOK) {
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
                // An answer that cannot be sent is lost, as the client will see.
                let _ = socket.send_to(answer, received.from);
            }
        }
    }
}
