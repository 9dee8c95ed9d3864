//! Requests as `tail --of requests` measures them, against the clock of the client that has sent them.
//!
//! The client sends one request after the other, of several writes each, and measures each from before its first write,
//! or before it connects, until it has read the whole answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use overlay_trace_analysis::tail::{Of, Tail, Threshold};
use overlay_trace_format::Recording;
use overlay_trace_lab::dataplanes::Running;
use overlay_trace_lab::traffic::Stop;

use crate::capture;
use crate::machine::run_in;
use crate::results::{Outcome, Results, Verdict};

/// Requests of each kind; p99 is that of so many.
const REQUESTS: usize = 1000;
/// On a connection of their own each.
const REQUESTS_PER_CONNECTION: usize = 10;
/// The writes that a request over TCP consists of, in bytes: a head, and a body of several segments.
const WRITES: [usize; 2] = [60, 4000];
const ANSWER: usize = 20_000;
const DATAGRAM: usize = 200;
const PATIENCE: Duration = Duration::from_secs(10);
/// What a quantile may differ by: the larger of a share and a time in ns.
const SHARE: f64 = 0.02;
const EMULATED_NS: f64 = 20_000.0;
const NATIVE_NS: f64 = 5_000.0;
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// A network between client and server.
struct Way {
    name: &'static str,
    lab: &'static str,
    /// Is done on node1 before.
    commands: &'static [&'static str],
}

const WAYS: &[Way] = &[
    Way { name: "overlay", lab: "flannel-vxlan", commands: &[] },
    Way { name: "service", lab: "kube-proxy-iptables", commands: &[] },
    Way {
        name: "snat",
        lab: "flannel-vxlan",
        commands: &["iptables -t nat -A POSTROUTING -s 10.244.1.0/24 -d 10.244.2.0/24 -j MASQUERADE"],
    },
];

/// Runs the tests.
pub fn run(place: (&Path, &Stop), results: &mut Results) {
    for way in WAYS {
        let name = format!("client-clock/{}", way.name);
        if results.wants(&name) {
            results.add(&name, test(way, place));
        }
    }
}

fn test(way: &Way, (folder, stop): (&Path, &Stop)) -> Outcome {
    let running = capture::stand(way.lab, stop)?;
    for command in way.commands {
        if let Some(lack) = run_in(running.netns("node1")?, command)? {
            return Ok(Verdict::Skipped(lack));
        }
    }
    let path = folder.join(format!("client-clock-{}.otr", way.name));
    let session = capture::begin(&running, &path)?;
    let over_tcp = tcp(&running)?;
    let over_udp = udp(&running)?;
    session.stop().context("the recording could not be finished")?;
    running.down()?;
    let recording = Recording::open(&path)?;
    let tail = Tail::of(&recording, Of::Requests, Threshold::Time(0), 4 * REQUESTS)?;
    let mut figures = Vec::new();
    for (name, protocol, clock) in [("TCP", 6, over_tcp), ("UDP", 17, over_udp)] {
        // All of them are slow.
        let of_protocol = tail.slowest.iter().filter(|request| request.header.flow.protocol == protocol);
        let recorded: Vec<u64> = of_protocol.map(|request| request.ns).collect();
        figures.push(format!("{name} {}", compare(recorded, clock)?));
    }
    Ok(Verdict::With(figures.join("; ")))
}

/// Requests over TCP; how long each took by the client's clock, in ns.
fn tcp(running: &Running) -> Result<Vec<u64>> {
    let (server, client) = (running.server()?, running.client()?);
    let (address, target) = (running.listen_address()?, running.target()?);
    let listener = server.netns.run(|| TcpListener::bind(address))??;
    let answers = thread::spawn(move || -> Result<()> {
        for stream in listener.incoming().take(REQUESTS / REQUESTS_PER_CONNECTION) {
            let mut stream = stream?;
            stream.set_nodelay(true)?;
            for _ in 0..REQUESTS_PER_CONNECTION {
                stream.read_exact(&mut [0; WRITES[0] + WRITES[1]])?;
                stream.write_all(&[b'.'; ANSWER])?;
            }
        }
        Ok(())
    });
    let mut times = Vec::new();
    for _ in 0..REQUESTS / REQUESTS_PER_CONNECTION {
        let mut begin = Instant::now();
        let mut stream = client.netns.run(|| TcpStream::connect_timeout(&target, PATIENCE))??;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = vec![0; ANSWER];
        for number in 0..REQUESTS_PER_CONNECTION {
            if number > 0 {
                begin = Instant::now();
            }
            for length in WRITES {
                stream.write_all(&[b'?'; WRITES[1]][..length])?;
            }
            stream.read_exact(&mut answer)?;
            times.push(nanoseconds(begin));
        }
    }
    answers.join().map_err(|_| anyhow!("the server panicked"))??;
    Ok(times)
}

/// The same over UDP, of one datagram each.
fn udp(running: &Running) -> Result<Vec<u64>> {
    let (server, client) = (running.server()?, running.client()?);
    let (address, target) = (running.listen_address()?, running.target()?);
    let answering = server.netns.run(|| UdpSocket::bind(address))??;
    let asking = client.netns.run(|| UdpSocket::bind(SocketAddr::new(client.address, 0)))??;
    asking.connect(target)?;
    for socket in [&answering, &asking] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let answers = thread::spawn(move || -> Result<()> {
        for _ in 0..REQUESTS {
            let (_, from) = answering.recv_from(&mut [0; DATAGRAM])?;
            answering.send_to(&[b'.'; DATAGRAM], from)?;
        }
        Ok(())
    });
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let begin = Instant::now();
        asking.send(&[b'?'; DATAGRAM])?;
        asking.recv(&mut [0; DATAGRAM]).context("an answer was lost")?;
        times.push(nanoseconds(begin));
    }
    answers.join().map_err(|_| anyhow!("the server panicked"))??;
    Ok(times)
}

fn nanoseconds(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Quantile by quantile.
fn compare(mut recorded: Vec<u64>, mut clock: Vec<u64>) -> Result<String> {
    ensure!(
        recorded.len() == clock.len(),
        "the client had {} answers, {} requests were recorded",
        clock.len(),
        recorded.len()
    );
    recorded.sort_unstable();
    clock.sort_unstable();
    let least_ns = if is_emulated()? { EMULATED_NS } else { NATIVE_NS };
    let mut figures = Vec::new();
    let mut differing = false;
    for quantile in QUANTILES {
        let at = ((clock.len() as f64 * quantile) as usize).min(clock.len() - 1);
        let (recorded, clock) = (recorded[at] as f64, clock[at] as f64);
        let (percent, us) = (quantile * 100.0, |ns: f64| ns / 1000.0);
        figures.push(format!("p{percent} {:.1}/{:.1} us", us(recorded), us(clock)));
        differing |= (recorded - clock).abs() > least_ns.max(SHARE * clock);
    }
    let figures = figures.join(", ");
    ensure!(!differing, "recorded and by the client's clock: {figures}");
    Ok(figures)
}

/// Whether a processor's instructions are emulated here.
fn is_emulated() -> Result<bool> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    Ok(cpus.contains("QEMU"))
}
