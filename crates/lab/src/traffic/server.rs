//! The server: one address, one port, TCP and UDP.

use std::io::{BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::session;
use super::sessions::{Sessions, take_datagrams};
use super::wire::{self, Welcome};
use super::{MAX_CONNECTIONS, Stop, udp};

/// How often a waiting thread looks whether the server shall stop.
pub const LOOK: Duration = Duration::from_millis(100);
/// The most connections at a time.
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
    /// When the address is not this host's, or the port is taken.
    pub fn start(address: SocketAddr) -> Result<Server> {
        let cannot = || format!("Cannot listen on {address}.");
        let listener = TcpListener::bind(address).with_context(cannot)?;
        let address = listener.local_addr()?;
        let socket = UdpSocket::bind(address).with_context(cannot)?;
        Server::on(listener, socket)
    }

    fn on(listener: TcpListener, socket: UdpSocket) -> Result<Server> {
        let (address, stop, sessions) = (listener.local_addr()?, Stop::new(), Sessions::default());
        listener.set_nonblocking(true)?;
        socket.set_read_timeout(Some(LOOK))?;
        udp::widen(&socket);
        let socket = Arc::new(socket);
        let threads = vec![
            thread::Builder::new().name("traffic-udp".into()).spawn({
                let (socket, stop, sessions) = (Arc::clone(&socket), stop.clone(), sessions.clone());
                move || take_datagrams(&socket, &sessions, &stop)
            })?,
            thread::Builder::new().name("traffic-tcp".into()).spawn({
                let stop = stop.clone();
                move || accept(&listener, &socket, &sessions, &stop)
            })?,
        ];
        Ok(Server { address, stop, threads })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.set();
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so.
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
                    // What went wrong on a connection its client sees; the server goes on.
                    let _ = welcome(stream, &socket, &sessions, &open, &stop);
                });
                threads.retain(|thread| !thread.is_finished());
                threads.extend(thread);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                udp::is_readable(listener, LOOK);
            }
            Err(_) => thread::sleep(LOOK),
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn welcome(
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
    let hello = wire::receive_line(&mut reader)?;
    let refusal = if open.fetch_add(1, Ordering::Relaxed) >= LIMIT {
        Some(format!("it has {LIMIT} connections already"))
    } else {
        session::refusal(&hello)
    };
    let result = match refusal {
        Some(why) => wire::send_line(reader.get_mut(), &Welcome::Refused(why)),
        None => reader
            .get_ref()
            .set_read_timeout(Some(LOOK))
            .map_err(Into::into)
            .and_then(|()| session::serve(&hello, reader, socket, sessions, stop)),
    };
    open.fetch_sub(1, Ordering::Relaxed);
    result
}
