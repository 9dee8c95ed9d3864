//! Datagrams one way at a constant rate, whose sender and reader can be disturbed.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use overlay_trace_lab::traffic::PORT;
use socket2::SockRef;

use super::load::{DURATION, Load};
use crate::truth::fixture::Fixture;
use crate::truth::flow::take_priority;

/// The port of this traffic, which nothing else uses.
const DATAGRAM_PORT: u16 = PORT + 3;
const BYTES: usize = 100;
/// How often the reader looks whether it is done.
const LOOK: Duration = Duration::from_millis(50);
/// The reader's real-time priority: with it, it is the next to run when something has arrived.
const READER_PRIORITY: i32 = 1;

/// How the reader is disturbed.
#[derive(Clone, Copy, Default)]
pub struct Reader {
    /// It sleeps for so long after each so many datagrams.
    pub nap: Option<(u64, Duration)>,
    /// Bytes of its socket's receive buffer.
    pub room: Option<usize>,
}

/// Sends datagrams at the load's rate, doing something before each, which is told its number.
pub fn send(
    fixture: &Fixture,
    load: &Load,
    reader: Reader,
    mut before: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let server = fixture.running.server()?;
    let address = SocketAddr::new(server.address, DATAGRAM_PORT);
    let receiver = server.netns.run(|| UdpSocket::bind(address))?.context("cannot bind")?;
    receiver.set_read_timeout(Some(LOOK))?;
    if let Some(room) = reader.room {
        SockRef::from(&receiver).set_recv_buffer_size(room)?;
    }
    let sender = fixture.running.client()?.netns.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| read(&receiver, reader, &done));
        let sent = at_rate(fixture, load.rate, |number| {
            before(number)?;
            sender.send_to(&[7; BYTES], address).context("a datagram could not be sent")?;
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        reading.join().map_err(|_| anyhow!("the reader failed"))??;
        sent
    })
}

/// Does something at a constant rate per second for as long as a window lasts.
pub fn at_rate(fixture: &Fixture, rate: f64, mut each: impl FnMut(u64) -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    for number in 0..(rate * DURATION.as_secs_f64()) as u64 {
        fixture.stop.check()?;
        let due = Duration::from_secs_f64(number as f64 / rate);
        thread::sleep(due.saturating_sub(begin.elapsed()));
        each(number)?;
    }
    Ok(())
}

fn read(receiver: &UdpSocket, reader: Reader, done: &AtomicBool) -> Result<()> {
    take_priority(READER_PRIORITY)?;
    let mut read = 0u64;
    while !done.load(Ordering::Relaxed) {
        match receiver.recv(&mut [0; BYTES]) {
            Ok(_) => {
                read += 1;
                if let Some((every, nap)) = reader.nap
                    && read.is_multiple_of(every)
                {
                    thread::sleep(nap);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
