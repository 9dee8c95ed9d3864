//! Ways to lose a packet, each by design: every one is reported with its reason, at its stage and device.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use overlay_trace_analysis::breakdown::{By, Collector, Drop};
use overlay_trace_analysis::tail::drop_row;
use overlay_trace_format::Recording;
use overlay_trace_probe::load::Sizes;
use overlay_trace_probe::sys::kernel::{Kernel, at_least};
use overlay_trace_probe::{FilterOptions, ProbeSet, drop_reasons, is_given, wanted_functions};
use socket2::SockRef;

use crate::machine;
use crate::own::{self, Network, Plan, is_exact, no_losses};
use crate::results::{Outcome, Results, Verdict};
use crate::tail::REASONS;

/// A sender, a router and a receiver, with three links between the latter two: an ordinary one, one that
/// loses everything, and one that is very slow.
const LINKS: &str = "\
link add eth0 netns @a type veth peer name left netns @r
link add right netns @r type veth peer name eth0 netns @c
link add lossy netns @r type veth peer name eth1 address 02:00:00:00:03:02 netns @c
link add slow netns @r type veth peer name eth2 address 02:00:00:00:04:02 netns @c
";
const ADDRESSES: &[(&str, &str)] = &[
    ("a", "addr add 10.96.1.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.96.1.1"),
    (
        "r",
        "addr add 10.96.1.1/24 dev left\naddr add 10.96.2.1/24 dev right\naddr add 10.96.3.1/24 dev lossy\n\
         addr add 10.96.4.1/24 dev slow\n\
         link add back type vxlan id 9 dstport 4789 remote 10.96.2.1\naddr add 10.96.5.1/24 dev back\n\
         link set lo up\nlink set left up\nlink set right up\nlink set lossy up\nlink set slow up\n\
         neigh add 10.96.3.2 lladdr 02:00:00:00:03:02 dev lossy\n\
         neigh add 10.96.4.2 lladdr 02:00:00:00:04:02 dev slow\n\
         link set back address 02:00:00:00:05:02 up\n\
         neigh add 10.96.5.2 lladdr 02:00:00:00:05:02 dev back",
    ),
    (
        "c",
        "addr add 10.96.2.2/24 dev eth0\naddr add 10.96.3.2/24 dev eth1\naddr add 10.96.4.2/24 dev eth2\n\
         link set eth0 up\nlink set eth1 up\nlink set eth2 up\nroute add default via 10.96.2.1",
    ),
];

/// Datagrams of each case.
const COUNT: u64 = 40;

/// One way to lose packets.
struct Case {
    name: &'static str,
    to: &'static str,
    port: u16,
    /// Hops that the packets may make; 0 for the usual number.
    ttl: u32,
    /// What the router needs for it.
    command: Option<&'static str>,
    /// Whether all are lost, or only some.
    all: bool,
    /// Short name of the namespace, and the device if one is known there.
    place: (&'static str, &'static str),
    /// Its stage, by what the probe set sees.
    stages: &'static [&'static str],
    /// Names of its reason, by kernel.
    reasons: &'static [&'static str],
    /// Beginnings of the functions in which it is dropped, for kernels that have no reasons.
    functions: &'static [&'static str],
}

/// Where what a qdisc refuses is freed.
const QDISC_DROPS: &[&str] = &["__dev_queue_xmit", "__dev_xmit_skb", "kfree_skb_list"];

const CASES: &[Case] = &[
    Case {
        name: "netem",
        to: "10.96.3.2",
        port: 7741,
        ttl: 0,
        command: Some("tc qdisc replace dev lossy root netem loss 100%"),
        all: true,
        place: ("r", "lossy"),
        // netem says that it has taken the packet.
        stages: &["dev-queue-xmit", "qdisc-wait"],
        reasons: &["QDISC_DROP"],
        functions: QDISC_DROPS,
    },
    Case {
        name: "full-qdisc",
        to: "10.96.4.2",
        port: 7742,
        ttl: 0,
        command: Some("tc qdisc replace dev slow root tbf rate 1kbit burst 2kb limit 2kb"),
        all: false,
        place: ("r", "slow"),
        // Old kernels do not show whether the queue has taken it.
        stages: &["dev-queue-xmit", "qdisc-wait"],
        reasons: &["QDISC_DROP"],
        functions: QDISC_DROPS,
    },
    Case {
        name: "iptables",
        to: "10.96.2.2",
        port: 7743,
        ttl: 0,
        command: Some("iptables-legacy -A FORWARD -p udp --dport 7743 -j DROP"),
        all: true,
        place: ("r", ""),
        stages: &["iptables"],
        reasons: &["NETFILTER_DROP"],
        functions: &["nf_hook_slow"],
    },
    Case {
        name: "no-route",
        to: "10.55.0.1",
        port: 7744,
        ttl: 0,
        command: None,
        all: true,
        place: ("r", ""),
        stages: &["route-input"],
        reasons: &["IP_INNOROUTES"],
        functions: &["ip_error"],
    },
    Case {
        name: "no-listener",
        to: "10.96.2.2",
        port: 7745,
        ttl: 0,
        command: None,
        all: true,
        place: ("c", ""),
        stages: &["udp-rcv"],
        reasons: &["NO_SOCKET"],
        functions: &["__udp4_lib_rcv"],
    },
    Case {
        name: "full-socket",
        to: "10.96.2.2",
        port: FULL_SOCKET,
        ttl: 0,
        command: None,
        all: false,
        place: ("c", ""),
        stages: &["socket-wait"],
        reasons: &["SOCKET_RCVBUFF"],
        functions: &["udp_queue_rcv"],
    },
    Case {
        name: "ttl",
        to: "10.96.2.2",
        port: 7747,
        ttl: 1,
        command: None,
        all: true,
        place: ("r", ""),
        stages: &["ip-forward"],
        reasons: &["IP_INHDR"],
        functions: &["ip_forward"],
    },
    // The tunnel's other end is this machine's own: the packet comes back at once, without headers around it,
    // and is sent again, until it has made too many hops.
    Case {
        name: "bypass",
        to: "10.96.5.2",
        port: 7748,
        ttl: 8,
        command: None,
        all: true,
        place: ("r", "back"),
        stages: &["ip-forward"],
        reasons: &["IP_INHDR"],
        functions: &["ip_forward"],
    },
];
const FULL_SOCKET: u16 = 7746;

/// Every reason that the running kernel gives has a row in the table of drops.
pub fn check_table(results: &mut Results) {
    if results.wants(TABLE) {
        results.add(TABLE, table());
    }
}

const TABLE: &str = "drops/table";

fn table() -> Outcome {
    let reasons = drop_reasons(&Kernel::read(&wanted_functions())?);
    let given: Vec<&String> = reasons.values().filter(|name| is_given(name)).collect();
    let without: Vec<&&String> = given.iter().filter(|name| drop_row(name, "").is_none()).collect();
    ensure!(without.is_empty(), "reasons without a row: {without:?}");
    ensure!(given.is_empty() != at_least(REASONS), "{} reasons", given.len());
    Ok(Verdict::With(format!("{} reasons", given.len())))
}

/// Runs a recording of all cases.
pub fn run(set: ProbeSet, folder: &Path, results: &mut Results) {
    let names: Vec<String> = CASES.iter().map(|case| format!("drops/{}/{}", set.name(), case.name)).collect();
    let first: Vec<&str> = names.iter().map(String::as_str).collect();
    own::add(&first, results, |results| {
        let network = build()?;
        let lacks = CASES.iter().map(|case| prepare(&network, case)).collect::<Result<Vec<_>>>()?;
        let name = format!("drops-{}", set.name());
        let netns = vec![network.name("r")];
        // Also what the kernel sends by itself, looking for neighbours and groups, must not get lost.
        let filter = FilterOptions { netns, ..FilterOptions::default() };
        let plan = Plan { set, folder, name: &name, filter, sizes: Sizes::default() };
        let (recording, ()) = plan.record(|_| send_all(&network))?;
        is_exact(&recording)?;
        no_losses(&recording)?;
        for ((case, name), lack) in CASES.iter().zip(&names).zip(lacks) {
            let outcome = match lack {
                Some(lack) => Ok(Verdict::Skipped(lack)),
                None => check(case, set, &recording, &network),
            };
            results.add(name, outcome);
        }
        Ok(())
    });
}

fn build() -> Result<Network> {
    let network = Network::up("ot-drop-", &["a", "r", "c"], LINKS)?;
    for (name, lines) in ADDRESSES {
        network.ip_in(name, lines)?;
    }
    network.netns("r")?.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
    Ok(network)
}

/// Why the case is not possible here.
fn prepare(network: &Network, case: &Case) -> Result<Option<String>> {
    match case.command {
        Some(command) => machine::run_in(&network.netns("r")?, command),
        None => Ok(None),
    }
}

fn send_all(network: &Network) -> Result<()> {
    let full = network.netns("c")?.run(|| UdpSocket::bind(("10.96.2.2", FULL_SOCKET)))??;
    SockRef::from(&full).set_recv_buffer_size(1)?;
    for case in CASES {
        network.netns("a")?.run(|| send(case))??;
    }
    // The last ones are still in flight.
    thread::sleep(Duration::from_millis(500));
    Ok(())
}

fn send(case: &Case) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    if case.ttl > 0 {
        socket.set_ttl(case.ttl)?;
    }
    let to = SocketAddr::new(case.to.parse()?, case.port);
    for _ in 0..COUNT {
        // An answer that says that there is no route, or nobody listens, makes the next send fail.
        while socket.send_to(&[7; 100], to).is_err() {}
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The drops of a case are where they belong, and as many as there were.
fn check(case: &Case, set: ProbeSet, recording: &Recording, network: &Network) -> Outcome {
    let drops = drops(case.port, recording)?;
    let of_case = |drop: &&Drop| is_known(drop, case);
    let seen: Vec<String> = drops.iter().map(describe).collect();
    let right: Vec<&Drop> = drops.iter().filter(of_case).collect();
    let count: u64 = right.iter().map(|drop| drop.packets).sum();
    let enough = if case.all { count == COUNT } else { count > 0 && count < COUNT };
    ensure!(enough, "{count} of {COUNT} packets were dropped for this reason; seen: {}", seen.join("; "));
    let (netns, device) = (network.name(case.place.0), case.place.1);
    for drop in right {
        let key = &drop.key;
        let at = key.device.as_deref().unwrap_or_default();
        let stage = key.stage.as_deref().unwrap_or_default();
        // The light set does not see that a packet is handed to a queue that refuses it.
        let is_at_device = device.is_empty() || at == device || set == ProbeSet::Light && stage == "receive";
        ensure!(key.netns.as_deref() == Some(&netns), "dropped in another namespace: {}", describe(drop));
        ensure!(is_at_device, "dropped at another device: {}", describe(drop));
        ensure!(key.level == Some(0), "dropped at another level: {}", describe(drop));
        let is_stage = set != ProbeSet::Full || case.stages.contains(&stage);
        ensure!(is_stage, "dropped in another stage: {}", describe(drop));
        ensure!(drop.location.contains('+'), "it is not said in which function: {}", describe(drop));
    }
    Ok(Verdict::With(seen.join("; ")))
}

/// Whether a drop has the reason of the case, or where the kernel gives none, its place in the kernel.
fn is_known(drop: &Drop, case: &Case) -> bool {
    if drop.reason.is_empty() || drop.reason == "NOT_SPECIFIED" {
        case.functions.iter().any(|function| drop.location.starts_with(function))
    } else {
        case.reasons.iter().any(|reason| drop.reason.ends_with(reason))
    }
}

fn drops(port: u16, recording: &Recording) -> Result<Vec<Drop>> {
    let mut collector = Collector::new(&recording.header, &recording.hops, By::Stage);
    recording.for_each_record(|record| {
        if record.header.flow.destination_port == port {
            collector.add(&record);
        }
    })?;
    Ok(collector.finish(&recording.names).drops)
}

fn describe(drop: &Drop) -> String {
    let key = &drop.key;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (stage, netns, device) = (text(&key.stage), text(&key.netns), text(&key.device));
    let place = format!("{stage} L{} {netns} {device}", key.level.unwrap_or_default());
    format!("{} {} {} in {place}", drop.packets, drop.reason, drop.location)
}
