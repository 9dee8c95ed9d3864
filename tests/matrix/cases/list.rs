//! The cases: what stands, what happens while it is recorded, and what must be said of it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use overlay_trace_analysis::tail::Of;

use super::network::{Between, change_tunnel, further_pod};
use super::traffic::{Connections, Load, ask, ask_datagrams, serve, serve_apart, serve_datagrams};
use crate::machine;
use crate::own::Network;

/// A fault.
pub struct Case {
    /// The name of its test.
    pub name: &'static str,
    pub between: Between,
    /// Brings about what is there before the recording; what it gives is kept until the end.
    pub stand: fn(&Network, &Load) -> Result<Kept>,
    /// Happens while it is recorded.
    pub work: fn(&Network, &Load) -> Result<()>,
    pub of: Of,
    /// The rule's id that must be first, and the drop reason where the rule has none of its own.
    pub cause: &'static str,
    pub reason: Option<&'static str>,
    /// Short name of the namespace, the device (empty where none can be known), and the level.
    pub place: (&'static str, &'static str, u8),
}

/// What ends with a run.
#[derive(Default)]
pub struct Kept {
    children: Vec<Child>,
    groups: Vec<PathBuf>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for group in &self.groups {
            let _ = fs::remove_dir(group);
        }
    }
}

pub const CASES: &[Case] = &[
    Case {
        name: "cases/vtep-address",
        between: Between::Vxlan,
        stand: serving,
        work: |network, load| {
            with_client(network, load, "10.61.2.2:8080", Connections::One, || {
                thread::sleep(Duration::from_millis(400));
                change_tunnel(network, true)?;
                thread::sleep(Duration::from_millis(900));
                change_tunnel(network, false)
            })
        },
        of: Of::Packets,
        cause: "drop",
        reason: Some("OTHERHOST"),
        place: ("n2", "flannel.1", 0),
    },
    Case {
        name: "cases/snat-ports",
        between: Between::Routes,
        stand: |network, load| {
            in_node(
                network,
                "iptables-legacy -t nat -A POSTROUTING -s 10.61.1.0/24 -d 172.21.0.2 -p tcp -j MASQUERADE --to-ports 41000-41019",
            )?;
            serve(&network.netns("n2")?, 8080, load.answer, Duration::ZERO)?;
            Ok(Kept::default())
        },
        work: |network, load| {
            with_client(network, &half(load), "172.21.0.2:8080", Connections::EachKept, || Ok(()))
        },
        of: Of::Packets,
        cause: "snat-ports-used-up",
        reason: None,
        place: ("n1", "eth0", 0),
    },
    Case {
        name: "cases/hairpin",
        between: Between::Vxlan,
        stand: |network, load| {
            for rule in [
                "PREROUTING -d 10.96.6.5 -p tcp --dport 80 -m statistic --mode random --probability 0.3 -j DNAT --to 10.61.1.2:8080",
                "PREROUTING -d 10.96.6.5 -p tcp --dport 80 -j DNAT --to 10.61.2.2:8080",
                "POSTROUTING -s 10.61.1.2 -d 10.61.1.2 -j MASQUERADE",
            ] {
                in_node(network, &format!("iptables-legacy -t nat -A {rule}"))?;
            }
            in_node(network, "sysctl -qw net.bridge.bridge-nf-call-iptables=1")?;
            serve(&network.netns("p1")?, 8080, load.answer, Duration::ZERO)?;
            serving(network, load)
        },
        work: |network, load| with_client(network, &half(load), "10.96.6.5:80", Connections::Each, || Ok(())),
        of: Of::Packets,
        cause: "hairpin",
        reason: None,
        place: ("n1", "vp1", 0),
    },
    Case {
        name: "cases/cpu-quota",
        between: Between::Vxlan,
        stand: |network, load| {
            let child = serve_apart(&network.netns("p2")?, 8080, load.answer, Duration::from_millis(3))?;
            let group = throttle(&child)?;
            Ok(Kept { children: vec![child], groups: vec![group] })
        },
        work: |network, load| {
            let load = Load { pause: Duration::from_millis(10), requests: 2 * load.requests, ..*load };
            with_client(network, &load, "10.61.2.2:8080", Connections::One, || Ok(()))
        },
        of: Of::Requests,
        cause: "cpu-quota",
        reason: None,
        place: ("p2", "eth0", 0),
    },
    Case {
        name: "cases/translation-lost",
        between: Between::Vxlan,
        stand: |network, load| {
            // The tool is there.
            in_node(network, "conntrack -L")?;
            in_node(
                network,
                "iptables-legacy -t nat -A PREROUTING -d 10.96.6.5 -p tcp --dport 80 -j DNAT --to 10.61.2.2:8080",
            )?;
            serve(&network.netns("p2")?, 8080, load.answer, Duration::from_millis(20))?;
            Ok(Kept::default())
        },
        work: |network, load| {
            let load = Load { pause: Duration::from_millis(8), ..*load };
            with_client(network, &load, "10.96.6.5:80", Connections::One, || {
                for _ in 0..12 {
                    thread::sleep(Duration::from_millis(130));
                    // That there is no such entry is no failure.
                    let _ = in_node(network, "conntrack -D -d 10.96.6.5");
                }
                Ok(())
            })
        },
        of: Of::Packets,
        cause: "translation-lost",
        reason: None,
        place: ("p1", "eth0", 0),
    },
    Case {
        name: "cases/unknown-spi",
        between: Between::Routes,
        stand: |network, load| {
            for (node, other) in [(1, 2), (2, 1)] {
                network.ip_in(&format!("n{node}"), &encrypted(node, other))?;
            }
            serving(network, load)
        },
        work: |network, load| {
            with_client(network, load, "10.61.2.2:8080", Connections::One, || {
                thread::sleep(Duration::from_millis(400));
                network.ip_in(
                    "n1",
                    &format!(
                        "{}\nxfrm state delete src 172.21.0.1 dst 172.21.0.2 proto esp spi 0x101",
                        state(1, 2, "0x201")
                    ),
                )?;
                thread::sleep(Duration::from_millis(900));
                network.ip_in("n2", &state(1, 2, "0x201"))
            })
        },
        of: Of::Packets,
        cause: "unknown-spi",
        reason: None,
        place: ("n2", "eth0", 1),
    },
    Case {
        name: "cases/stale-entry",
        between: Between::Vxlan,
        stand: |network, _| {
            further_pod(network, 2, "p5", "10.61.2.5")?;
            // Otherwise the kernel takes up to a minute until it looks for the pod that is gone.
            for setting in ["base_reachable_time_ms=500", "delay_first_probe_time=1", "retrans_time_ms=100"] {
                let command = format!("sysctl -qw net.ipv4.neigh.cni0.{setting}");
                machine::do_in(&network.netns("n2")?, &command)?;
            }
            in_node(network, &format!("iptables-legacy -t nat -A PREROUTING {}", to_pod(2)))?;
            for pod in ["p2", "p5"] {
                serve_datagrams(&network.netns(pod)?, 9000)?;
            }
            Ok(Kept::default())
        },
        work: |network, load| {
            let client = network.netns("p1")?;
            let to: SocketAddr = "10.96.6.53:53".parse()?;
            thread::scope(|scope| {
                let old = scope.spawn(|| ask_datagrams(&client, to, load, Duration::from_millis(120)));
                thread::sleep(Duration::from_millis(700));
                in_node(network, &format!("iptables-legacy -t nat -R PREROUTING 1 {}", to_pod(5)))?;
                network.ip_in("n2", "link del vp2")?;
                let few = Load { requests: 40, ..*load };
                ask_datagrams(&client, to, &few, Duration::from_millis(300))?;
                old.join().map_err(|_| anyhow::anyhow!("the client has panicked"))??;
                Ok(())
            })
        },
        of: Of::Packets,
        cause: "stale-entry",
        reason: None,
        place: ("n2", "cni0", 0),
    },
];

fn in_node(network: &Network, command: &str) -> Result<()> {
    machine::do_in(&network.netns("n1")?, command)
}

fn serving(network: &Network, load: &Load) -> Result<Kept> {
    serve(&network.netns("p2")?, 8080, load.answer, Duration::ZERO)?;
    Ok(Kept::default())
}

/// Where a failed request takes long.
fn half(load: &Load) -> Load {
    Load { requests: load.requests / 2, ..*load }
}

fn to_pod(number: u8) -> String {
    format!("-d 10.96.6.53 -p udp --dport 53 -j DNAT --to 10.61.2.{number}:9000")
}

/// The first pod asks while something is done.
fn with_client(
    network: &Network,
    load: &Load,
    to: &str,
    connections: Connections,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (client, to) = (network.netns("p1")?, to.parse()?);
    thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&client, to, load, connections));
        let done = work();
        asking.join().map_err(|_| anyhow::anyhow!("the client has panicked"))??;
        done
    })
}

/// Keys of a test, of algorithms that every kernel has.
const KEYS: &str = "enc cbc(aes) 0x202122232425262728292a2b2c2d2e2f auth hmac(sha256) \
                    0x202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

/// An SPI of one direction.
fn state(from: u8, to: u8, spi: &str) -> String {
    format!(
        "xfrm state add src 172.21.0.{from} dst 172.21.0.{to} proto esp spi {spi} reqid 1 mode tunnel {KEYS}"
    )
}

/// States and policies of a node.
fn encrypted(node: u8, other: u8) -> String {
    let policy = |from: u8, to: u8, direction: &str| {
        format!(
            "xfrm policy add src 10.61.{from}.0/24 dst 10.61.{to}.0/24 dir {direction} tmpl src 172.21.0.{from} dst \
             172.21.0.{to} proto esp reqid 1 mode tunnel"
        )
    };
    [
        state(1, 2, "0x101"),
        state(2, 1, "0x102"),
        policy(node, other, "out"),
        policy(other, node, "in"),
        policy(other, node, "fwd"),
    ]
    .join("\n")
}

/// Gives a process 15 ms of CPU time in 100 ms; gives its control group.
fn throttle(child: &Child) -> Result<PathBuf> {
    let v1 = Path::new("/sys/fs/cgroup/cpu");
    if v1.join("cpu.shares").exists() {
        let quota = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "15000")];
        return confine(v1, child, &quota);
    }
    let root = Path::new("/run/ot-cases-cgroup");
    if !root.join("cgroup.controllers").exists() {
        fs::create_dir_all(root)?;
        machine::run(&format!("mount -t cgroup2 none {}", root.display()))?;
    }
    fs::write(root.join("cgroup.subtree_control"), "+cpu").context("cgroup v2 has no CPU controller here")?;
    confine(root, child, &[("cpu.max", "15000 100000")])
}

/// Puts a process into a new control group with these settings; gives the group.
fn confine(root: &Path, child: &Child, settings: &[(&str, &str)]) -> Result<PathBuf> {
    let group = root.join(format!("ot-case-{}", child.id()));
    fs::create_dir(&group)?;
    for (name, value) in settings {
        fs::write(group.join(name), value)?;
    }
    fs::write(group.join("cgroup.procs"), child.id().to_string())?;
    Ok(group)
}
