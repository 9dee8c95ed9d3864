//! More than the recording can take: it says what it lost, the counts are those of the traffic, and what it
//! saw is exact.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;
use overlay_trace_common::flags::RecordFlags;
use overlay_trace_format::{Counters, Recording};
use overlay_trace_probe::load::Sizes;
use overlay_trace_probe::{FilterOptions, ProbeSet};
use socket2::SockRef;

use crate::interrupted::Recorder;
use crate::machine;
use crate::own::{self, Network, Plan, is_exact, pair, send};
use crate::results::{Results, Verdict};

const STATES: &str = "overload/states";
const RING: &str = "overload/ring";
const STOPPED: &str = "overload/stopped";

/// The traffic's port, and the filter's.
const PORT: u16 = 7731;
/// So many datagrams at once.
const BURST: usize = 400;
/// Room for a burst in a socket, bytes.
const ROOM: usize = 1 << 20;
/// Of so many packets in flight the table of states can hold few.
const FEW_STATES: u32 = 64;
const PAGE: u32 = 4096;
/// For the next datagram of a burst.
const PATIENCE: Duration = Duration::from_secs(5);
const ATTACHING: Duration = Duration::from_secs(300);

/// Runs the tests of overload.
pub fn run(set: ProbeSet, folder: &Path, results: &mut Results) {
    let of = |name, sizes| Plan {
        set,
        folder,
        name,
        filter: FilterOptions {
            netns: vec!["ot-pair-a".into()],
            port: Some(PORT),
            ..FilterOptions::default()
        },
        sizes,
    };
    own::add(&[STATES], results, |results| {
        let plan = of("states", Sizes { states: FEW_STATES, ..Sizes::default() });
        results.add(STATES, Ok(states(&plan)?));
        Ok(())
    });
    own::add(&[RING], results, |results| {
        results.add(RING, Ok(ring(&of("ring", Sizes { ring_bytes: PAGE, ..Sizes::default() }))?));
        Ok(())
    });
    own::add(&[STOPPED], results, |results| {
        results.add(STOPPED, Ok(stopped(set, &folder.join("stopped.otr"))?));
        Ok(())
    });
}

/// A receiver that has room for a burst.
fn receiver(network: &Network) -> Result<UdpSocket> {
    let socket = network.netns("b")?.run(|| UdpSocket::bind(("10.98.0.2", PORT)))??;
    SockRef::from(&socket).set_recv_buffer_size(ROOM)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    // Neighbours get to know each other over another port.
    network.netns("a")?.run(|| send(SocketAddr::from(([10, 98, 0, 2], PORT + 1)), 3))??;
    Ok(socket)
}

/// Sends datagrams as fast as they go.
fn burst(network: &Network) -> Result<()> {
    network.netns("a")?.run(|| -> Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for _ in 0..BURST {
            socket.send_to(&[7; 100], ("10.98.0.2", PORT))?;
        }
        Ok(())
    })?
}

/// Takes all that has arrived out of the socket.
fn read_all(socket: &UdpSocket) -> Result<usize> {
    let mut count = 0;
    socket.set_nonblocking(true)?;
    while socket.recv(&mut [0; 200]).is_ok() {
        count += 1;
    }
    socket.set_nonblocking(false)?;
    Ok(count)
}

/// Takes a whole burst out of the socket, unless nothing comes for a while.
fn read_patiently(socket: &UdpSocket) -> Result<usize> {
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok((0..BURST).take_while(|_| socket.recv(&mut [0; 200]).is_ok()).count())
}

/// What a recording has read, and what it says that it lost.
struct Books {
    records: u64,
    /// Records of paths that were seen from their start.
    whole: u64,
    counters: Counters,
}

/// The books of a finished recording, which must be right in themselves.
fn books(recording: &Recording) -> Result<Books> {
    is_exact(recording)?;
    ensure!(recording.complete, "the recording is not complete");
    let (mut records, mut whole) = (0, 0);
    recording.for_each_record(|record| {
        records += 1;
        whole += u64::from(!record.header.flags.has(RecordFlags::FROM_DEVICE | RecordFlags::UNKNOWN_START));
    })?;
    let counters = recording.last.counters.clone();
    let (finished, lost) = (counters.finished, counters.lost_records);
    ensure!(finished == records + lost, "{finished} packets finished, {records} were read and {lost} lost");
    let ended = finished + counters.without_record() + counters.lost_end;
    ensure!(counters.started >= ended, "{} packets began, but {ended} ended", counters.started);
    Ok(Books { records, whole, counters })
}

/// Lets a burst lie in a queue for some seconds.
const SLOW: &str = "tc qdisc replace dev eth0 root tbf rate 200kbit burst 2kb limit 1mb";

/// More packets in flight than there are states.
fn states(plan: &Plan) -> Result<Verdict> {
    let network = pair()?;
    if let Some(lack) = machine::run_in(&network.netns("a")?, SLOW)? {
        return Ok(Verdict::Skipped(lack));
    }
    let (recording, read) = plan.record(|_| {
        let socket = receiver(&network)?;
        burst(&network)?;
        read_patiently(&socket)
    })?;
    let Books { records, whole, counters } = books(&recording)?;
    ensure!(read == BURST, "{BURST} datagrams were sent, {read} arrived");
    ensure!(counters.lost_records == 0, "{} records were lost", counters.lost_records);
    ensure!(whole > 0 && whole < BURST as u64, "{whole} of {BURST} packets were followed");
    let missing = BURST as u64 - whole;
    ensure!(
        counters.state_full >= missing,
        "{missing} packets are missing, {} found no place",
        counters.state_full
    );
    Ok(Verdict::With(format!("{records} of {BURST} packets, {} times no place", counters.state_full)))
}

/// A ring buffer of a page, which is read fifty times a second.
fn ring(plan: &Plan) -> Result<Verdict> {
    let network = pair()?;
    let (recording, read) = plan.record(|_| {
        let socket = receiver(&network)?;
        burst(&network)?;
        read_all(&socket)
    })?;
    let Books { records, counters, .. } = books(&recording)?;
    ensure!(read == BURST, "{BURST} datagrams were sent, {read} arrived");
    ensure!(counters.finished == BURST as u64, "{BURST} datagrams were sent, {} finished", counters.finished);
    ensure!(records > 0 && counters.lost_records > 0, "{records} records, {} lost", counters.lost_records);
    Ok(Verdict::With(format!("{records} records, {} lost", counters.lost_records)))
}

/// A recorder that is stopped by a signal for a while.
fn stopped(set: ProbeSet, file: &Path) -> Result<Verdict> {
    let network = pair()?;
    if file.exists() {
        std::fs::remove_file(file)?;
    }
    let (port, buffer) = (PORT.to_string(), (16 * PAGE).to_string());
    let options = ["--netns", "ot-pair-a", "--port", &port, "--buffer", &buffer];
    let mut recorder = Recorder::start(set, file, &options)?;
    let socket = receiver(&network)?;
    let mut read = wait_for_packets(&mut recorder, &network, &socket, file)?;
    recorder.signal(Signal::SIGSTOP)?;
    burst(&network)?;
    read += read_all(&socket)?;
    recorder.signal(Signal::SIGCONT)?;
    burst(&network)?;
    read += read_all(&socket)?;
    recorder.finish()?;
    let recording = Recording::open(file)?;
    let Books { records, counters, .. } = books(&recording)?;
    ensure!(counters.lost_records > 0, "nothing was lost");
    // What was sent before the recording began is not in it.
    ensure!(
        counters.finished <= read as u64 && counters.finished >= 2 * BURST as u64,
        "{read} datagrams arrived, {} were recorded or lost",
        counters.finished
    );
    Ok(Verdict::With(format!("{records} records, {} lost", counters.lost_records)))
}

/// Sends datagrams until the recording says that it has some; returns how many have arrived.
fn wait_for_packets(
    recorder: &mut Recorder,
    network: &Network,
    socket: &UdpSocket,
    file: &Path,
) -> Result<usize> {
    let begin = Instant::now();
    let mut read = 0;
    while begin.elapsed() < ATTACHING {
        ensure!(recorder.is_running()?, "the recording ended by itself");
        network.netns("a")?.run(|| send(SocketAddr::from(([10, 98, 0, 2], PORT)), 1))??;
        read += read_all(socket)?;
        if Recording::open(file).is_ok_and(|recording| recording.last.counters.finished > 0) {
            return Ok(read);
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("no packet was recorded within {} s", ATTACHING.as_secs())
}
