//! The server: one address, one port, TCP and UDP.

use std::io::{BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::session::{self, Sessions};
use super::wire::{self, HEADER, MAX_DATAGRAM, Welcome};
use super::{MAX_CONNECTIONS, Stop, clock, datagram};

/// How often a waiting thread looks whether the server shall stop.
const LOOK: Duration = Duration::from_millis(100);
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
        datagram::widen(&socket);
        let threads = vec![
            thread::Builder::new().name("traffic-udp".into()).spawn({
                let (stop, sessions) = (stop.clone(), sessions.clone());
                move || answer_datagrams(&socket, &sessions, &stop)
            })?,
            thread::Builder::new().name("traffic-tcp".into()).spawn({
                let stop = stop.clone();
                move || accept(&listener, &sessions, &stop)
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

fn answer_datagrams(socket: &UdpSocket, sessions: &Sessions, stop: &Stop) {
    let mut buffer = vec![0; MAX_DATAGRAM + HEADER];
    let mut answer = vec![b'a'; MAX_DATAGRAM];
    while !stop.is_set() {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let now_ns = clock::now_ns();
        if let Some(bytes) = sessions.datagram(&buffer[..length], now_ns) {
            let answer = &mut answer[..bytes];
            answer[..HEADER].copy_from_slice(&buffer[..HEADER]);
            // An answer that cannot be sent is lost, as the client will see.
            let _ = socket.send_to(answer, from);
        }
    }
}

fn accept(listener: &TcpListener, sessions: &Sessions, stop: &Stop) {
    let open = Arc::new(AtomicUsize::new(0));
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while !stop.is_set() {
        match listener.accept() {
            Ok((stream, _)) => {
                let (sessions, stop, open) = (sessions.clone(), stop.clone(), Arc::clone(&open));
                let thread = thread::Builder::new().name("traffic-conn".into()).spawn(move || {
                    // What went wrong on a connection its client sees; the server goes on.
                    let _ = welcome(stream, &sessions, &open, &stop);
                });
                threads.retain(|thread| !thread.is_finished());
                threads.extend(thread);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_readable(listener),
            Err(_) => thread::sleep(LOOK),
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Waits until there is a connection to accept, at most [`LOOK`].
fn wait_readable(listener: &TcpListener) {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    // Interrupted or not, the caller looks again.
    let _ = poll(&mut fds, LOOK.as_millis() as u16);
}

fn welcome(stream: TcpStream, sessions: &Sessions, open: &AtomicUsize, stop: &Stop) -> Result<()> {
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
            .and_then(|()| session::serve(&hello, reader, sessions, stop)),
    };
    open.fetch_sub(1, Ordering::Relaxed);
    result
}
