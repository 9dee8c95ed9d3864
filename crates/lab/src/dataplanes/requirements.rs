//! What labs require of this machine: found by trying it, or told from what is installed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::geteuid;

use super::knobs::{Knobs, Wire, needs};
use super::lab::{Lab, Need};
use super::module_index::ModuleIndex;
use super::netns::Netns;
use super::presence::Variant;
use super::tools;
use overlay_trace_probe::sys::kernel;

/// A lab cannot run on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the lab {lab} cannot run here: {lack}")]
pub struct Unavailable {
    /// Its name.
    pub lab: &'static str,
    /// What the machine lacks.
    pub lack: String,
}

/// The capabilities of this machine that labs depend on.
#[derive(Debug)]
pub struct System {
    /// The kernel has IPv6.
    pub ipv6: bool,
    /// The root qdisc of the underlay NICs: fq_codel as on a real NIC, or pfifo where the kernel lacks it.
    pub qdisc: &'static str,
    /// The iptables variant, `legacy` or `nft`. Labs prefer legacy, so that `ipt_do_table` is on the path.
    pub iptables: &'static str,
    lacks: RefCell<HashMap<Need, Option<String>>>,
    /// The kernel's modules, from which is told what it lacks; `None` where that is tried.
    modules: Option<ModuleIndex>,
}

/// Rules with every match and target of the labs: a kernel that accepts these accepts all of them.
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
    /// Looks at this machine without changing anything: what it has is told from the lists of its modules and from the
    /// programs that are installed. Where no module can be loaded, trying changes nothing either, and tells more.
    ///
    /// # Errors
    ///
    /// When no lab is possible: not root, or no iproute2.
    pub fn look() -> Result<System> {
        let Some(index) = ModuleIndex::of_kernel() else { return System::try_out() };
        let ipv6 = check_basics()?;
        let qdisc = if index.has("sch_fq_codel") { "fq_codel" } else { "pfifo" };
        let Variant { iptables, .. } = Variant::of(ipv6, &index);
        Ok(System { ipv6, qdisc, iptables, lacks: RefCell::default(), modules: Some(index) })
    }

    /// Finds out what this machine has by trying it, each in a temporary network namespace. The kernel loads modules for
    /// that, with all that they bring.
    ///
    /// # Errors
    ///
    /// As for [`System::look`].
    pub(super) fn try_out() -> Result<System> {
        let ipv6 = check_basics()?;
        let qdisc = if Netns::scratch(|| has_qdisc("fq_codel"))? { "fq_codel" } else { "pfifo" };
        let iptables =
            if Netns::scratch(|| try_iptables("legacy", ipv6))?.is_ok() { "legacy" } else { "nft" };
        Ok(System { ipv6, qdisc, iptables, lacks: RefCell::default(), modules: None })
    }

    /// The kernel's modules; `None` where none can be loaded, and for one that was tried out.
    pub(super) fn modules(&self) -> Option<&ModuleIndex> {
        self.modules.as_ref()
    }

    /// The modules that are loaded for a need, or what the kernel asks for instead of their names.
    pub(super) fn module_names(&self, need: Need) -> Vec<String> {
        self.variant().modules(need)
    }

    fn variant(&self) -> Variant {
        Variant { ipv6: self.ipv6, iptables: self.iptables }
    }

    /// Why the lab cannot run on this machine; `None` when it can.
    ///
    /// # Errors
    ///
    /// When the check itself failed.
    pub fn lack(&self, lab: &Lab, knobs: &Knobs) -> Result<Option<String>> {
        for need in needs(lab, knobs) {
            if let Some(lack) = self.lack_of(need)? {
                return Ok(Some(lack));
            }
        }
        Ok(None)
    }

    /// The differences between this lab and the real system, one sentence each.
    pub fn notes(&self, lab: &Lab) -> Vec<&'static str> {
        let mut notes = Vec::new();
        if !self.ipv6 {
            notes.push("this system has no IPv6: the lab is IPv4 only");
        }
        if self.qdisc != "fq_codel" && lab.has_underlay() {
            notes.push("this kernel has no fq_codel: the underlay uses the qdisc pfifo instead");
        }
        if self.iptables == "nft" && lab.has_firewall() {
            notes.push("this system has no legacy iptables: the rules use nftables instead");
        }
        notes
    }

    /// Fails when the lab cannot run on this machine with these parameters.
    pub(super) fn check(&self, lab: &Lab, knobs: &Knobs) -> Result<()> {
        let name = lab.name;
        ensure!(
            knobs.delay.is_none() || lab.has_underlay(),
            "a delay needs an underlay, and the lab {name} has none"
        );
        ensure!(
            knobs.rules == 0 || lab.has_firewall(),
            "additional rules need iptables on the nodes, and the lab {name} has none"
        );
        ensure!(
            !(knobs.service || knobs.services > 0 || knobs.endpoints > 0) || lab.has_service(),
            "the lab {name} has no Services"
        );
        ensure!(!knobs.ipv6 || lab.has_ipv6(self), "the lab {name} has no IPv6 on this system");
        ensure!(
            knobs.wire == Wire::Veth || lab.wire_ends().is_some(),
            "the lab {name} has no underlay between nodes that taps or NICs could carry"
        );
        ensure!(
            (1280 + lab.overhead.1..=65535).contains(&knobs.mtu),
            "the MTU of the lab {name} must be between {} and 65535",
            1280 + lab.overhead.1
        );
        match self.lack(lab, knobs)? {
            Some(lack) => bail!(Unavailable { lab: name, lack }),
            None => Ok(()),
        }
    }

    fn lack_of(&self, need: Need) -> Result<Option<String>> {
        if let Some(known) = self.lacks.borrow().get(&need) {
            return Ok(known.clone());
        }
        if let Some(index) = &self.modules {
            return Ok(self.variant().lack(need, index));
        }
        let variant = self.variant();
        let lack = Netns::scratch(|| variant.lack_of_others(need).or_else(|| try_need(need, variant)))?;
        self.lacks.borrow_mut().insert(need, lack.clone());
        Ok(lack)
    }
}

/// Why the kernel does not meet a need, found by trying it in the calling thread's namespace; `None` when it does.
fn try_need(need: Need, Variant { ipv6, iptables }: Variant) -> Option<String> {
    match need {
        Need::LinkV6(_) if !ipv6 => None,
        Need::Link(kind) | Need::LinkV6(kind) => try_link(kind).err().map(|error| {
            format!("this kernel has no link type {kind}, or its module is not installed ({error:#})")
        }),
        Need::BridgeNetfilter => {
            modprobe("br_netfilter");
            (!Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists())
                .then(|| "the kernel module br_netfilter is missing: run `modprobe br_netfilter`".to_string())
        }
        Need::Iptables => {
            try_iptables(iptables, ipv6).err().map(|error| format!("iptables does not work: {error:#}"))
        }
        Need::Ipset => missing_module("ip_set_hash_ipport").or_else(|| missing_module("xt_set")),
        Need::Ipvs => missing_module("ip_vs_rr"),
        Need::OpenVswitch => missing_module("openvswitch"),
        Need::Esp => missing_module("esp4").or_else(|| {
            try_esp(ipv6).err().map(|error| {
                format!("this kernel has no ESP with AES-GCM, or a module of it is not installed ({error:#})")
            })
        }),
        Need::Tap => (!has_tap())
            .then(|| "this kernel has no TUN/TAP devices, or its module tun is not installed".to_string()),
        Need::Netem => (!has_qdisc("netem"))
            .then(|| "this kernel has no qdisc netem, or its module is not installed".to_string()),
        Need::Ipv6 | Need::Wireguard | Need::Bird | Need::TcPrograms | Need::Cgroup | Need::Cni => None,
    }
}

/// Whether the system has IPv6.
fn check_basics() -> Result<bool> {
    ensure!(geteuid().is_root(), "labs need network namespaces: run as root");
    tools::command("ip")?;
    Ok(Path::new("/proc/sys/net/ipv6").exists())
}

fn modprobe(module: &str) {
    if let Ok(mut command) = tools::command("modprobe") {
        // The caller checks the result; the module may be built in.
        let _ = tools::run(command.args(["-q", module]));
    }
}

/// Why the program cannot be used; `None` when it can.
pub(super) fn missing_program(name: &str) -> Option<String> {
    tools::command(name).err().map(|error| format!("{error:#}"))
}

/// Why the module, which may be built in, cannot be used; `None` when it can.
fn missing_module(name: &str) -> Option<String> {
    modprobe(name);
    let folder = format!("/lib/modules/{}", kernel::release());
    let is_built_in = || {
        let list = std::fs::read_to_string(format!("{folder}/modules.builtin")).unwrap_or_default();
        list.contains(&format!("/{name}.ko"))
    };
    let is_there = Path::new("/sys/module").join(name).exists() || is_built_in();
    (!is_there).then(|| format!("the kernel module {name} is missing: run `modprobe {name}`"))
}

/// Adds the security associations of the labs, which makes the kernel load ESP and the cipher.
fn try_esp(ipv6: bool) -> Result<()> {
    let key = format!("0x{:040x}", 1);
    let v6: &[_] = if ipv6 { &["src 2001:db8::1 dst 2001:db8::2"] } else { &[] };
    for ends in ["src 192.0.2.1 dst 192.0.2.2"].iter().chain(v6) {
        let line = format!("xfrm state add {ends} proto esp spi 1 mode tunnel aead rfc4106(gcm(aes))");
        tools::run(tools::command("ip")?.args(line.split(' ')).args([&key, "128"]))?;
    }
    Ok(())
}

fn try_link(kind: &str) -> Result<()> {
    let options = match kind {
        "vxlan" => "id 1 dstport 8472",
        "geneve" => "id 1 remote 192.0.2.1",
        "ipip" | "gre" | "gretap" => "remote 192.0.2.1",
        "ip6tnl" => "remote 2001:db8::1",
        "vlan" => "id 1",
        _ => "",
    };
    // Creating a device makes the kernel request its module; some systems leave that to modprobe.
    modprobe(&format!("rtnl-link-{kind}"));
    let ip = |line: &str| tools::run(tools::command("ip")?.args(line.split_whitespace()));
    let lower = if matches!(kind, "vlan" | "ipvlan" | "macvlan") {
        ip("link add name probe1 type veth")?;
        "link probe1"
    } else {
        ""
    };
    ip(&format!("link add {lower} name probe0 type {kind} {options}"))
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

impl Lab {
    /// Whether the lab has IPv6 on this system.
    pub fn has_ipv6(&self, system: &System) -> bool {
        self.server.v6.is_some() && system.ipv6
    }
}

#[cfg(test)]
impl System {
    /// A machine that has everything, for tests of the scripts.
    pub fn with(ipv6: bool, qdisc: &'static str, iptables: &'static str) -> System {
        System { ipv6, qdisc, iptables, lacks: RefCell::default(), modules: None }
    }
}
