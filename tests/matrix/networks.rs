//! The traffic of the recordings.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use overlay_trace_lab::dataplanes::{Running, drive};
use overlay_trace_lab::traffic::{self, Kind, PORT, Protocol, Spec, Stop, TrafficReport};

/// Requests per second: moderate, also for an emulated machine.
const RATE: f64 = 300.0;
const DURATION: Duration = Duration::from_millis(1500);

/// A run of this kind at a moderate rate.
pub fn moderate(kind: Kind, protocol: Protocol) -> Spec {
    Spec { rate: RATE, duration: DURATION, timeout: Duration::from_secs(3), ..Spec::new(kind, protocol) }
}

/// Requests over UDP, then over TCP.
pub fn requests(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let plan = [Protocol::Udp, Protocol::Tcp].map(|protocol| moderate(Kind::Rr, protocol));
    drive(running, &plan, stop)
}

/// The same, and then as much data over TCP as can be sent in a moment.
pub fn requests_and_bulk(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let mut plan = [Protocol::Udp, Protocol::Tcp].map(|protocol| moderate(Kind::Rr, protocol)).to_vec();
    plan.push(Spec { duration: Duration::from_millis(500), ..moderate(Kind::Bulk, Protocol::Tcp) });
    drive(running, &plan, stop)
}

/// Requests over UDP, then over TCP, and pings between the nodes, which no pod sees.
pub fn requests_and_node_pings(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let node2: SocketAddr = SocketAddr::new("192.0.2.2".parse()?, PORT);
    let ping = Spec { count: Some(50), ..moderate(Kind::Ping, Protocol::Icmp) };
    running.netns("node1")?.run(|| traffic::run(&ping, node2, stop))??;
    requests(running, stop)
}

/// The connections of [`connections`], and the bytes of an answer: more than a socket's buffers take at once.
const CONNECTIONS: usize = 300;
const ANSWER: usize = 100_000;

/// Short connections, as a client of a web server makes them: a request, an answer, and the server closes.
pub fn connections(running: &Running, _: &Stop) -> Result<Vec<TrafficReport>> {
    let (server, client) = (running.server()?, running.client()?);
    let address = running.listen_address()?;
    let listener = server.netns.run(|| TcpListener::bind((address.ip(), 0)))??;
    let address = listener.local_addr()?;
    let answers = thread::spawn(move || -> Result<()> {
        for stream in listener.incoming().take(CONNECTIONS) {
            let mut stream = stream?;
            stream.read_exact(&mut [0; 60])?;
            stream.write_all(&[b'.'; ANSWER])?;
        }
        Ok(())
    });
    for _ in 0..CONNECTIONS {
        let mut stream = client.netns.run(|| TcpStream::connect(address))??;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&[b'?'; 60])?;
        let length = stream.read_to_end(&mut Vec::new())?;
        anyhow::ensure!(length == ANSWER, "the answer has {length} bytes");
    }
    answers.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    Ok(Vec::new())
}
