//! A tunnel device that comes during the recording: what is inside the packets to its port is known from soon
//! after on.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use overlay_trace_format::Recording;

use crate::node::Of;
use crate::own::{is_exact, pair};
use crate::results::{Results, Verdict};

pub const NAME: &str = "node/tunnel-created-later";

/// The port of the tunnel, which no other test and no usual tunnel uses, and that of the packet inside.
const PORT: u16 = 7724;
const INSIDE: u16 = 7725;
/// Sent before there is the tunnel, and when it is known.
const COUNT: usize = 20;
const PACE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(300);

/// Sends what a VXLAN device would send, from a socket: that it carries another packet is told by its port
/// alone.
pub fn run(of: Of, results: &mut Results) -> Result<()> {
    let network = pair()?;
    let plan = of("late-tunnel", &[network.name("a")]);
    let file = plan.file();
    let (recording, ()) = plan.record(|_| {
        let socket = network.netns("a")?.run(|| UdpSocket::bind("0.0.0.0:0"))??;
        (0..COUNT).for_each(|_| send(&socket));
        let device = format!("link add late type vxlan id 7 dstport {PORT} local 10.98.0.2");
        network.ip_in("b", &format!("{device}\naddr add 10.95.0.2/24 dev late\nlink set late up"))?;
        let begin = Instant::now();
        while ports(&Recording::open(&file)?)?.last() != Some(&INSIDE) {
            ensure!(begin.elapsed() < PATIENCE, "what is inside the tunnel is never known");
            send(&socket);
        }
        (0..COUNT).for_each(|_| send(&socket));
        Ok(())
    })?;
    is_exact(&recording)?;
    let ports = ports(&recording)?;
    let outside = ports.iter().take_while(|port| **port == PORT).count();
    let inside = ports.len() - outside;
    ensure!(ports[outside..].iter().all(|port| *port == INSIDE), "the tunnel was known, and then it was not");
    ensure!(outside >= COUNT, "{outside} of {COUNT} packets were recorded before the tunnel came");
    ensure!(inside > COUNT, "{inside} packets inside the tunnel were recorded, at least {COUNT} were sent");
    results.add(NAME, Ok(Verdict::With(format!("{outside} packets as they were sent, {inside} as inside"))));
    Ok(())
}

/// Where nobody listens yet, the socket is told so; that is no failure of sending.
fn send(socket: &UdpSocket) {
    let _ = socket.send_to(&encapsulated(), SocketAddr::from(([10, 98, 0, 2], PORT)));
    thread::sleep(PACE);
}

/// The ports that the packets were sent to, as recorded, in their order.
fn ports(recording: &Recording) -> Result<Vec<u16>> {
    let mut packets = Vec::new();
    recording.for_each_record(|record| {
        let flow = record.header.flow;
        if flow.protocol == 17 && [PORT, INSIDE].contains(&flow.destination_port) {
            packets.push((record.header.start_ns, flow.destination_port));
        }
    })?;
    packets.sort_unstable();
    Ok(packets.into_iter().map(|(_, port)| port).collect())
}

/// A VXLAN header, and an Ethernet frame with a UDP packet in it.
fn encapsulated() -> Vec<u8> {
    const DATA: usize = 8;
    let mut bytes = vec![0x08, 0, 0, 0, 0, 0, 7, 0];
    bytes.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00]);
    bytes.extend([0x45, 0, 0, 28 + DATA as u8, 0, 0, 0, 0, 64, 17, 0, 0, 10, 95, 0, 1, 10, 95, 0, 2]);
    bytes.extend(INSIDE.to_be_bytes());
    bytes.extend(INSIDE.to_be_bytes());
    bytes.extend([0, 8 + DATA as u8, 0, 0]);
    bytes.extend([7; DATA]);
    bytes
}
