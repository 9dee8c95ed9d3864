//! Waits until a lab carries traffic.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::endpoint::Endpoint;
use crate::traffic::Stop;

/// The time limit for the first packet, generous enough for an emulated machine.
const TIMEOUT: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(100);

/// Waits until a UDP datagram of the client reaches the server and a TCP connection is established.
pub fn wait(client: &Endpoint, server: &Endpoint, stop: &Stop) -> Result<()> {
    let begun = Instant::now();
    let (listener, receiver) = server
        .netns
        .run(|| -> io::Result<_> {
            let any_port = SocketAddr::new(server.address, 0);
            Ok((TcpListener::bind(any_port)?, UdpSocket::bind(any_port)?))
        })?
        .with_context(|| format!("cannot listen on {} in {}", server.address, server.netns.name()))?;
    let (udp, tcp) = (receiver.local_addr()?, listener.local_addr()?);
    receiver.set_read_timeout(Some(RETRY))?;
    let sender = client
        .netns
        .run(|| UdpSocket::bind(SocketAddr::new(client.address, 0)))?
        .with_context(|| format!("cannot send from {} in {}", client.address, client.netns.name()))?;
    let attempt = || -> io::Result<()> {
        sender.send_to(b"ready?", udp)?;
        receiver.recv_from(&mut [0; 16])?;
        client.netns.run(|| TcpStream::connect_timeout(&tcp, RETRY * 10)).map_err(io::Error::other)??;
        Ok(())
    };
    loop {
        stop.check()?;
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > TIMEOUT => bail!(
                "the lab carries no traffic from {} to {} after {} seconds: {error}",
                client.netns.name(),
                server.address,
                TIMEOUT.as_secs()
            ),
            Err(_) => std::thread::sleep(RETRY / 10),
        }
    }
}
