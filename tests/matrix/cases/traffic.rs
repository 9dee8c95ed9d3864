//! Small servers and clients for the cases.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use overlay_trace_lab::dataplanes::Netns;

/// How long an answer may take, on a connection that is used for all requests and on a new one.
const PATIENCE: Duration = Duration::from_millis(1500);
const NEW_PATIENCE: Duration = Duration::from_millis(350);
/// Bytes of a request.
const REQUEST: usize = 100;

/// The load of a run, by its number.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Between an answer and the next request.
    pub pause: Duration,
    /// Bytes of an answer.
    pub answer: usize,
    pub requests: usize,
}

impl Load {
    pub fn of(run: u32) -> Load {
        let mut random = fastrand::Rng::with_seed(u64::from(run));
        Load {
            pause: Duration::from_millis(random.u64(15..=35)),
            answer: random.usize(100..=1200),
            requests: random.usize(50..=80),
        }
    }
}

/// Whether a connection is made for each request, and kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// One for all, made anew when it breaks.
    One,
    Each,
    /// Each has its own, and all stay open.
    EachKept,
}

/// Answers requests in a namespace as long as the program runs; each answer takes `work` of CPU time.
pub fn serve(netns: &Netns, port: u16, answer: usize, work: Duration) -> Result<()> {
    let listener = netns.run(|| TcpListener::bind(("0.0.0.0", port)))??;
    netns.run(|| thread::spawn(move || accept(&listener, answer, work)))?;
    Ok(())
}

/// The same in a process of its own.
pub fn serve_apart(netns: &Netns, port: u16, answer: usize, work: Duration) -> Result<Child> {
    let program = std::env::current_exe()?;
    let what = format!("{port},{answer},{}", work.as_micros());
    let spawn = || Command::new(program).args(["--serve", &what]).stdin(Stdio::piped()).spawn();
    netns.run(spawn)?.context("cannot start a server")
}

/// What `--serve PORT,BYTES,MICROSECONDS` does, until the standard input ends.
pub fn serve_here(what: &str) -> Result<()> {
    let mut numbers = what.split(',').map(str::parse::<u64>);
    let mut next = || numbers.next().context("a number is missing")?.context("this is no number");
    let (port, answer, work) = (next()?, next()?, Duration::from_micros(next()?));
    let listener = TcpListener::bind(("0.0.0.0", u16::try_from(port)?))?;
    let answer = usize::try_from(answer)?;
    thread::spawn(move || accept(&listener, answer, work));
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn accept(listener: &TcpListener, answer: usize, work: Duration) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || converse(stream, answer, work));
    }
}

fn converse(mut stream: TcpStream, answer: usize, work: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut request, answer) = ([0; REQUEST], vec![7; answer]);
    loop {
        stream.read_exact(&mut request)?;
        let begin = cpu_time();
        while cpu_time() < begin.saturating_add(work) {}
        stream.write_all(&answer)?;
    }
}

/// The CPU time that the calling thread has used.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::MAX, Duration::from)
}

/// Answers datagrams in a namespace as long as the program runs.
pub fn serve_datagrams(netns: &Netns, port: u16) -> Result<()> {
    let socket = netns.run(|| UdpSocket::bind(("0.0.0.0", port)))??;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..bytes], from);
        }
    });
    Ok(())
}

/// Sends requests from a namespace one after the other; gives how many were answered in time.
pub fn ask(netns: &Netns, to: SocketAddr, load: &Load, connections: Connections) -> Result<usize> {
    // A connection that stands outlives a short interruption.
    let timeout = if connections == Connections::One { PATIENCE } else { NEW_PATIENCE };
    netns.run(|| {
        let (mut kept, mut answered) = (Vec::new(), 0);
        let mut open: Option<TcpStream> = None;
        for _ in 0..load.requests {
            let stream = open.take().map_or_else(|| connect(to, timeout), Ok);
            let asked = stream.and_then(|stream| one(&stream, load.answer).map(|()| stream));
            if let Ok(stream) = asked {
                answered += 1;
                match connections {
                    Connections::One => open = Some(stream),
                    Connections::Each => {}
                    Connections::EachKept => kept.push(stream),
                }
            }
            thread::sleep(load.pause);
        }
        answered
    })
}

fn connect(to: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, timeout)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    Ok(stream)
}

fn one(mut stream: &TcpStream, answer: usize) -> io::Result<()> {
    stream.write_all(&[7; REQUEST])?;
    stream.read_exact(&mut vec![0; answer])
}

/// Sends datagrams from one socket of a namespace and waits for each answer.
pub fn ask_datagrams(netns: &Netns, to: SocketAddr, load: &Load, timeout: Duration) -> Result<usize> {
    netns
        .run(|| -> io::Result<usize> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(timeout))?;
            let mut answered = 0;
            for _ in 0..load.requests {
                let _ = socket.send(&[7; REQUEST]);
                answered += usize::from(socket.recv(&mut [0; 2048]).is_ok());
                thread::sleep(load.pause);
            }
            Ok(answered)
        })?
        .context("datagrams could not be sent")
}
