//! The traffic server: one address and port, TCP and UDP.

use std::io::{BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::connection;
use super::datagram_sessions::{Sessions, receive_datagrams};
use super::protocol::{self, Welcome};
use super::spec::MAX_CONNECTIONS;
use super::stop::{POLL_INTERVAL, Stop};
use super::udp;

/// The maximum number of concurrent connections.
const LIMIT: usize = 4 * MAX_CONNECTIONS as usize;

/// A running server; dropping it stops it.
pub struct Server {
    address: SocketAddr,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Listens on the address (port 0: any) for TCP and UDP. When this returns, the server is ready.
    ///
    /// # Errors
    ///
    /// When the address is not local, or the port is in use.
    pub fn start(address: SocketAddr) -> Result<Server> {
        let cannot = || format!("cannot listen on {address}");
        let listener = TcpListener::bind(address).with_context(cannot)?;
        let address = listener.local_addr()?;
        let socket = UdpSocket::bind(address).with_context(cannot)?;
        Server::start_threads(listener, socket)
    }

    fn start_threads(listener: TcpListener, socket: UdpSocket) -> Result<Server> {
        let (address, stop, sessions) = (listener.local_addr()?, Stop::new(), Sessions::default());
        listener.set_nonblocking(true)?;
        socket.set_read_timeout(Some(POLL_INTERVAL))?;
        udp::enlarge_receive_buffer(&socket);
        let socket = Arc::new(socket);
        let threads = vec![
            thread::Builder::new().name("traffic-udp".into()).spawn({
                let (socket, stop, sessions) = (Arc::clone(&socket), stop.clone(), sessions.clone());
                move || receive_datagrams(&socket, &sessions, &stop)
            })?,
            thread::Builder::new().name("traffic-tcp".into()).spawn({
                let stop = stop.clone();
                move || accept(&listener, &socket, &sessions, &stop)
            })?,
        ];
        Ok(Server { address, stop, threads })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.set();
        for thread in self.threads.drain(..) {
            // A panic has already been reported on standard error.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, socket: &Arc<UdpSocket>, sessions: &Sessions, stop: &Stop) {
    let open = Arc::new(AtomicUsize::new(0));
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while !stop.is_set() {
        match listener.accept() {
            Ok((stream, _)) => {
                let (sessions, stop, open) = (sessions.clone(), stop.clone(), Arc::clone(&open));
                let socket = Arc::clone(socket);
                let thread = thread::Builder::new().name("traffic-conn".into()).spawn(move || {
                    // The client sees the failure of its connection; the server continues.
                    let _ = handle(stream, &socket, &sessions, &open, &stop);
                });
                threads.retain(|thread| !thread.is_finished());
                threads.extend(thread);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                udp::is_readable(listener, POLL_INTERVAL);
            }
            Err(_) => thread::sleep(POLL_INTERVAL),
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn handle(
    stream: TcpStream,
    socket: &UdpSocket,
    sessions: &Sessions,
    open: &AtomicUsize,
    stop: &Stop,
) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let hello = protocol::receive_line(&mut reader)?;
    let refusal = if open.fetch_add(1, Ordering::Relaxed) >= LIMIT {
        Some(format!("it already has {LIMIT} connections"))
    } else {
        connection::refusal(&hello)
    };
    let result = match refusal {
        Some(why) => protocol::send_line(reader.get_mut(), &Welcome::Refused(why)),
        None => reader
            .get_ref()
            .set_read_timeout(Some(POLL_INTERVAL))
            .map_err(Into::into)
            .and_then(|()| connection::serve(&hello, reader, socket, sessions, stop)),
    };
    open.fetch_sub(1, Ordering::Relaxed);
    result
}
