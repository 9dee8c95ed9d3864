//! What this machine has of what labs need.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::geteuid;

use super::{Knobs, Lab, Need, Netns, cgroup, cni, expand, tools};
use overlay_trace_probe::sys::kernel;

/// The machine, as far as labs are concerned. Found out by trying, in a scratch namespace.
#[derive(Debug)]
pub struct System {
    /// IPv6 is there.
    pub ipv6: bool,
    /// The root qdisc for the ends of the underlay: fq_codel, as a NIC has, or what comes nearest.
    pub qdisc: &'static str,
    /// `legacy` or `nft`: which iptables. Labs want legacy, for `ipt_do_table` to be on the path.
    pub iptables: &'static str,
    lacks: RefCell<HashMap<Need, Option<String>>>,
}

/// Rules with every match and target of the labs; a kernel that takes these takes them all.
const SAMPLE_RULES: &str = "\
*nat
:SAMPLE - [0:0]
-A POSTROUTING -m mark ! --mark 0x4000/0x4000 -m comment --comment sample -j SAMPLE
-A POSTROUTING -m addrtype ! --src-type LOCAL -j MASQUERADE --random-fully
-A SAMPLE -m statistic --mode random --probability 0.5 -j RETURN
COMMIT
*filter
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -j MARK --set-xmark 0x4000/0x4000
COMMIT
";

impl System {
    /// Looks at this machine.
    ///
    /// # Errors
    ///
    /// When labs are not possible at all: not root, or no iproute2.
    pub fn inspect() -> Result<System> {
        ensure!(geteuid().is_root(), "labs are made of network namespaces: run as root");
        tools::command("ip")?;
        let ipv6 = Path::new("/proc/sys/net/ipv6").exists();
        let qdisc = if Netns::scratch(|| has_qdisc("fq_codel"))? { "fq_codel" } else { "pfifo" };
        let iptables =
            if Netns::scratch(|| try_iptables("legacy", ipv6))?.is_ok() { "legacy" } else { "nft" };
        Ok(System { ipv6, qdisc, iptables, lacks: RefCell::default() })
    }

    /// Why the lab cannot run here, or nothing when it can.
    ///
    /// # Errors
    ///
    /// When finding out failed.
    pub fn lack(&self, lab: &Lab, knobs: &Knobs) -> Result<Option<String>> {
        for need in expand::needs(lab, knobs) {
            if let Some(lack) = self.lack_of(need)? {
                return Ok(Some(lack));
            }
        }
        Ok(None)
    }

    /// What of this lab is not as the real system would have it, a sentence each.
    pub fn notes(&self, lab: &Lab) -> Vec<&'static str> {
        let mut notes = Vec::new();
        if !self.ipv6 {
            notes.push("this system has no IPv6: the lab is set up for IPv4 alone");
        }
        if self.qdisc != "fq_codel" && lab.has_underlay() {
            notes.push("this kernel has no fq_codel: the underlay has the qdisc pfifo instead");
        }
        if self.iptables == "nft" && lab.has_firewall() {
            notes.push("this system has no legacy iptables: the rules go through nftables instead");
        }
        notes
    }

    /// Fails when the lab, with these knobs, cannot run here.
    pub(super) fn check(&self, lab: &Lab, knobs: &Knobs) -> Result<()> {
        let name = lab.name;
        ensure!(
            knobs.delay.is_none() || lab.has_underlay(),
            "a delay is put on the underlay, and the lab {name} has none"
        );
        ensure!(
            knobs.rules == 0 || lab.has_firewall(),
            "rules are put into the nodes' firewall, and the lab {name} has none"
        );
        ensure!(
            !(knobs.service || knobs.services > 0 || knobs.endpoints > 0) || lab.has_service(),
            "the lab {name} has no Services"
        );
        ensure!(!knobs.ipv6 || lab.has_ipv6(self), "there is no IPv6 in the lab {name} on this system");
        ensure!(
            !knobs.wire || lab.wire_ends().is_some(),
            "the underlay of the lab {name} cannot be a program's, as it has none between nodes"
        );
        ensure!(
            (1280 + lab.overhead.1..=65535).contains(&knobs.mtu),
            "the MTU of the lab {name} must be between {} and 65535",
            1280 + lab.overhead.1
        );
        match self.lack(lab, knobs)? {
            Some(lack) => bail!("the lab {name} cannot run here: {lack}"),
            None => Ok(()),
        }
    }

    fn lack_of(&self, need: Need) -> Result<Option<String>> {
        if let Some(known) = self.lacks.borrow().get(&need) {
            return Ok(known.clone());
        }
        let (iptables, ipv6) = (self.iptables, self.ipv6);
        let lack = Netns::scratch(|| {
            match need {
            Need::LinkV6(_) if !ipv6 => None,
            Need::Link(kind) | Need::LinkV6(kind) => has_link(kind).err().map(|error| {
                format!(
                    "this kernel has no devices of the kind {kind}, or its module is not installed ({error:#})"
                )
            }),
            Need::BridgeNetfilter => {
                modprobe("br_netfilter");
                (!Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()).then(|| {
                    "the kernel module br_netfilter is missing: run `modprobe br_netfilter`".to_string()
                })
            }
            Need::Iptables => {
                try_iptables(iptables, ipv6).err().map(|error| format!("iptables does not work: {error:#}"))
            }
            Need::Ipv6 => (!ipv6).then(|| "this system has no IPv6".to_string()),
            Need::Ipset => program("ipset").or_else(|| module("ip_set_hash_ipport")).or_else(|| module("xt_set")),
            Need::Ipvs => program("ipvsadm").or_else(|| module("ip_vs_rr")),
            Need::OpenVswitch => program("ovs-dpctl").or_else(|| module("openvswitch")),
            Need::Wireguard => program("wg"),
            Need::Bird => program("bird"),
            Need::Classifier => (!kernel::at_least((5, 10))).then(|| {
                "kernel programs can redirect packets into a pod from Linux 5.10 on".to_string()
            }),
            Need::Cgroup => cgroup::root().is_none().then(|| {
                "no cgroup2 is mounted: run `mount -t cgroup2 cgroup2 /sys/fs/cgroup`".to_string()
            }),
            Need::Cni => cni::lack(),
            Need::Esp => module("esp4").or_else(|| esp(ipv6).err().map(|error| {
                format!("this kernel has no ESP with AES-GCM, or a module of it is not installed ({error:#})")
            })),
            Need::Tap => (!has_tap()).then(|| {
                "this kernel has no taps, or its module tun is not installed".to_string()
            }),
            Need::Netem => (!has_qdisc("netem")).then(|| {
                "this kernel has no netem for the delay, or its module is not installed".to_string()
            }),
        }
        })?;
        self.lacks.borrow_mut().insert(need, lack.clone());
        Ok(lack)
    }
}

fn modprobe(module: &str) {
    if let Ok(mut command) = tools::command("modprobe") {
        // Whether it helped is looked at afterwards; the module may be built in.
        let _ = tools::run(command.args(["-q", module]));
    }
}

/// Why the program cannot be used.
fn program(name: &str) -> Option<String> {
    tools::command(name).err().map(|error| format!("{error:#}"))
}

/// Why the module cannot be used, which may also be built in.
fn module(name: &str) -> Option<String> {
    modprobe(name);
    let folder = format!("/lib/modules/{}", kernel::release());
    let is_built_in = || {
        let list = std::fs::read_to_string(format!("{folder}/modules.builtin")).unwrap_or_default();
        list.contains(&format!("/{name}.ko"))
    };
    let is_there = Path::new("/sys/module").join(name).exists() || is_built_in();
    (!is_there).then(|| format!("the kernel module {name} is missing: run `modprobe {name}`"))
}

/// Security associations as the labs have them; adding them makes the kernel load ESP and the cipher.
fn esp(ipv6: bool) -> Result<()> {
    let key = format!("0x{:040x}", 1);
    let v6: &[_] = if ipv6 { &["src 2001:db8::1 dst 2001:db8::2"] } else { &[] };
    for ends in ["src 192.0.2.1 dst 192.0.2.2"].iter().chain(v6) {
        let line = format!("xfrm state add {ends} proto esp spi 1 mode tunnel aead rfc4106(gcm(aes))");
        tools::run(tools::command("ip")?.args(line.split(' ')).args([&key, "128"]))?;
    }
    Ok(())
}

fn has_link(kind: &str) -> Result<()> {
    let options = match kind {
        "vxlan" => "id 1 dstport 8472",
        "geneve" => "id 1 remote 192.0.2.1",
        "ipip" | "gre" | "gretap" => "remote 192.0.2.1",
        "ip6tnl" => "remote 2001:db8::1",
        "vlan" => "id 1",
        _ => "",
    };
    // Creating a device makes the kernel load its module; some systems leave that to modprobe.
    modprobe(&format!("rtnl-link-{kind}"));
    let ip = |line: &str| tools::run(tools::command("ip")?.args(line.split_whitespace()));
    let below = if matches!(kind, "vlan" | "ipvlan" | "macvlan") {
        ip("link add name probe1 type veth")?;
        "link probe1"
    } else {
        ""
    };
    ip(&format!("link add {below} name probe0 type {kind} {options}"))
}

fn has_tap() -> bool {
    modprobe("tun");
    tools::command("ip")
        .and_then(|mut command| tools::run(command.args(["tuntap", "add", "dev", "probe0", "mode", "tap"])))
        .is_ok()
}

fn has_qdisc(kind: &str) -> bool {
    modprobe(&format!("sch_{kind}"));
    let add = || tools::run(tools::command("tc")?.args(["qdisc", "replace", "dev", "lo", "root", kind]));
    add().is_ok()
}

fn try_iptables(variant: &str, ipv6: bool) -> Result<()> {
    for family in if ipv6 { &["ip", "ip6"][..] } else { &["ip"] } {
        let restore = format!("{family}tables-{variant}-restore");
        tools::feed(tools::command(&restore)?.arg("--noflush"), SAMPLE_RULES)
            .with_context(|| format!("{restore} fails"))?;
    }
    Ok(())
}

#[cfg(test)]
impl System {
    /// A machine that has everything, for tests of what labs amount to.
    pub fn with(ipv6: bool, qdisc: &'static str, iptables: &'static str) -> System {
        System { ipv6, qdisc, iptables, lacks: RefCell::default() }
    }
}
