//! The server's side of what a client announced.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::server::LOOK;
use super::sessions::{Open, Session, Sessions, take_datagrams};
use super::wire::{self, End, HEADER, Hello, MAX_DATAGRAM, MAX_TCP_MESSAGE, Trailer, Welcome};
use super::{Stop, clock, tcp, udp};

/// How long after a stream's end its last packets are waited for, when none arrives any more.
const QUIET: Duration = Duration::from_millis(300);
/// The longest that a client may ask to sleep.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Why the server will not do what was announced.
pub fn refusal(hello: &Hello) -> Option<String> {
    let (bytes, range, delay) = match hello {
        Hello::TcpRr { request, answer, reader_delay } => {
            ([*request, *answer], 1..=MAX_TCP_MESSAGE, reader_delay)
        }
        Hello::UdpRr { answer, reader_delay, .. } => ([*answer; 2], HEADER..=MAX_DATAGRAM, reader_delay),
        Hello::Stream { reader_delay, .. } | Hello::Bulk { reader_delay } => ([1; 2], 1..=1, reader_delay),
    };
    if *delay > MAX_DELAY {
        return Some(format!("it does not sleep for {delay:?}"));
    }
    let wrong = bytes.into_iter().find(|bytes| !range.contains(&(*bytes as usize)))?;
    Some(format!("a message of {wrong} bytes is not possible"))
}

/// Says that it is ready and does what was announced until the client is done. `socket` is the server's own
/// for datagrams.
pub fn serve(
    hello: &Hello,
    reader: BufReader<TcpStream>,
    socket: &UdpSocket,
    sessions: &Sessions,
    stop: &Stop,
) -> Result<()> {
    match *hello {
        Hello::TcpRr { request, answer, reader_delay } => {
            let connection = Connection { reader, reader_delay, stop };
            connection.answer_requests(u64::from(request), answer as usize)
        }
        Hello::Bulk { reader_delay } => Connection { reader, reader_delay, stop }.swallow(),
        Hello::UdpRr { session, answer, reader_delay } => {
            let what = Session::Answered { bytes: answer as usize };
            let open = Open::new(sessions, session, what, reader_delay);
            let mut connection = Connection { reader, reader_delay: Duration::ZERO, stop };
            connection.say(&open.welcome())?;
            connection.read_to_end(|_, _| Ok(()))
        }
        Hello::Stream { session, reader_delay, gro, group } => {
            let what = Session::Counted(Box::default());
            let open = Open::new(sessions, session, what, reader_delay);
            let _many = gro.then(|| ManyAtOnce::allow(socket)).transpose()?;
            let connection = Connection { reader, reader_delay: Duration::ZERO, stop };
            match group {
                None => connection.count_stream(session, sessions, &open.welcome()),
                Some(group) => connection.count_group(group, (session, sessions), &open.welcome(), gro),
            }
        }
    }
}

/// The kernel may hand over several datagrams at once, for as long as this value lives.
struct ManyAtOnce<'a>(&'a UdpSocket);

impl<'a> ManyAtOnce<'a> {
    fn allow(socket: &'a UdpSocket) -> Result<ManyAtOnce<'a>> {
        udp::allow_many(socket, true)?;
        Ok(ManyAtOnce(socket))
    }
}

impl Drop for ManyAtOnce<'_> {
    fn drop(&mut self) {
        // What was possible before is possible again.
        let _ = udp::allow_many(self.0, false);
    }
}

/// A client's connection.
struct Connection<'a> {
    reader: BufReader<TcpStream>,
    reader_delay: Duration,
    stop: &'a Stop,
}

impl Connection<'_> {
    fn say(&mut self, line: &impl serde::Serialize) -> Result<()> {
        wire::send_line(self.reader.get_mut(), line)
    }

    fn answer_requests(mut self, request: u64, answer: usize) -> Result<()> {
        self.say(&Welcome::Ready)?;
        let answer = vec![b'a'; answer];
        let (mut bytes, mut answered) = (0, 0);
        self.read_to_end(|stream, read| {
            bytes += read;
            while (answered + 1) * request <= bytes {
                stream.write_all(&answer)?;
                answered += 1;
            }
            Ok(())
        })?;
        let retransmits = tcp::retransmits(self.reader.get_ref());
        self.say(&Trailer { bytes, retransmits })
    }

    /// Takes all that comes, and says how much it was.
    fn swallow(mut self) -> Result<()> {
        self.say(&Welcome::Ready)?;
        let mut bytes = 0;
        self.read_to_end(|_, read| {
            bytes += read;
            Ok(())
        })?;
        self.say(&Trailer { bytes, retransmits: 0 })
    }

    /// Reads until the client closes its side, and tells `each` how many bytes came.
    fn read_to_end(&mut self, mut each: impl FnMut(&mut TcpStream, u64) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            if !self.reader_delay.is_zero() && self.reader.buffer().is_empty() {
                if !udp::is_readable(self.reader.get_ref(), LOOK) {
                    self.stop.check()?;
                    continue;
                }
                thread::sleep(self.reader_delay);
            }
            match self.reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => each(self.reader.get_mut(), read as u64)?,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    self.stop.check()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As [`Connection::count_stream`], for packets to a group, which come to a socket of their own.
    fn count_group(
        self,
        group: Ipv4Addr,
        (session, sessions): (u64, &Sessions),
        welcome: &Welcome,
        gro: bool,
    ) -> Result<()> {
        let socket = udp::of_group(group, self.reader.get_ref().local_addr()?, LOOK)?;
        if gro {
            udp::allow_many(&socket, true)?;
        }
        let done = Stop::new();
        thread::scope(|scope| {
            scope.spawn(|| take_datagrams(&socket, sessions, &done));
            let result = self.count_stream(session, sessions, welcome);
            done.set();
            result
        })
    }

    /// Waits for the client's word that it has sent everything, then for the last packets, and says what came.
    fn count_stream(mut self, session: u64, sessions: &Sessions, welcome: &Welcome) -> Result<()> {
        self.say(welcome)?;
        let Some(line) = self.read_line()? else { return Ok(()) };
        let end: End = serde_json::from_slice(&line)?;
        let (mut packets, mut since_ns) = (0, clock::now_ns());
        while packets < end.sent && clock::now_ns() - since_ns < QUIET.as_nanos() as u64 {
            thread::sleep(Duration::from_millis(5));
            let now = sessions.arrived(session, |arrived| arrived.packets).unwrap_or(0);
            if now > packets {
                (packets, since_ns) = (now, clock::now_ns());
            }
        }
        sessions.arrived(session, |arrived| self.say(arrived)).unwrap_or(Ok(()))
    }

    /// A line; nothing if the client closes its side before.
    fn read_line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            match self.reader.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) if byte[0] == b'\n' => return Ok(Some(line)),
                Ok(_) => line.push(byte[0]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    self.stop.check()?;
                }
                Err(error) => return Err(error.into()),
            }
            anyhow::ensure!(line.len() < 1000, "the line is too long");
        }
    }
}
