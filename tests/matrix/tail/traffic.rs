//! The traffic of the injections. Each function gives the reports of the built-in traffic that it sent: the window
//! is then what lies between the first request and the last answer, without the connections' setting up.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use overlay_trace_lab::dataplanes::drive;
use overlay_trace_lab::traffic::{Kind, Options, PORT, Protocol, Size, Spec, TrafficReport};

use super::datagrams::{self, Reader};
use super::disturb::{hogged, meanwhile};
use super::load::Load;
use crate::machine;
use crate::truth::fixture::{Change, Fixture};
use crate::truth::neighbour::Entry;
use crate::truth::rules;

/// What came of the built-in traffic.
pub type Sent = Result<Vec<TrafficReport>>;

/// So many packets are handed to the kernel at once.
const TRAIN: u32 = 40;
/// A pod's address at which there is none.
const NOBODY: &str = "10.244.2.77:9";
/// How often something is disturbed, and for how long.
const EVERY: Duration = Duration::from_millis(250);
const FOR: Duration = Duration::from_millis(25);
/// Of so many datagrams one is hit.
pub const ONE_OF: u64 = 60;
const TABLE: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// Requests over TCP.
pub fn tcp(fixture: &Fixture, load: &Load) -> Sent {
    send(fixture, &[load.requests(Protocol::Tcp)])
}

/// Requests over so many connections that the next one of a connection comes after a timeout.
pub fn sparse_tcp(fixture: &Fixture, load: &Load) -> Sent {
    send(fixture, &[Spec { connections: (load.rate * 0.6) as u32, ..load.requests(Protocol::Tcp) }])
}

/// Requests over UDP.
pub fn udp(fixture: &Fixture, load: &Load) -> Sent {
    send(fixture, &[load.requests(Protocol::Udp)])
}

/// Requests over UDP, and packets that are handed to the kernel many at once, as one.
pub fn trains(fixture: &Fixture, load: &Load) -> Sent {
    let stream = Spec {
        rate: 10.0 * f64::from(TRAIN),
        duration: Duration::from_secs(1),
        size: Size { request: 200, answer: 200 },
        options: Options { gso: TRAIN, ..Options::default() },
        ..Spec::new(Kind::Stream, Protocol::Udp)
    };
    send(fixture, &[load.requests(Protocol::Udp), stream])
}

/// Answers of many packets over TCP.
pub fn large_tcp(fixture: &Fixture, load: &Load) -> Sent {
    let size = Size { request: 100, answer: 20_000 + 20 * load.size.answer };
    send(fixture, &[Spec { size, rate: load.rate / 2.0, ..load.requests(Protocol::Tcp) }])
}

/// Requests over UDP that do not fit into one packet.
pub fn large_udp(fixture: &Fixture, load: &Load) -> Sent {
    let size = Size { request: 6000, answer: load.size.answer };
    send(fixture, &[Spec { size, ..load.requests(Protocol::Udp) }])
}

/// Small requests over TCP, then some that fill a packet, each over a connection of its own.
pub fn some_full_tcp(fixture: &Fixture, load: &Load) -> Sent {
    let small = load.requests(Protocol::Tcp);
    let size = Size { request: 1380, answer: 100 };
    let (connections, count) = (8, Some(8));
    let timeout = Duration::from_millis(1500);
    send(fixture, &[small.clone(), Spec { size, connections, count, timeout, ..small }])
}

/// New connections at a constant rate, while now and then none may be tracked.
pub fn connections_into_a_full_table(fixture: &Fixture, load: &Load) -> Sent {
    let usual = fs::read_to_string(TABLE).context("connection tracking is not there")?;
    let fill = || {
        fs::write(TABLE, "1")?;
        thread::sleep(FOR);
        Ok(fs::write(TABLE, &usual)?)
    };
    let outcome = meanwhile(fill, EVERY, || connections(fixture, load));
    fs::write(TABLE, &usual)?;
    outcome.map(|()| Vec::new())
}

fn connections(fixture: &Fixture, load: &Load) -> Result<()> {
    let server = fixture.running.server()?;
    let address = SocketAddr::new(server.address, PORT);
    let listener = server.netns.run(|| TcpListener::bind(address))??;
    listener.set_nonblocking(true)?;
    let client = fixture.running.client()?.netns;
    let done = AtomicBool::new(false);
    let connect = || -> Result<()> {
        Ok(client.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)))?.map(drop)?)
    };
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
        let sent = datagrams::at_rate(fixture, load.rate / 2.0, |_| {
            waiting.push(scope.spawn(connect));
            Ok(())
        });
        let failed = || Err(anyhow!("failed"));
        let connected: Vec<Result<()>> =
            waiting.into_iter().map(|thread| thread.join().unwrap_or_else(|_| failed())).collect();
        done.store(true, Ordering::Relaxed);
        sent?;
        connected.into_iter().collect::<Result<()>>().context("a connection never came about")
    })
}

/// Requests over TCP, while now and then node1's tunnel does not know the way to node2.
pub fn tcp_with_fdb_gaps(fixture: &Fixture, load: &Load) -> Sent {
    let entry = "0a:00:00:00:04:02 dev flannel.1 dst 192.0.2.2 self";
    with_gaps(fixture, load, [format!("bridge fdb del {entry}"), format!("bridge fdb add {entry} permanent")])
}

/// Requests over TCP, while now and then node1 has no route to node2's pods.
pub fn tcp_with_route_gaps(fixture: &Fixture, load: &Load) -> Sent {
    let route = "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink";
    with_gaps(fixture, load, [format!("ip route del {route}"), format!("ip route add {route}")])
}

/// Requests over TCP, while now and then a command takes away what another one of node1's gives back.
fn with_gaps(fixture: &Fixture, load: &Load, [take, give]: [String; 2]) -> Sent {
    let node = fixture.running.netns("node1")?.clone();
    let gap = || {
        machine::do_in(&node, &take)?;
        thread::sleep(FOR);
        machine::do_in(&node, &give)
    };
    meanwhile(gap, EVERY, || sparse_tcp(fixture, load))
}

/// Datagrams, some of them after the gateway's address has been forgotten.
pub fn forgetting_the_gateway(fixture: &Fixture, load: &Load) -> Sent {
    let gateway = Entry::of_gateway(fixture.running.netns("pod1")?)?;
    datagrams::send(fixture, load, Reader::default(), |number| {
        if number % ONE_OF == ONE_OF - 1 { gateway.forget() } else { Ok(()) }
    })?;
    fixture.settle().map(|()| Vec::new())
}

/// Datagrams, and now and then one to a pod that is not there.
pub fn knocking_at_nobody(fixture: &Fixture, load: &Load) -> Sent {
    let socket = fixture.running.client()?.netns.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    datagrams::send(fixture, load, Reader::default(), |number| {
        if number % 20 == 19 {
            // That nobody is there may be the answer to this.
            let _ = socket.send_to(b"is anybody there", NOBODY);
        }
        Ok(())
    })?;
    Ok(Vec::new())
}

/// As much over TCP as a reader takes that sleeps before it reads.
pub fn stalled_bulk(fixture: &Fixture, load: &Load) -> Sent {
    let options = Options { reader_delay: Duration::from_millis(40), ..Options::default() };
    let usual = load.requests(Protocol::Tcp);
    send(fixture, &[Spec { kind: Kind::Bulk, connections: 1, options, ..usual }])
}

/// Datagrams one way.
pub fn datagrams(fixture: &Fixture, load: &Load) -> Sent {
    plain(fixture, load, Reader::default())
}

fn plain(fixture: &Fixture, load: &Load, reader: Reader) -> Sent {
    datagrams::send(fixture, load, reader, |_| Ok(())).map(|()| Vec::new())
}

/// Datagrams to a reader that naps.
pub fn napping_reader(fixture: &Fixture, load: &Load) -> Sent {
    let nap = Some((ONE_OF, Duration::from_millis(10)));
    plain(fixture, load, Reader { nap, room: None })
}

/// Datagrams to a reader that naps for longer, so that several wait each time, but not so often that these are all that
/// is slow.
pub fn sleeping_reader(fixture: &Fixture, load: &Load) -> Sent {
    let nap = Some((2 * ONE_OF, Duration::from_millis(25)));
    plain(fixture, load, Reader { nap, room: None })
}

/// Datagrams to a reader that naps and has little room.
pub fn little_room(fixture: &Fixture, load: &Load) -> Sent {
    let nap = Some((ONE_OF, Duration::from_millis(60)));
    plain(fixture, load, Reader { nap, room: Some(1) })
}

/// Datagrams, while something takes the processor from their reader.
pub fn hog_before_the_reader(fixture: &Fixture, load: &Load) -> Sent {
    hogged_at("pod2", Duration::from_millis(3), fixture, load)
}

/// Datagrams, while something takes the processor from ksoftirqd.
pub fn hog_before_ksoftirqd(fixture: &Fixture, load: &Load) -> Sent {
    // Much less than from one clock tick to the next, as a tick does the softirqs that wait: seldom is there one in it.
    hogged_at("pod1", Duration::from_micros(800), fixture, load)
}

fn hogged_at(netns: &str, busy: Duration, fixture: &Fixture, load: &Load) -> Sent {
    let netns = fixture.running.netns(netns)?;
    hogged(netns, (ONE_OF / 2, busy), || plain(fixture, load, Reader::default()))
}

/// Datagrams through a long list of rules.
pub fn through_rules(fixture: &Fixture, load: &Load) -> Sent {
    through(rules::iptables(fixture, 3000)?, fixture, load)
}

/// The same with nftables.
pub fn through_nftables(fixture: &Fixture, load: &Load) -> Sent {
    through(rules::nftables(fixture, 3000)?, fixture, load)
}

fn through(list: Change, fixture: &Fixture, load: &Load) -> Sent {
    fixture.with(&[list], || datagrams(fixture, load))?.map_err(|lack| anyhow!(lack))
}

fn send(fixture: &Fixture, plan: &[Spec]) -> Sent {
    drive(fixture.running, plan, fixture.stop)
}
