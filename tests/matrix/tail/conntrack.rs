//! Connection tracking: two packets that race for one entry, and a table whose chains are long.

use std::fs;
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, anyhow};
use overlay_trace_lab::dataplanes::Netns;
use socket2::{Domain, Socket, Type};

use super::causes::{expected, packets, step};
use super::datagrams::{self, Reader};
use super::injection::{ANYWHERE, Injection, Step};
use super::load::Load;
use super::traffic::{ONE_OF, Sent, connections_into_a_full_table};
use crate::machine;
use crate::truth::fixture::Fixture;
use crate::truth::neighbour::Entry;

/// A service; behind it stands a pod of node1's of which it is not known at first where it is.
const SERVICE: &str = "198.51.100.1:53";
const POD: [u8; 4] = [10, 244, 1, 99];
const POD_LINK_LAYER: [u8; 6] = [0x0a, 0, 0, 0, 0, 0x99];

const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";
const TABLE: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// As few as the kernel has; the table is all namespaces'.
const FEW: &str = "512";
/// So many connections of somebody else are in the table: to each of these addresses.
const CROWD: [(&str, u16); 2] = [("198.18.0.2", 55_000), ("198.18.0.3", 55_000)];
const CROWD_NETNS: &str = "ot-tail-crowd";
/// The traffic's own connections exist by then: where chains are long, the kernel takes no new ones.
const CHAINED_FROM: u64 = 20;

/// What goes to the service leaves pod1 twice.
const DOUBLED: Step = step(
    "pod1",
    &[
        "tc qdisc replace dev eth0 root handle 1: prio",
        "tc qdisc add dev eth0 parent 1:3 handle 30: netem duplicate 100%",
        "tc filter add dev eth0 parent 1: protocol ip u32 match ip dst 198.51.100.0/24 flowid 1:3",
    ],
    &["tc qdisc del dev eth0 root"],
);
const SERVICE_ON_BRIDGE: Step = step(
    "node1",
    &[
        "ip link add dev pod99 type dummy",
        "ip link set dev pod99 master cni0 up",
        "bridge fdb add 0a:00:00:00:00:99 dev pod99 master static",
        "iptables-legacy -t nat -I PREROUTING -d 198.51.100.0/24 -p tcp -j DNAT --to-destination 10.244.1.99",
    ],
    &[
        "iptables-legacy -t nat -D PREROUTING -d 198.51.100.0/24 -p tcp -j DNAT --to-destination 10.244.1.99",
        "ip link del dev pod99",
    ],
);

/// The tunnel's outer packets have no entries in the table of connections.
const OUTER_UNTRACKED: &[&str] = &[
    "iptables-legacy -t raw -I OUTPUT -p udp --dport 8472 -j CT --notrack",
    "iptables-legacy -t raw -I PREROUTING -p udp --dport 8472 -j CT --notrack",
];
const OUTER_TRACKED: &[&str] = &[
    "iptables-legacy -t raw -D OUTPUT -p udp --dport 8472 -j CT --notrack",
    "iptables-legacy -t raw -D PREROUTING -p udp --dport 8472 -j CT --notrack",
];

/// In the lab flannel-vxlan.
pub const CAUSES: &[Injection] = &[
    Injection {
        traffic: connections_into_a_full_table,
        ..packets(
            "conntrack/full",
            &[expected("conntrack-refused", "node1", "cni0", 0)],
            // Otherwise it is an accident whether the pod's connection is refused or the outer one.
            &[step("node1", OUTER_UNTRACKED, OUTER_TRACKED), step("node2", OUTER_UNTRACKED, OUTER_TRACKED)],
        )
    },
    Injection {
        traffic: connecting_twice,
        ..packets(
            "conntrack/race",
            &[expected("conntrack-race", "node1", "veth-pod1", 0)],
            &[DOUBLED, SERVICE_ON_BRIDGE],
        )
    },
    Injection {
        traffic: in_a_crowd,
        ..packets("conntrack/chains", &[expected("long-conntrack", ANYWHERE, ANYWHERE, 0)], &[])
    },
];

/// Datagrams one way, and now and then a new connection whose first packet comes twice. Both wait until it is known
/// where the pod is, so that neither has an entry when the other one comes: when they go on, one is too late. (Of
/// datagrams the kernel would let both pass.)
fn connecting_twice(fixture: &Fixture, load: &Load) -> Sent {
    let client = fixture.running.client()?.netns;
    let pod = Entry::new(fixture.running.netns("node1")?, POD, "cni0")?;
    let service: SocketAddr = SERVICE.parse()?;
    datagrams::send(fixture, load, Reader::default(), |number| {
        if number % ONE_OF != ONE_OF / 2 {
            return Ok(());
        }
        let socket = client.run(|| Socket::new(Domain::IPV4, Type::STREAM, None))??;
        socket.set_nonblocking(true)?;
        // Nobody will answer: it is in flight as long as the socket is there.
        let _ = socket.connect(&service.into());
        pod.learn(POD_LINK_LAYER)?;
        pod.forget()
    })?;
    Ok(Vec::new())
}

/// Datagrams one way, while the table has few buckets for the many connections of somebody else.
fn in_a_crowd(fixture: &Fixture, load: &Load) -> Sent {
    let usual = |path: &str| fs::read_to_string(path).context("connection tracking is not there");
    let (buckets, most) = (usual(BUCKETS)?, usual(TABLE)?);
    let crowd = Crowd::new()?;
    fs::write(TABLE, "200000")?;
    let sent = crowd.gather().and_then(|()| {
        datagrams::send(fixture, load, Reader::default(), |number| match number {
            CHAINED_FROM => Ok(fs::write(BUCKETS, FEW)?),
            _ => Ok(()),
        })
    });
    fs::write(BUCKETS, buckets.trim())?;
    fs::write(TABLE, most.trim())?;
    sent.map(|()| Vec::new())
}

/// A namespace whose connections are in the same table as all others'.
struct Crowd(Netns);

impl Crowd {
    fn new() -> Result<Crowd> {
        run("ip netns add", CROWD_NETNS)?;
        let crowd = Crowd(Netns::named(CROWD_NETNS)?);
        for command in [
            "ip link add name nowhere type dummy",
            "ip addr add 198.18.0.1/15 dev nowhere",
            "ip link set dev nowhere up",
            "iptables-legacy -A OUTPUT -m conntrack --ctstate NEW",
        ] {
            machine::do_in(&crowd.0, command)?;
        }
        Ok(crowd)
    }

    /// Makes the connections: a datagram each, which nobody gets.
    fn gather(&self) -> Result<()> {
        let socket = self.0.run(|| UdpSocket::bind("0.0.0.0:0"))??;
        for (address, ports) in CROWD {
            for port in 1..=ports {
                socket.send_to(b"", (address, port)).context("no crowd gathers")?;
            }
        }
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // What is left of it is seen by who looks for what is left.
        let _ = run("ip netns del", CROWD_NETNS);
    }
}

fn run(command: &str, netns: &str) -> Result<()> {
    machine::run(&format!("{command} {netns}"))?.map_or(Ok(()), |lack| Err(anyhow!(lack)))
}
