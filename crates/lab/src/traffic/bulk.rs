//! The client of bulk traffic: as much throughput as N TCP connections reach.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::thread;

use anyhow::{Context, Result, anyhow};

use super::protocol::{self, Hello, Trailer};
use super::report::TrafficReport;
use super::spec::Spec;
use super::stop::Stop;
use super::{clock, tcp_info};

/// Bytes per write call.
const CHUNK: usize = 128 << 10;

struct Stream {
    from: SocketAddr,
    bytes: u64,
    end_ns: u64,
    retransmits: u64,
}

pub fn run(spec: &Spec, to: SocketAddr, stop: &Stop) -> Result<TrafficReport> {
    let start_ns = clock::now_ns();
    let deadline_ns = start_ns + spec.duration.as_nanos() as u64;
    let streams = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..spec.connections).map(|_| scope.spawn(|| send(spec, to, deadline_ns, stop))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a sending thread failed"))?)
            .collect::<Result<Vec<Stream>>>()
    })?;
    let from = streams[0].from.to_string();
    let bytes = streams.iter().map(|stream| stream.bytes).sum();
    let end_ns = streams.iter().map(|stream| stream.end_ns).max().unwrap_or(start_ns);
    let mut report =
        TrafficReport::begin(spec, from, to.to_string(), start_ns).with_throughput(bytes, end_ns - start_ns);
    report.retransmits = Some(streams.iter().map(|stream| stream.retransmits).sum());
    Ok(report)
}

/// Sends until the deadline. Only bytes that the server received count.
fn send(spec: &Spec, to: SocketAddr, deadline_ns: u64, stop: &Stop) -> Result<Stream> {
    let mut reader = protocol::connect(to, &Hello::Bulk { reader_delay: spec.options.reader_delay })?;
    let chunk = vec![b'b'; CHUNK];
    while clock::now_ns() < deadline_ns && !stop.is_set() {
        reader
            .get_mut()
            .write_all(&chunk)
            .context("the connection broke, or the server read nothing for 5 seconds")?;
    }
    reader.get_ref().shutdown(Shutdown::Write)?;
    let trailer: Trailer = protocol::receive_line(&mut reader).context("the server sent no result")?;
    Ok(Stream {
        from: reader.get_ref().local_addr()?,
        bytes: trailer.bytes,
        end_ns: clock::now_ns(),
        retransmits: tcp_info::retransmits(reader.get_ref()),
    })
}
