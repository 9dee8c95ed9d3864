//! What runs in a guest: a node with a pod, flannel's VXLAN to the other node, the recorder, and traffic.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_trace_lab::dataplanes::Netns;
use overlay_trace_lab::traffic::{self, Kind, PORT, Protocol, Server, Spec, Stop, TrafficReport};
use overlay_trace_probe::{ProbeSet, Session, SessionOptions};

use super::rendezvous::Rendezvous;
use super::true_clock::Shared;
use crate::machine;
use crate::own::Network;

/// A ClusterIP, which the sending node translates to the server's.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const PATIENCE: Duration = Duration::from_secs(300);
/// The beginning of the names of all namespaces of the test, and the short name of the pod's.
pub const PREFIX: &str = "ot-merge-";
const POD: &str = "pod";

/// Guest 1 sends, guest 2 answers. What goes wrong the others are told too.
pub fn run(number: u8, set: ProbeSet, folder: &Path, stop: &Stop) -> Result<()> {
    let meeting = Rendezvous::at(folder);
    let done = take_part(number, set, &meeting, stop);
    if let Err(error) = &done {
        meeting.tell("failed", &format!("guest{number}: {error:#}"))?;
    }
    done
}

fn take_part(number: u8, set: ProbeSet, meeting: &Rendezvous, stop: &Stop) -> Result<()> {
    // Only the test's own guests have it: nothing is changed elsewhere.
    let shared = Shared::of_device()?;
    nix::unistd::sethostname(format!("guest{number}")).context("cannot name the guest")?;
    let network = node(number)?;
    let pod = network.netns(POD)?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| shared.answer(&is_over));
        let outcome = record(number, set, (meeting, &pod), stop);
        is_over.store(true, Ordering::Relaxed);
        outcome
    })
}

fn record(number: u8, set: ProbeSet, (meeting, pod): (&Rendezvous, &Netns), stop: &Stop) -> Result<()> {
    let server = SocketAddr::from((pod_address(2), PORT));
    let _server = if number == 2 { Some(pod.run(|| Server::start(server))??) } else { None };
    // The share is slow: the recording is moved there at its end.
    let (own, file) = (tempfile::tempdir()?, format!("guest{number}.otr"));
    let path = own.path().join(&file);
    let session =
        Session::start(SessionOptions { set: Some(set), output: path.clone(), ..SessionOptions::default() })?;
    meeting.tell(&format!("guest{number}.ready"), "")?;
    if number == 1 {
        for (part, specs) in [("1", before_pause()), ("2", vec![requests(Protocol::Udp)])] {
            meeting.wait(&format!("go{part}"), PATIENCE, || stop.check())?;
            let reports = pod.run(|| send(&specs, server, stop))??;
            meeting.tell(&format!("traffic{part}"), &serde_json::to_string(&reports)?)?;
        }
    }
    meeting.wait("stop", PATIENCE, || stop.check())?;
    ensure!(!session.failed(), "the recording gave up before its end");
    session.stop().context("the recording could not be finished")?;
    fs::copy(&path, meeting.file(&file)).context("cannot hand over the recording")?;
    meeting.tell(&format!("guest{number}.done"), "")
}

/// Sends this to the server, once by its own address, and once by the service's.
fn send(specs: &[Spec], to: SocketAddr, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let service = SocketAddr::from((SERVICE, PORT));
    let each = |spec: &Spec| {
        let is_request = spec.kind == Kind::Rr;
        let addresses = [Some(to), is_request.then_some(service)].into_iter().flatten();
        addresses.map(|address| traffic::run(spec, address, stop)).collect::<Result<Vec<_>>>()
    };
    Ok(specs.iter().map(each).collect::<Result<Vec<_>>>()?.concat())
}

/// Requests over both protocols, and then as much as there is room for.
fn before_pause() -> Vec<Spec> {
    let bulk = Spec { duration: Duration::from_millis(1500), ..Spec::new(Kind::Bulk, Protocol::Tcp) };
    vec![requests(Protocol::Udp), requests(Protocol::Tcp), bulk]
}

fn requests(protocol: Protocol) -> Spec {
    Spec {
        rate: 150.0,
        duration: Duration::from_secs(2),
        timeout: Duration::from_secs(3),
        ..Spec::new(Kind::Rr, protocol)
    }
}

fn pod_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, number, 2)
}

/// A node as flannel sets it up, with one pod.
fn node(n: u8) -> Result<Network> {
    let p = 3 - n;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot forward packets")?;
    let network = Network::up(
        PREFIX,
        &[POD],
        &format!(
            "link set eth0 address 52:54:00:00:07:0{n} mtu 1500\naddr add 192.0.2.{n}/24 dev eth0\nlink set eth0 up\n\
             link add flannel.1 address 0a:00:00:00:04:0{n} mtu 1450 type vxlan id 1 dev eth0 local 192.0.2.{n} \
             dstport 8472 nolearning\n\
             addr add 10.244.{n}.0/32 dev flannel.1\nlink set flannel.1 up\n\
             route add 10.244.{p}.0/24 via 10.244.{p}.0 dev flannel.1 onlink\n\
             neigh add 10.244.{p}.0 lladdr 0a:00:00:00:04:0{p} dev flannel.1 nud permanent\n\
             link add cni0 mtu 1450 type bridge\naddr add 10.244.{n}.1/24 dev cni0\nlink set cni0 up\n\
             link add veth0 mtu 1450 type veth peer name eth0 mtu 1450 netns @{POD}\n\
             link set veth0 master cni0 up"
        ),
    )?;
    network.ip_in(
        POD,
        &format!(
            "link set lo up\naddr add {}/24 dev eth0\nlink set eth0 up\nroute add default via 10.244.{n}.1",
            pod_address(n)
        ),
    )?;
    let entry = format!("fdb add 0a:00:00:00:04:0{p} dev flannel.1 dst 192.0.2.{p} self permanent");
    let added = Command::new("bridge").args(entry.split(' ')).status().context("cannot run bridge")?;
    ensure!(added.success(), "the other node's VXLAN address cannot be set");
    for protocol in ["udp", "tcp"] {
        machine::run(&format!(
            "iptables -t nat -A PREROUTING -d {SERVICE}/32 -p {protocol} --dport {PORT} -j DNAT --to-destination {}",
            pod_address(2)
        ))?;
    }
    Ok(network)
}
