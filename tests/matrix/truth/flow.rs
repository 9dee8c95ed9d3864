//! Datagrams one way, from the lab's client to its server, each with the time at which it was sent: little
//! traffic, so that no packet meets another, of which all is known.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::time::{ClockId, clock_gettime};
use overlay_trace_lab::dataplanes::Running;
use overlay_trace_lab::traffic::{PORT, Stop};

/// The port of this traffic, which nothing else uses.
pub const TRUTH_PORT: u16 = PORT + 2;
/// Datagrams before the window begins: they find the neighbours, and make the connections' entries.
pub const WARM_UP: usize = 10;
const READER_PRIORITY: i32 = 1;
/// How long a datagram may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Datagrams at a constant rate.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub count: usize,
    pub gap: Duration,
    /// Payload.
    pub bytes: usize,
    /// How long the reader sleeps between noticing a datagram and reading it.
    pub sleep: Duration,
}

impl Flow {
    pub const PLAIN: Flow =
        Flow { count: 150, gap: Duration::from_millis(5), bytes: 100, sleep: Duration::ZERO };
}

/// What was sent.
pub struct Sent {
    pub begin_ns: u64,
    pub end_ns: u64,
    pub one_way_ns: Vec<u64>,
}

/// ns of CLOCK_MONOTONIC.
pub fn now_ns() -> Result<u64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos() as u64)
}

/// Gives the calling thread a real-time priority: it takes the processor from every thread that has a lower
/// one, or none.
pub fn take_priority(priority: i32) -> Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the call reads its parameters only; 0 is this thread.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    ensure!(set == 0, "no real-time priority: {}", std::io::Error::last_os_error());
    Ok(())
}

impl Flow {
    /// Sends the datagrams, one per gap, doing something `before` each.
    pub fn send(&self, running: &Running, stop: &Stop, before: impl FnMut() -> Result<()>) -> Result<Sent> {
        let server = running.server()?;
        let address = SocketAddr::new(server.address, TRUTH_PORT);
        let reader = server.netns.run(|| UdpSocket::bind(address))??;
        let sender = running.client()?.netns.run(|| UdpSocket::bind("0.0.0.0:0"))??;
        sender.connect(address)?;
        thread::scope(|scope| {
            let reading = scope.spawn(|| self.read(&reader));
            let sending = self.write(&sender, stop, before);
            let read = reading.join().map_err(|_| anyhow::anyhow!("the reader failed"))?;
            let (begin_ns, end_ns) = sending?;
            Ok(Sent { begin_ns, end_ns, one_way_ns: read? })
        })
    }

    /// The times between which the datagrams after the first few were sent.
    fn write(
        &self,
        sender: &UdpSocket,
        stop: &Stop,
        mut before: impl FnMut() -> Result<()>,
    ) -> Result<(u64, u64)> {
        prctl::set_timerslack(1)?;
        let mut payload = vec![0; self.bytes];
        let mut begin_ns = 0;
        for number in 0..WARM_UP + self.count {
            stop.check()?;
            if number == WARM_UP {
                begin_ns = now_ns()?;
            }
            before()?;
            payload[..8].copy_from_slice(&now_ns()?.to_ne_bytes());
            sender.send(&payload).context("a datagram could not be sent")?;
            thread::sleep(self.gap + self.sleep);
        }
        Ok((begin_ns, now_ns()?))
    }

    /// How long the datagrams after the first few took.
    fn read(&self, reader: &UdpSocket) -> Result<Vec<u64>> {
        prctl::set_timerslack(1)?;
        // When the sender's time is up and the reader's has come shall not be the scheduler's choice.
        take_priority(READER_PRIORITY)?;
        reader.set_nonblocking(true)?;
        let mut buffer = vec![0; self.bytes];
        let mut took = Vec::with_capacity(WARM_UP + self.count);
        while took.len() < WARM_UP + self.count {
            let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::try_from(PATIENCE)?)?;
            ensure!(ready > 0, "only {} datagrams arrived", took.len());
            if !self.sleep.is_zero() {
                thread::sleep(self.sleep);
            }
            match reader.recv(&mut buffer) {
                Ok(length) if length >= 8 => {
                    let sent = u64::from_ne_bytes(buffer[..8].try_into()?);
                    took.push(now_ns()?.saturating_sub(sent));
                }
                Ok(length) => bail!("a datagram of {length} bytes arrived"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(took.split_off(WARM_UP))
    }
}
