//! Settings for the rows of the stage map that no lab exercises by itself: firewalls of another kind, tc,
//! fragments, software segmentation, other tunnels.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_trace_lab::dataplanes::{Running, drive};
use overlay_trace_lab::traffic::{self, Kind, PORT, Protocol, Size, Spec, Stop, TrafficReport};
use socket2::{Domain, Socket, Type};

use crate::machine;
use crate::networks::moderate;
use crate::results::Verdict;
use crate::scene::{Check, Lack, check};

/// Sends the traffic of a scene.
pub type Drive = fn(&Running, &Stop) -> Result<Vec<TrafficReport>>;

/// Something that is set up, and the rows of the stage map that need it.
struct Piece {
    stages: &'static [&'static str],
    /// Short names of namespaces.
    on: &'static [&'static str],
    /// Words of a command; `{n}` is the node's number, `{p}` the other's.
    commands: &'static [&'static str],
}

const NODES: &[&str] = &["node1", "node2"];

const PATHS: &[Piece] = &[
    Piece {
        stages: &["nftables"],
        on: NODES,
        commands: &[
            "nft add table inet special",
            "nft add chain inet special forward { type filter hook forward priority 10 ; }",
        ],
    },
    Piece {
        stages: &["tc-classify"],
        on: NODES,
        commands: &["tc qdisc add dev cni0 clsact", "tc filter add dev cni0 ingress matchall action ok"],
    },
    Piece {
        stages: &["qdisc-wait", "qdisc-run"],
        on: &["node2"],
        commands: &["tc qdisc replace dev eth0 root tbf rate 100mbit burst 20kb latency 100ms"],
    },
    Piece { stages: &["gso-segment", "end-merged"], on: &["node1"], commands: &["ethtool -K eth0 tso off"] },
    Piece { stages: &["checksum"], on: &["pod2"], commands: &["ethtool -K eth0 tx off"] },
];

const TUNNELS: &[Piece] = &[
    Piece {
        stages: &["gre-encap", "gre-decap"],
        on: NODES,
        commands: &[
            "ip link add gre7 type gre local 192.0.2.{n} remote 192.0.2.{p}",
            "ip addr add 10.77.1.{n}/24 dev gre7",
            "ip link set gre7 up",
        ],
    },
    Piece {
        stages: &["gretap-encap", "gre-decap"],
        on: NODES,
        commands: &[
            "ip link add tap7 type gretap local 192.0.2.{n} remote 192.0.2.{p}",
            "ip addr add 10.77.2.{n}/24 dev tap7",
            "ip link set tap7 up",
        ],
    },
    Piece {
        stages: &["geneve-encap", "geneve-decap"],
        on: NODES,
        commands: &[
            "ip link add gen7 type geneve id 7 remote 192.0.2.{p}",
            "ip addr add 10.77.3.{n}/24 dev gen7",
            "ip link set gen7 up",
        ],
    },
    Piece {
        stages: &["macvlan-xmit"],
        on: NODES,
        commands: &[
            "ip link add mac7 link eth0 type macvlan mode bridge",
            "ip addr add 10.77.4.{n}/24 dev mac7",
            "ip link set mac7 up",
        ],
    },
    Piece {
        stages: &["ipvlan-xmit"],
        on: NODES,
        commands: &[
            "ip link add ipv7 link gen7 type ipvlan mode l2",
            "ip addr add 10.77.5.{n}/24 dev ipv7",
            "ip link set ipv7 up",
        ],
    },
    Piece {
        stages: &["ipip-encap", "ipip-decap"],
        on: NODES,
        commands: &[
            "ip link add ipip7 type ipip local 192.0.2.{n} remote 192.0.2.{p}",
            "ip addr add 10.77.6.{n}/24 dev ipip7",
            "ip link set ipip7 up",
        ],
    },
    Piece {
        stages: &["vlan-xmit", "vlan-receive"],
        on: NODES,
        commands: &[
            "ip link add link eth0 name vlan7 type vlan id 7",
            "ip addr add 10.77.7.{n}/24 dev vlan7",
            "ip link set vlan7 up",
        ],
    },
    // Nobody reads the tap: it passes on what comes, to no address of the node's.
    Piece {
        stages: &["macvtap-wait"],
        on: NODES,
        commands: &[
            "ip link add mvt7 link eth0 type macvtap mode bridge",
            "ip link set mvt7 address 02:00:00:07:00:0{n} up",
            "ip route add 10.77.13.{p}/32 dev eth0",
            "ip neigh add 10.77.13.{p} lladdr 02:00:00:07:00:0{p} dev eth0",
        ],
    },
    Piece {
        stages: &["ip6tnl-encap"],
        on: NODES,
        commands: &[
            "ip link add tnl7 type ip6tnl mode any local 2001:db8::{n} remote 2001:db8::{p}",
            "ip addr add 10.77.8.{n}/24 dev tnl7",
            "ip link set tnl7 up",
        ],
    },
    Piece {
        stages: &["ip6gre-encap"],
        on: NODES,
        commands: &[
            "ip link add gre67 type ip6gre local 2001:db8::{n} remote 2001:db8::{p}",
            "ip addr add 10.77.9.{n}/24 dev gre67",
            "ip link set gre67 up",
        ],
    },
    Piece {
        stages: &["ip6gretap-encap"],
        on: NODES,
        commands: &[
            "ip link add tap67 type ip6gretap local 2001:db8::{n} remote 2001:db8::{p}",
            "ip addr add 10.77.10.{n}/24 dev tap67",
            "ip link set tap67 up",
        ],
    },
    Piece {
        stages: &["sit-encap"],
        on: NODES,
        commands: &[
            "ip link add sit7 type sit local 192.0.2.{n} remote 192.0.2.{p}",
            "ip addr add fd77:11::{n}/64 dev sit7 nodad",
            "ip link set sit7 up",
        ],
    },
    // It has no peer: what it is given it drops.
    Piece {
        stages: &["wireguard-encap"],
        on: NODES,
        commands: &[
            "ip link add wg7 type wireguard",
            "ip addr add 10.77.12.{n}/24 dev wg7",
            "ip link set wg7 up",
        ],
    },
];

/// The addresses of node2 at the other ends.
const ENDS: &[&str] = &[
    "10.77.1.2",
    "10.77.2.2",
    "10.77.3.2",
    "10.77.4.2",
    "10.77.5.2",
    "10.77.6.2",
    "10.77.7.2",
    "10.77.8.2",
    "10.77.9.2",
    "10.77.10.2",
    "fd77:11::2",
    "10.77.12.2",
    "10.77.13.2",
];

/// Prepares a lab for [`along_all_paths`].
pub fn paths(running: &Running) -> Result<Vec<Lack>> {
    set_up(running, PATHS)
}

/// Prepares a lab for [`through_tunnels`].
pub fn tunnels(running: &Running) -> Result<Vec<Lack>> {
    set_up(running, TUNNELS)
}

fn set_up(running: &Running, pieces: &[Piece]) -> Result<Vec<Lack>> {
    let mut lacks = Vec::new();
    for piece in pieces {
        if let Some(why) = piece.set_up(running)? {
            lacks.extend(piece.stages.iter().map(|stage| Lack { stage, why: why.clone() }));
        }
    }
    Ok(lacks)
}

impl Piece {
    /// Why this machine does not have it, or nothing when it is set up.
    fn set_up(&self, running: &Running) -> Result<Option<String>> {
        for netns in self.on {
            let (own, other) = if netns.ends_with('1') { ("1", "2") } else { ("2", "1") };
            for command in self.commands {
                let command = command.replace("{n}", own).replace("{p}", other);
                if let Some(lack) = machine::run_in(running.netns(netns)?, &command)? {
                    return Ok(Some(lack));
                }
            }
        }
        Ok(None)
    }
}

/// Fragments, pings, bulk data, a neighbour that must be asked for, a closed port, and somebody who listens to
/// all packets of node1.
pub fn along_all_paths(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let listener = || Socket::new(Domain::PACKET, Type::RAW, Some(machine::all_protocols()));
    let _listener: Socket = running.netns("node1")?.run(listener)?.context("cannot listen to packets")?;
    machine::run_in(running.netns("pod1")?, "ip neigh flush dev eth0")?;
    let large = Size { request: 4000, answer: 4000 };
    let bulk = Spec { duration: Duration::from_millis(500), ..moderate(Kind::Bulk, Protocol::Tcp) };
    let plan = [
        Spec { size: large, ..moderate(Kind::Rr, Protocol::Udp) },
        moderate(Kind::Rr, Protocol::Tcp),
        moderate(Kind::Ping, Protocol::Icmp),
        bulk,
    ];
    let reports = drive(running, &plan, stop)?;
    let server = running.server()?.address;
    running.client()?.netns.run(|| knock(server))??;
    Ok(reports)
}

/// Whatever the tunnel, what packs and unpacks is at level 1, and the packet that arrives is at level 0.
pub const LEVELS: &[Check] = &[check("levels", |seen, _| {
    let mut tunnels = std::collections::BTreeSet::new();
    for row in &seen.own.rows {
        let (Some(stage), Some(level)) = (&row.key.stage, row.key.level) else { continue };
        let expected = match stage.as_str() {
            "icmp-rcv" | "gro-cells-wait" => 0,
            stage if stage.ends_with("-encap") || stage.ends_with("-decap") => 1,
            _ => continue,
        };
        ensure!(level == expected, "{stage} at {:?} is at level {level}", row.key.device);
        tunnels.extend(stage.strip_suffix("-encap").map(String::from));
    }
    ensure!(!tunnels.is_empty(), "no tunnel was used");
    Ok(Verdict::With(tunnels.into_iter().collect::<Vec<_>>().join(" ")))
})];

/// Sends a datagram to a port where nobody listens: it is dropped.
fn knock(server: IpAddr) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.send_to(b"nobody is here", (server, PORT + 1))?;
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

/// Pings through each of the tunnels.
pub fn through_tunnels(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let ping = Spec { count: Some(30), rate: 100.0, ..moderate(Kind::Ping, Protocol::Icmp) };
    let mut reports = Vec::new();
    for end in ENDS {
        let server = SocketAddr::new(end.parse()?, PORT);
        // To a tunnel that this machine lacks there is no route; that each was used is checked by its rows.
        reports.extend(running.client()?.netns.run(|| traffic::run(&ping, server, stop))?.ok());
    }
    Ok(reports)
}
