//! The server's side of one client connection.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::datagram_sessions::{Session, SessionGuard, Sessions, receive_datagrams};
use super::protocol::{self, End, HEADER, Hello, MAX_DATAGRAM, MAX_TCP_MESSAGE, Trailer, Welcome};
use super::stop::{POLL_INTERVAL, Stop};
use super::{clock, tcp_info, udp};

/// A stream is complete when no packet arrives for this long after its end.
const QUIET_PERIOD: Duration = Duration::from_millis(300);
/// The maximum reader delay that a client may request.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Why the server refuses the announced traffic; `None` when it accepts.
pub fn refusal(hello: &Hello) -> Option<String> {
    let (bytes, range, delay) = match hello {
        Hello::TcpRr { request, answer, reader_delay } => {
            ([*request, *answer], 1..=MAX_TCP_MESSAGE, reader_delay)
        }
        Hello::UdpRr { answer, reader_delay, .. } => ([*answer; 2], HEADER..=MAX_DATAGRAM, reader_delay),
        Hello::Stream { reader_delay, .. } | Hello::Bulk { reader_delay } => ([1; 2], 1..=1, reader_delay),
    };
    if *delay > MAX_DELAY {
        return Some(format!("a reader delay of {delay:?} is too long"));
    }
    let wrong = bytes.into_iter().find(|bytes| !range.contains(&(*bytes as usize)))?;
    Some(format!("a message of {wrong} bytes is not possible"))
}

/// Sends that the server is ready, and handles the announced traffic until the client has finished. `socket` is the
/// server's UDP socket.
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
        Hello::Bulk { reader_delay } => Connection { reader, reader_delay, stop }.receive_bulk(),
        Hello::UdpRr { session, answer, reader_delay } => {
            let kind = Session::Answered { bytes: answer as usize };
            let guard = SessionGuard::new(sessions, session, kind, reader_delay);
            let mut connection = Connection { reader, reader_delay: Duration::ZERO, stop };
            connection.send(&guard.welcome())?;
            connection.read_to_end(|_, _| Ok(()))
        }
        Hello::Stream { session, reader_delay, gro, group } => {
            let kind = Session::Counted(Box::default());
            let guard = SessionGuard::new(sessions, session, kind, reader_delay);
            let _gro = gro.then(|| GroGuard::enable(socket)).transpose()?;
            let connection = Connection { reader, reader_delay: Duration::ZERO, stop };
            match group {
                None => connection.count_stream(session, sessions, &guard.welcome()),
                Some(group) => connection.count_group(group, (session, sessions), &guard.welcome(), gro),
            }
        }
    }
}

/// UDP_GRO is enabled on the socket while this value lives.
struct GroGuard<'a>(&'a UdpSocket);

impl<'a> GroGuard<'a> {
    fn enable(socket: &'a UdpSocket) -> Result<GroGuard<'a>> {
        udp::set_gro(socket, true)?;
        Ok(GroGuard(socket))
    }
}

impl Drop for GroGuard<'_> {
    fn drop(&mut self) {
        // It was possible before, so it does not fail.
        let _ = udp::set_gro(self.0, false);
    }
}

/// A client's connection.
struct Connection<'a> {
    reader: BufReader<TcpStream>,
    reader_delay: Duration,
    stop: &'a Stop,
}

impl Connection<'_> {
    fn send(&mut self, line: &impl serde::Serialize) -> Result<()> {
        protocol::send_line(self.reader.get_mut(), line)
    }

    fn answer_requests(mut self, request: u64, answer: usize) -> Result<()> {
        self.send(&Welcome::Ready)?;
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
        let retransmits = tcp_info::retransmits(self.reader.get_ref());
        self.send(&Trailer { bytes, retransmits })
    }

    /// Discards all bytes and reports their number.
    fn receive_bulk(mut self) -> Result<()> {
        self.send(&Welcome::Ready)?;
        let mut bytes = 0;
        self.read_to_end(|_, read| {
            bytes += read;
            Ok(())
        })?;
        self.send(&Trailer { bytes, retransmits: 0 })
    }

    /// Reads until the client shuts down its sending side, and calls `each` with the number of bytes read.
    fn read_to_end(&mut self, mut each: impl FnMut(&mut TcpStream, u64) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            if !self.reader_delay.is_zero() && self.reader.buffer().is_empty() {
                if !udp::is_readable(self.reader.get_ref(), POLL_INTERVAL) {
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

    /// As [`Connection::count_stream`], for packets to a group, which need a socket of their own.
    fn count_group(
        self,
        group: Ipv4Addr,
        (session, sessions): (u64, &Sessions),
        welcome: &Welcome,
        gro: bool,
    ) -> Result<()> {
        let socket = udp::group_receiver(group, self.reader.get_ref().local_addr()?, POLL_INTERVAL)?;
        if gro {
            udp::set_gro(&socket, true)?;
        }
        let done = Stop::new();
        thread::scope(|scope| {
            scope.spawn(|| receive_datagrams(&socket, sessions, &done));
            let result = self.count_stream(session, sessions, welcome);
            done.set();
            result
        })
    }

    /// Waits for the client's [`End`], then for the last packets, and sends the statistics.
    fn count_stream(mut self, session: u64, sessions: &Sessions, welcome: &Welcome) -> Result<()> {
        self.send(welcome)?;
        let Some(line) = self.read_line()? else { return Ok(()) };
        let end: End = serde_json::from_slice(&line)?;
        let (mut packets, mut since_ns) = (0, clock::now_ns());
        while packets < end.sent && clock::now_ns() - since_ns < QUIET_PERIOD.as_nanos() as u64 {
            thread::sleep(Duration::from_millis(5));
            let now = sessions.stream_stats(session, |stats| stats.packets).unwrap_or(0);
            if now > packets {
                (packets, since_ns) = (now, clock::now_ns());
            }
        }
        sessions.stream_stats(session, |stats| self.send(stats)).unwrap_or(Ok(()))
    }

    /// Reads a line; `None` if the client shuts down its sending side before it.
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
