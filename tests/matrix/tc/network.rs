//! Two nodes with a pod each and VXLAN between them, in which nothing sends by itself: the devices count what the test
//! sends, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::counters;
use crate::own::Network;

pub const PREFIX: &str = "ot-tc-";
pub const NAMESPACES: [&str; 4] = ["pod1", "node1", "node2", "pod2"];
pub const DATAGRAMS: usize = 60;
/// The datagrams' ports.
pub const PORT: u16 = 7731;
/// Where nobody listens.
pub const REFUSED_PORT: u16 = 7733;
const TCP_PORT: u16 = 7732;
const TCP_BYTES: usize = 2 << 20;
/// Between two datagrams that nobody receives.
const PACE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a datagram from pod 1 to pod 2 is seen: namespace, device, side, level.
pub const PATH: [(&str, &str, &str, u8); 10] = [
    ("pod1", "eth0", "tc-egress", 0),
    ("node1", "veth1", "tc-ingress", 0),
    ("node1", "cni0", "tc-ingress", 0),
    ("node1", "flannel.1", "tc-egress", 0),
    ("node1", "eth0", "tc-egress", 1),
    ("node2", "eth0", "tc-ingress", 1),
    ("node2", "flannel.1", "tc-ingress", 0),
    ("node2", "cni0", "tc-egress", 0),
    ("node2", "veth2", "tc-egress", 0),
    ("pod2", "eth0", "tc-ingress", 0),
];

/// Brings the network up.
pub fn up() -> Result<Network> {
    let network = Network::up(PREFIX, &NAMESPACES, "")?;
    for name in NAMESPACES {
        // Neighbour and router discovery of IPv6 would send by itself.
        network.netns(name)?.run(|| {
            ["all", "default"]
                .iter()
                .try_for_each(|which| fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1"))
        })??;
    }
    network.ip(
        "link add eth0 netns @pod1 address 02:00:00:00:01:02 mtu 1450 type veth peer name veth1 netns @node1\n\
         link add eth0 netns @pod2 address 02:00:00:00:02:02 mtu 1450 type veth peer name veth2 netns @node2\n\
         link add eth0 netns @node1 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:02 netns @node2",
    )?;
    for (own, peer) in [(1, 2), (2, 1)] {
        network.ip_in(&format!("node{own}"), &node(own, peer))?;
        network.ip_in(&format!("pod{own}"), &pod(own))?;
        let forward = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        network.netns(&format!("node{own}"))?.run(forward)??;
    }
    Ok(network)
}

fn node(own: u8, peer: u8) -> String {
    format!(
        "link set lo up\n\
         link add cni0 address 02:00:00:00:0{own}:01 mtu 1450 type bridge\n\
         link set veth{own} mtu 1450 master cni0\n\
         link set veth{own} up\n\
         addr add 10.244.{own}.1/24 dev cni0\n\
         link set cni0 up\n\
         addr add 192.0.2.{own}/24 dev eth0\n\
         link set eth0 up\n\
         neigh add 192.0.2.{peer} lladdr 02:00:00:00:00:0{peer} dev eth0\n\
         link add flannel.1 address 02:00:00:00:0{own}:ff mtu 1450 type vxlan id 1 local 192.0.2.{own} remote 192.0.2.{peer} dstport 8472\n\
         link set flannel.1 up\n\
         route add 10.244.{peer}.0 dev flannel.1\n\
         neigh add 10.244.{peer}.0 lladdr 02:00:00:00:0{peer}:ff dev flannel.1\n\
         route add 10.244.{peer}.0/24 via 10.244.{peer}.0 dev flannel.1\n\
         neigh add 10.244.{own}.2 lladdr 02:00:00:00:0{own}:02 dev cni0\n"
    )
}

fn pod(own: u8) -> String {
    format!(
        "link set lo up\n\
         addr add 10.244.{own}.2/24 dev eth0\n\
         link set eth0 up\n\
         neigh add 10.244.{own}.1 lladdr 02:00:00:00:0{own}:01 dev eth0\n\
         route add default via 10.244.{own}.1\n"
    )
}

/// Sends datagrams of different lengths from pod 1 to pod 2, each of which is received.
pub fn datagrams(network: &Network) -> Result<()> {
    datagrams_between(network, "10.244.1.2", "10.244.2.2")
}

/// The same, between these addresses of theirs.
pub fn datagrams_between(network: &Network, source: &str, destination: &str) -> Result<()> {
    let receiver = network.netns("pod2")?.run(|| UdpSocket::bind((destination, PORT)))??;
    let sender = network.netns("pod1")?.run(|| UdpSocket::bind((source, PORT)))??;
    receiver.set_read_timeout(Some(PATIENCE))?;
    for number in 0..DATAGRAMS {
        sender.send_to(&vec![7; 100 + number], (destination, PORT))?;
        let length = receiver.recv(&mut [0; 2000]).with_context(|| format!("datagram {number} was lost"))?;
        ensure!(length == 100 + number, "datagram {number} has {length} bytes");
    }
    Ok(())
}

/// Sends datagrams to a port of pod 2 where nobody listens.
pub fn refused(network: &Network) -> Result<()> {
    let sender = network.netns("pod1")?.run(|| UdpSocket::bind(("10.244.1.2", 0)))??;
    for _ in 0..DATAGRAMS {
        sender.send_to(&[7; 100], ("10.244.2.2", REFUSED_PORT))?;
        std::thread::sleep(PACE);
    }
    Ok(())
}

/// Sends a stream from pod 1 to pod 2, in segments that the stack puts together.
pub fn stream(network: &Network) -> Result<()> {
    let listener = network.netns("pod2")?.run(|| TcpListener::bind(("10.244.2.2", TCP_PORT)))??;
    let mut sender = network.netns("pod1")?.run(|| TcpStream::connect(("10.244.2.2", TCP_PORT)))??;
    let (mut receiver, _) = listener.accept()?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    let received = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        receiver.read_to_end(&mut bytes).map(|_| bytes.len())
    });
    sender.write_all(&vec![1; TCP_BYTES])?;
    drop(sender);
    let received = received.join().map_err(|_| anyhow::anyhow!("the receiver failed"))??;
    ensure!(received == TCP_BYTES, "{received} bytes were received");
    Ok(())
}

/// How many packets came in and went out, by namespace and device.
pub type Counts = BTreeMap<(String, String), [u64; 2]>;

/// The devices' own counters.
pub fn counts(network: &Network) -> Result<Counts> {
    let mut counts = Counts::new();
    for name in NAMESPACES {
        let devices = counters::of_devices(&network.netns(name)?)?;
        let others = devices.into_iter().filter(|(device, _)| device != "lo");
        counts.extend(others.map(|(device, count)| ((name.to_owned(), device), count)));
    }
    Ok(counts)
}
