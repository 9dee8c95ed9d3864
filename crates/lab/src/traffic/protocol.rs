//! The protocol between client and server: one line of JSON in each direction on a TCP connection, and a header of
//! 24 bytes at the beginning of each datagram.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The length of [`Header`] on the wire, bytes: the smallest datagram.
pub const HEADER: usize = 24;
/// The largest payload of a datagram, bytes.
pub const MAX_DATAGRAM: usize = 65_000;
/// The largest request or answer over TCP, bytes.
pub const MAX_TCP_MESSAGE: usize = 16 << 20;

/// The maximum length of a line, bytes; a longer one is not of this protocol.
const MAX_LINE: u64 = 4096;
/// The time limit for a connection and for the peer's line.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client's first line: the traffic that it announces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "traffic", rename_all = "kebab-case")]
pub enum Hello {
    /// Requests on this connection, each answered with `answer` bytes. After the client has shut down its sending
    /// side, the server sends a [`Trailer`].
    TcpRr {
        request: u32,
        answer: u32,
        /// The server sleeps this long before each read.
        #[serde(default)]
        reader_delay: Duration,
    },
    /// Datagrams with this session number, each answered with `answer` bytes while this connection is open.
    UdpRr {
        session: u64,
        answer: u32,
        #[serde(default)]
        reader_delay: Duration,
    },
    /// Datagrams with this session number, not answered; after the client's [`End`] the server reports what arrived.
    Stream {
        session: u64,
        #[serde(default)]
        reader_delay: Duration,
        /// The server receives several packets per call (UDP_GRO).
        #[serde(default)]
        gro: bool,
        /// The packets' destination is this multicast group or broadcast address.
        #[serde(default)]
        group: Option<Ipv4Addr>,
    },
    /// Bytes on this connection until the client shuts down its sending side; then the server reports how many it
    /// received.
    Bulk {
        #[serde(default)]
        reader_delay: Duration,
    },
}

/// The server's first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Welcome {
    Ready,
    /// The reason, a sentence.
    Refused(String),
}

/// The client has sent this many packets of its stream.
#[derive(Debug, Serialize, Deserialize)]
pub struct End {
    pub sent: u64,
}

/// The server's last line on a connection of requests or bulk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Trailer {
    /// Bytes received.
    pub bytes: u64,
    /// Segments that the server retransmitted.
    pub retransmits: u64,
}

/// The beginning of each datagram, both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub session: u64,
    /// From 0.
    pub number: u64,
    /// Requests: the scheduled send time; streams: the actual send time. The client's CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
}

impl Header {
    /// Writes the header to the beginning of a datagram, which must have room for it. The number comes first: recordings
    /// have the first 8 bytes, by which `merge` tells datagrams apart that have no IP identification.
    pub fn write(&self, mut datagram: &mut [u8]) {
        datagram.put_u64(self.number);
        datagram.put_u64(self.session);
        datagram.put_u64(self.time_ns);
    }

    /// Reads the header; `None` when the datagram is too short.
    pub fn read(mut datagram: &[u8]) -> Option<Header> {
        (datagram.len() >= HEADER).then(|| Header {
            number: datagram.get_u64(),
            session: datagram.get_u64(),
            time_ns: datagram.get_u64(),
        })
    }
}

/// A random session number, which others cannot guess.
pub fn random_session() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Connects to the server and announces the traffic; the server is ready when this returns.
pub fn connect(to: SocketAddr, hello: &Hello) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&to, TIMEOUT)
        .with_context(|| format!("no answer from {to}: is `overlay-trace traffic serve` running there?"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut reader = BufReader::new(stream);
    send_line(reader.get_mut(), hello)?;
    match receive_line(&mut reader).with_context(|| format!("{to} is not an overlay-trace traffic server"))? {
        Welcome::Ready => Ok(reader),
        Welcome::Refused(why) => bail!("{to} refuses: {why}"),
    }
}

/// Writes a line.
pub fn send_line(stream: &mut impl Write, line: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    stream.write_all(&text).context("the peer closed the connection")
}

/// Reads a line of bounded length.
pub fn receive_line<T: DeserializeOwned>(stream: &mut impl BufRead) -> Result<T> {
    let mut line = Vec::new();
    stream.take(MAX_LINE).read_until(b'\n', &mut line).context("the peer sent nothing")?;
    serde_json::from_slice(&line).context("the peer sent an unexpected line")
}
