//! The server's side of what a client announced.

use std::collections::HashMap;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::stream::Arrived;
use super::wire::{self, End, HEADER, Header, Hello, MAX_DATAGRAM, MAX_TCP_MESSAGE, Trailer, Welcome};
use super::{MAX_COUNT, Stop, clock, tcp};

/// How long after a stream's end its last packets are waited for, when none arrives any more.
const QUIET: Duration = Duration::from_millis(300);
/// The most sessions at a time.
const LIMIT: usize = 256;

enum Session {
    Answered { bytes: usize },
    Counted(Box<Arrived>),
}

/// The announced sessions of datagrams.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<HashMap<u64, Session>>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a datagram; the length of the answer when there shall be one.
    pub fn datagram(&self, datagram: &[u8], now_ns: u64) -> Option<usize> {
        let header = Header::read(datagram).filter(|header| header.number < MAX_COUNT)?;
        match self.lock().get_mut(&header.session)? {
            Session::Answered { bytes } => Some(*bytes),
            Session::Counted(arrived) => {
                arrived.count(&header, now_ns, datagram.len());
                None
            }
        }
    }

    fn packets(&self, session: u64) -> u64 {
        match self.lock().get(&session) {
            Some(Session::Counted(arrived)) => arrived.packets,
            _ => 0,
        }
    }
}

/// Why the server will not do what was announced.
pub fn refusal(hello: &Hello) -> Option<String> {
    let (bytes, range) = match hello {
        Hello::TcpRr { request, answer } => ([*request, *answer], 1..=MAX_TCP_MESSAGE),
        Hello::UdpRr { answer, .. } => ([*answer, *answer], HEADER..=MAX_DATAGRAM),
        Hello::Stream { .. } | Hello::Bulk => return None,
    };
    let wrong = bytes.into_iter().find(|bytes| !range.contains(&(*bytes as usize)))?;
    Some(format!("a message of {wrong} bytes is not possible"))
}

/// Says that it is ready and does what was announced until the client is done.
pub fn serve(
    hello: &Hello,
    mut reader: BufReader<TcpStream>,
    sessions: &Sessions,
    stop: &Stop,
) -> Result<()> {
    match *hello {
        Hello::TcpRr { request, answer } => {
            wire::send_line(reader.get_mut(), &Welcome::Ready)?;
            answer_requests(reader, u64::from(request), answer as usize, stop)
        }
        Hello::Bulk => {
            wire::send_line(reader.get_mut(), &Welcome::Ready)?;
            let mut bytes = 0;
            read_to_end(&mut reader, stop, |_, read| {
                bytes += read;
                Ok(())
            })?;
            wire::send_line(reader.get_mut(), &Trailer { bytes, retransmits: 0 })
        }
        Hello::UdpRr { session, answer } => {
            let open = Open::new(sessions, session, Session::Answered { bytes: answer as usize });
            wire::send_line(reader.get_mut(), &open.welcome())?;
            read_to_end(&mut reader, stop, |_, _| Ok(()))
        }
        Hello::Stream { session } => {
            let open = Open::new(sessions, session, Session::Counted(Box::default()));
            wire::send_line(reader.get_mut(), &open.welcome())?;
            count_stream(reader, &open, stop)
        }
    }
}

/// A session of datagrams, for as long as this value lives.
struct Open<'a> {
    sessions: &'a Sessions,
    session: u64,
    full: bool,
}

impl<'a> Open<'a> {
    fn new(sessions: &'a Sessions, session: u64, what: Session) -> Open<'a> {
        let mut all = sessions.lock();
        let full = all.len() >= LIMIT || all.contains_key(&session);
        if !full {
            all.insert(session, what);
        }
        Open { sessions, session, full }
    }

    fn welcome(&self) -> Welcome {
        if self.full { Welcome::Refused(format!("it has {LIMIT} sessions already")) } else { Welcome::Ready }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.full {
            self.sessions.lock().remove(&self.session);
        }
    }
}

fn answer_requests(mut reader: BufReader<TcpStream>, request: u64, answer: usize, stop: &Stop) -> Result<()> {
    let answer = vec![b'a'; answer];
    let (mut bytes, mut answered) = (0, 0);
    read_to_end(&mut reader, stop, |stream, read| {
        bytes += read;
        while (answered + 1) * request <= bytes {
            stream.write_all(&answer)?;
            answered += 1;
        }
        Ok(())
    })?;
    let retransmits = tcp::retransmits(reader.get_ref());
    wire::send_line(reader.get_mut(), &Trailer { bytes, retransmits })
}

/// Reads until the client closes its side, and tells `each` how many bytes came.
fn read_to_end(
    reader: &mut BufReader<TcpStream>,
    stop: &Stop,
    mut each: impl FnMut(&mut TcpStream, u64) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => each(reader.get_mut(), read as u64)?,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                stop.check()?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for the client's word that it has sent everything, then for the last packets, and says what came.
fn count_stream(mut reader: BufReader<TcpStream>, open: &Open, stop: &Stop) -> Result<()> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match reader.read(&mut byte) {
            Ok(0) => return Ok(()),
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                stop.check()?;
            }
            Err(error) => return Err(error.into()),
        }
        anyhow::ensure!(line.len() < 1000, "the line is too long");
    }
    let end: End = serde_json::from_slice(&line)?;
    let (mut packets, mut since_ns) = (0, clock::now_ns());
    while packets < end.sent && clock::now_ns() - since_ns < QUIET.as_nanos() as u64 {
        std::thread::sleep(Duration::from_millis(5));
        let now = open.sessions.packets(open.session);
        if now > packets {
            (packets, since_ns) = (now, clock::now_ns());
        }
    }
    match open.sessions.lock().get(&open.session) {
        Some(Session::Counted(arrived)) => wire::send_line(reader.get_mut(), arrived),
        _ => Ok(()),
    }
}
