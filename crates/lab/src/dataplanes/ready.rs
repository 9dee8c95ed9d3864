//! Waiting until a lab carries traffic.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::End;
use crate::traffic::Stop;

/// How long a lab may take to carry its first packet, also in an emulated machine.
const PATIENCE: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(100);

/// Waits until a datagram of the client reaches the server, and a connection too.
pub fn wait(client: &End, server: &End, stop: &Stop) -> Result<()> {
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
            Err(error) if begun.elapsed() > PATIENCE => bail!(
                "the lab does not carry traffic from {} to {} after {} seconds: {error}",
                client.netns.name(),
                server.address,
                PATIENCE.as_secs()
            ),
            Err(_) => std::thread::sleep(RETRY / 10),
        }
    }
}
