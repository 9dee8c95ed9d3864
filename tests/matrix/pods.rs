//! Pods that come and go while they are recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use overlay_trace_common::flags::RecordFlags;
use overlay_trace_format::{RecordView, Recording};
use overlay_trace_lab::traffic::Stop;

use crate::node::Of;
use crate::own::{Network, is_exact, no_losses, places, send};
use crate::results::{Outcome, Results, Verdict};

pub const NAMES: &str = "node/pods/names";
pub const RECORDS: &str = "node/pods/records";

/// As many pods as can come and go in this time, but no more than that, and at least so many.
const TIME: Duration = Duration::from_secs(90);
const MOST: usize = 1000;
const LEAST: usize = 40;
/// So many live at a time.
const AT_A_TIME: usize = 4;
const DATAGRAMS: usize = 3;
const PORT: u16 = 7711;

/// Pods that live for a moment, each with an `eth0` of the same index and a namespace whose address and number
/// the next one gets: everything that is recorded of one has its names.
pub fn run(of: Of, stop: &Stop, results: &mut Results) -> Result<()> {
    let network = Network::up("ot-pods-", &["hub"], "")?;
    network.ip_in(
        "hub",
        "link add otp0 address 02:00:00:00:00:01 type bridge\naddr add 10.99.0.1/16 dev otp0\nlink set otp0 up\nlink set lo up",
    )?;
    let hub = network.netns("hub")?;
    let socket = hub.run(|| UdpSocket::bind(("10.99.0.1", PORT)))??;
    let is_over = AtomicBool::new(false);
    let (recording, (made, received)) = of("pods", &[network.name("hub")]).record(|_| {
        thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&socket, &is_over));
            let made = come_and_go(&network, stop);
            is_over.store(true, Ordering::Relaxed);
            let received = receiver.join().map_err(|_| anyhow::anyhow!("the receiver failed"))??;
            Ok((made?, received))
        })
    })?;
    results.add(NAMES, names(&recording, made, &network));
    results.add(RECORDS, records(&recording, made, received));
    Ok(())
}

/// Makes pods, lets each send, and deletes those that are old; returns how many there were.
fn come_and_go(network: &Network, stop: &Stop) -> Result<usize> {
    let begin = Instant::now();
    let mut made = 0;
    while made < MOST && (begin.elapsed() < TIME || made < LEAST) {
        stop.check()?;
        made += 1;
        let pod = format!("p{made}");
        network.ip(&format!(
            "netns add @{pod}\nlink add veth{made} netns @hub type veth peer name eth0 netns @{pod}"
        ))?;
        network.ip_in("hub", &format!("link set veth{made} master otp0 up"))?;
        network.ip_in(&pod, &format!("addr add {}/16 dev eth0\nlink set eth0 up", address(made)))?;
        let server = SocketAddr::from(([10, 99, 0, 1], PORT));
        network.netns(&pod)?.run(|| send(server, DATAGRAMS))??;
        if made > AT_A_TIME {
            network.ip(&format!("netns delete @p{}", made - AT_A_TIME))?;
        }
    }
    Ok(made)
}

fn address(pod: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 1 + (pod / 250) as u8, 1 + (pod % 250) as u8)
}

fn pod_of(source: [u8; 16]) -> usize {
    usize::from(source[2] - 1) * 250 + usize::from(source[3]) - 1
}

fn receive(socket: &UdpSocket, is_over: &AtomicBool) -> Result<usize> {
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut received = 0;
    loop {
        match socket.recv(&mut [0; 200]) {
            Ok(_) => received += 1,
            Err(_) if is_over.load(Ordering::Relaxed) => return Ok(received),
            Err(_) => {}
        }
    }
}

/// Datagrams from pods to the hub.
fn is_of_pod(record: &RecordView<'_>) -> bool {
    let flow = record.header.flow;
    flow.protocol == 17 && flow.destination_port == PORT && !record.header.flags.has(RecordFlags::CHILD)
}

fn names(recording: &Recording, made: usize, network: &Network) -> Outcome {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    recording.for_each_record(|record| {
        if !is_of_pod(&record) {
            return;
        }
        let pod = pod_of(record.header.flow.source);
        let (own, veth) = (network.name(&format!("p{pod}")), format!("veth{pod}"));
        let hub = network.name("hub");
        for (netns, device) in places(recording, &record) {
            let is_right = match device {
                "eth0" => netns == own,
                "otp0" => netns == hub,
                "" => netns == own || netns == hub,
                device => netns == hub && device == veth,
            };
            if is_right && netns == own {
                seen.insert(pod);
            } else if !is_right {
                wrong.push(format!("pod {pod}: {netns} {device}"));
            }
        }
    })?;
    ensure!(
        wrong.is_empty(),
        "{} places are called wrongly, such as {}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("; ")
    );
    ensure!(seen.len() == made, "of {made} pods only {} have a name", seen.len());
    let mut numbers: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for hop in recording.hops.values() {
        numbers.entry(hop.netns_inode).or_default().insert(&hop.netns);
    }
    let again = numbers.values().filter(|names| names.len() > 1).count();
    ensure!(again > 0, "no namespace had the number of an earlier one: this test shows nothing");
    Ok(Verdict::With(format!(
        "{made} pods, {} hops, {again} numbers of namespaces used again",
        recording.hops.len()
    )))
}

fn records(recording: &Recording, made: usize, received: usize) -> Outcome {
    is_exact(recording)?;
    let sent = made * DATAGRAMS;
    let mut count = 0;
    recording.for_each_record(|record| count += usize::from(is_of_pod(&record)))?;
    ensure!(received == sent, "{sent} datagrams were sent, {received} arrived");
    ensure!(count == sent, "{sent} datagrams were sent, {count} were recorded");
    no_losses(recording)?;
    Ok(Verdict::With(format!("{count} datagrams")))
}
