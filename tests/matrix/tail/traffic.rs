//! The traffic of the injections.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use overlay_trace::lab::drive;
use overlay_trace::traffic::{Kind, Options, PORT, Protocol, Size, Spec};

use super::datagrams::{self, Reader};
use super::disturb::{hogged, meanwhile};
use super::load::Load;
use crate::machine;
use crate::truth::ground::{Change, Ground};
use crate::truth::neighbour::Forget;
use crate::truth::rules;

/// So many packets are handed to the kernel at once.
const TRAIN: u32 = 40;
/// A pod's address at which there is none.
const NOBODY: &str = "10.244.2.77:9";
/// How often something is disturbed, and for how long.
const EVERY: Duration = Duration::from_millis(250);
const FOR: Duration = Duration::from_millis(25);
/// Of so many datagrams one is hit.
const ONE_OF: u64 = 60;
const TABLE: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// Requests over TCP.
pub fn tcp(ground: &Ground, load: &Load) -> Result<()> {
    send(ground, &[load.requests(Protocol::Tcp)])
}

/// Requests over so many connections that the next one of a connection comes after a timeout.
pub fn sparse_tcp(ground: &Ground, load: &Load) -> Result<()> {
    send(ground, &[Spec { connections: (load.rate * 0.6) as u32, ..load.requests(Protocol::Tcp) }])
}

/// Requests over UDP.
pub fn udp(ground: &Ground, load: &Load) -> Result<()> {
    send(ground, &[load.requests(Protocol::Udp)])
}

/// Requests over UDP, and packets that are handed to the kernel many at once, as one.
pub fn trains(ground: &Ground, load: &Load) -> Result<()> {
    let stream = Spec {
        rate: 10.0 * f64::from(TRAIN),
        duration: Duration::from_secs(1),
        size: Size { request: 200, answer: 200 },
        options: Options { gso: TRAIN, ..Options::default() },
        ..Spec::new(Kind::Stream, Protocol::Udp)
    };
    send(ground, &[load.requests(Protocol::Udp), stream])
}

/// Answers of many packets over TCP.
pub fn large_tcp(ground: &Ground, load: &Load) -> Result<()> {
    let size = Size { request: 100, answer: 20_000 + 20 * load.size.answer };
    send(ground, &[Spec { size, rate: load.rate / 2.0, ..load.requests(Protocol::Tcp) }])
}

/// Small requests over UDP, and a few that do not fit into one packet.
pub fn some_large_udp(ground: &Ground, load: &Load) -> Result<()> {
    let small = load.requests(Protocol::Udp);
    let large = Spec { size: Size { request: 6000, answer: 100 }, count: Some(10), ..small.clone() };
    send(ground, &[small, large])
}

/// Small requests over TCP, then some that fill a packet, each over a connection of its own.
pub fn some_full_tcp(ground: &Ground, load: &Load) -> Result<()> {
    let small = load.requests(Protocol::Tcp);
    let size = Size { request: 1380, answer: 100 };
    let (connections, count) = (8, Some(8));
    let timeout = Duration::from_millis(1500);
    send(ground, &[small.clone(), Spec { size, connections, count, timeout, ..small }])
}

/// New connections at a constant rate, while now and then none may be tracked.
pub fn connections_into_a_full_table(ground: &Ground, load: &Load) -> Result<()> {
    let usual = fs::read_to_string(TABLE).context("connection tracking is not there")?;
    let fill = || {
        fs::write(TABLE, "1")?;
        thread::sleep(FOR);
        Ok(fs::write(TABLE, &usual)?)
    };
    let outcome = meanwhile(fill, EVERY, || connections(ground, load));
    fs::write(TABLE, &usual)?;
    outcome
}

fn connections(ground: &Ground, load: &Load) -> Result<()> {
    let server = ground.running.server()?;
    let address = SocketAddr::new(server.address, PORT);
    let listener = server.netns.run(|| TcpListener::bind(address))??;
    listener.set_nonblocking(true)?;
    let client = ground.running.client()?.netns;
    let done = AtomicBool::new(false);
    let connect =
        || client.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)))?.map_err(Into::into);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if listener.accept().is_err() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let mut waiting = Vec::new();
        // One that has to wait does not keep the next one from its time.
        let sent = datagrams::at_rate(ground, load.rate / 2.0, |_| {
            waiting.push(scope.spawn(connect));
            Ok(())
        });
        let connected: Vec<Result<TcpStream>> = waiting
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("failed"))))
            .collect();
        done.store(true, Ordering::Relaxed);
        sent?;
        connected.into_iter().collect::<Result<Vec<_>>>().context("a connection came never about").map(drop)
    })
}

/// Requests over TCP, while now and then node1's tunnel does not know the way to node2.
pub fn tcp_with_fdb_gaps(ground: &Ground, load: &Load) -> Result<()> {
    let node = ground.running.netns("node1")?.clone();
    let entry = "0a:00:00:00:04:02 dev flannel.1 dst 192.0.2.2 self";
    let run = move |command: String| match machine::run_in(&node, &command)? {
        None => Ok(()),
        Some(lack) => Err(anyhow!(lack)),
    };
    let gap = || {
        run(format!("bridge fdb del {entry}"))?;
        thread::sleep(FOR);
        run(format!("bridge fdb add {entry} permanent"))
    };
    meanwhile(gap, EVERY, || sparse_tcp(ground, load))
}

/// Datagrams, some of them after the gateway's address has been forgotten.
pub fn forgetting_the_gateway(ground: &Ground, load: &Load) -> Result<()> {
    let forget = Forget::new(ground.running.netns("pod1")?)?;
    datagrams::send(ground, load, Reader::default(), |number| {
        if number % ONE_OF == ONE_OF - 1 { forget.gateway() } else { Ok(()) }
    })?;
    ground.settle()
}

/// Datagrams, and now and then one to a pod that is not there.
pub fn knocking_at_nobody(ground: &Ground, load: &Load) -> Result<()> {
    let socket = ground.running.client()?.netns.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    datagrams::send(ground, load, Reader::default(), |number| {
        if number % 20 == 19 {
            // That nobody is there may be the answer to this.
            let _ = socket.send_to(b"is anybody there", NOBODY);
        }
        Ok(())
    })
}

/// Datagrams to a reader that naps.
pub fn napping_reader(ground: &Ground, load: &Load) -> Result<()> {
    let nap = Some((ONE_OF, Duration::from_millis(10)));
    datagrams::send(ground, load, Reader { nap, room: None }, |_| Ok(()))
}

/// Datagrams to a reader that naps and has little room.
pub fn little_room(ground: &Ground, load: &Load) -> Result<()> {
    let nap = Some((ONE_OF, Duration::from_millis(60)));
    datagrams::send(ground, load, Reader { nap, room: Some(1) }, |_| Ok(()))
}

/// Datagrams, while something takes the processor from their reader.
pub fn hog_before_the_reader(ground: &Ground, load: &Load) -> Result<()> {
    hogged_at("pod2", ground, load)
}

/// Datagrams, while something takes the processor from ksoftirqd.
pub fn hog_before_ksoftirqd(ground: &Ground, load: &Load) -> Result<()> {
    hogged_at("pod1", ground, load)
}

fn hogged_at(netns: &str, ground: &Ground, load: &Load) -> Result<()> {
    let netns = ground.running.netns(netns)?;
    let often = (ONE_OF, Duration::from_millis(3));
    hogged(netns, often, || datagrams::send(ground, load, Reader::default(), |_| Ok(())))
}

/// Requests over UDP through a long list of rules.
pub fn udp_through_rules(ground: &Ground, load: &Load) -> Result<()> {
    with(ground, &[rules::iptables(ground, 3000)?], || udp(ground, load))
}

fn with(ground: &Ground, changes: &[Change], then: impl FnOnce() -> Result<()>) -> Result<()> {
    ground.with(changes, then)?.map_err(|lack| anyhow!(lack))
}

fn send(ground: &Ground, plan: &[Spec]) -> Result<()> {
    drive(ground.running, plan, ground.stop).map(drop)
}
