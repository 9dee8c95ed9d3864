//! The guest's NICs: emulated devices, each behind a tap of this machine's kernel.
//!
//! The taps and the bridges that join them are in a network namespace of their own, in which QEMU runs. It has no
//! name: it goes with QEMU, however that ends, and everything in it too. It has no address and no route, and no device
//! leads out of it. In a namespace that somebody else has made (`--netns`) only the taps are made.

use std::{fmt::Write, path::Path, str::FromStr};

use anyhow::{Context, Error, Result, bail, ensure};

use crate::host;

/// The drivers by QEMU's device: the name on the command line, the device, the guest kernel's module.
const DRIVERS: [(&str, &str, &str); 4] = [
    ("virtio", "virtio-net-pci", "virtio_net"),
    ("e1000e", "e1000e", "e1000e"),
    ("igb", "igb", "igb"),
    ("vmxnet3", "vmxnet3", "vmxnet3"),
];
/// All that a virtio device offers to do for the guest when it receives (`guest_…`) and sends.
const VIRTIO_OFFLOADS: &[&str] = &[
    "csum",
    "guest_csum",
    "guest_tso4",
    "guest_tso6",
    "guest_ecn",
    "guest_ufo",
    "guest_uso4",
    "guest_uso6",
    "host_tso4",
    "host_tso6",
    "host_ecn",
    "host_ufo",
    "host_uso",
];
/// No driver takes more.
const QUEUES_MAX: u32 = 64;
/// Where on the PCI bus the first igb is: four have room from here on.
const IGB_PLACE: usize = 8;
/// Taps and bridges pass frames of this MTU on; the guest's NICs have their own, smaller one.
const MTU: u32 = 9216;

/// A NIC, as `--nic` names it: `DRIVER[,OPTION=VALUE…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// A position in [`DRIVERS`].
    driver: usize,
    queues: u32,
    offloads: bool,
    link: Link,
    /// Properties of QEMU's device, as they were given.
    properties: Vec<String>,
}

/// What a NIC is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// A tap in the bridge of this number.
    Bridge(u8),
    /// The one other NIC with this number, through a socket: nothing between them looks at frames (a bridge drops
    /// those of LACP). Such a link takes no packets larger than its MTU, and no unfinished checksums.
    Pair(u8),
}

impl FromStr for Nic {
    type Err = Error;

    fn from_str(text: &str) -> Result<Nic> {
        let mut words = text.split(',');
        let name = words.next().unwrap_or_default();
        let driver = DRIVERS.iter().position(|(known, ..)| *known == name).with_context(|| {
            let known = DRIVERS.map(|(known, ..)| known).join(", ");
            format!("there is no NIC {name:?}: the drivers are {known}")
        })?;
        let mut nic =
            Nic { driver, queues: 1, offloads: true, link: Link::Bridge(0), properties: Vec::new() };
        for word in words {
            let (key, value) = word
                .split_once('=')
                .with_context(|| format!("`{word}` is no option of a NIC: they have the form NAME=VALUE"))?;
            nic.set(key, value).with_context(|| format!("`{word}`"))?;
        }
        let is_pair = matches!(nic.link, Link::Pair(_));
        ensure!(nic.queues == 1 || !is_pair, "a NIC of a pair has one queue");
        Ok(nic)
    }
}

impl Nic {
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let is_virtio = DRIVERS[self.driver].0 == "virtio";
        match key {
            "queues" => {
                ensure!(
                    is_virtio,
                    "only virtio has this option; other NICs have as many queues as they will"
                );
                self.queues = value
                    .parse()
                    .ok()
                    .filter(|count| (1..=QUEUES_MAX).contains(count))
                    .with_context(|| format!("a NIC has 1 to {QUEUES_MAX} queues"))?;
            }
            "offloads" => {
                ensure!(is_virtio, "only virtio has this option; use `ethtool -K` in the guest");
                self.offloads = match value {
                    "on" => true,
                    "off" => false,
                    _ => bail!("it is on or off"),
                };
            }
            "bridge" => {
                self.link = Link::Bridge(value.parse().context("bridges have numbers from 0 to 255")?)
            }
            "pair" => self.link = Link::Pair(value.parse().context("pairs have numbers from 0 to 255")?),
            _ => self.properties.push(format!("{key}={value}")),
        }
        Ok(())
    }

    /// The number of processors that its queues need.
    pub fn processors(&self) -> u32 {
        self.queues
    }

    /// The guest kernel's module.
    pub fn module(&self) -> &'static str {
        DRIVERS[self.driver].2
    }

    fn device(&self, number: usize) -> String {
        let mac = number + 1;
        // Without a ROM, from which nothing is booted here.
        let mut device =
            format!("{},netdev=nic{number},mac=52:54:00:00:00:{mac:02x},romfile=", DRIVERS[self.driver].1);
        if self.queues > 1 {
            // An interrupt for each direction of a queue, one for the configuration, one for the control queue.
            device += &format!(",mq=on,vectors={}", 2 * self.queues + 2);
        }
        if DRIVERS[self.driver].0 == "igb" {
            // Its virtual functions have the places 16 and 17 behind its own on the bus.
            device += &format!(",addr={:#x}", IGB_PLACE + 2 * number);
        }
        let off = VIRTIO_OFFLOADS.iter().filter(|_| !self.offloads);
        off.for_each(|offload| device += &format!(",{offload}=off"));
        self.properties.iter().for_each(|property| device += &format!(",{property}"));
        device
    }
}

/// Fails with a sentence if the NICs do not fit together.
///
/// # Errors
///
/// A pair has not two ends.
pub fn check(nics: &[Nic]) -> Result<()> {
    for nic in nics {
        let Link::Pair(pair) = nic.link else { continue };
        let ends = nics.iter().filter(|other| other.link == nic.link).count();
        ensure!(ends == 2, "pair={pair} is on {ends} NICs: it joins two");
    }
    Ok(())
}

/// The modules of the NICs' drivers, once each, in the order of the NICs.
pub fn modules(nics: &[Nic]) -> String {
    let mut modules: Vec<&str> = Vec::new();
    for module in nics.iter().map(Nic::module) {
        if !modules.contains(&module) {
            modules.push(module);
        }
    }
    modules.join(" ")
}

/// What QEMU is told; `folder` is for the sockets of pairs.
pub fn arguments(nics: &[Nic], folder: &Path) -> Vec<String> {
    let mut arguments = Vec::new();
    for (number, nic) in nics.iter().enumerate() {
        let backend = match nic.link {
            Link::Bridge(_) => {
                let queues = if nic.queues > 1 { format!(",queues={}", nic.queues) } else { String::new() };
                format!("tap,id=nic{number},ifname=nic{number},script=no,downscript=no,vhost=off{queues}")
            }
            Link::Pair(_) => {
                let is_other = |(at, other): &(usize, &Nic)| *at != number && other.link == nic.link;
                let other = nics.iter().enumerate().find(is_other).map_or(number, |(at, _)| at);
                // A comma would end the option; qemu wants it doubled.
                let socket =
                    |of: usize| folder.join(format!("nic{of}")).display().to_string().replace(',', ",,");
                format!(
                    "dgram,id=nic{number},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                    socket(number),
                    socket(other)
                )
            }
        };
        arguments.extend(["-netdev".to_owned(), backend, "-device".to_owned(), nic.device(number)]);
    }
    arguments
}

/// The words before a command that start it in a namespace with the taps and bridges of the NICs: a new one, or the one
/// of this name, which has the bridges. It stays the same process.
pub fn enclosure(nics: &[Nic], netns: Option<&str>) -> Vec<String> {
    if nics.is_empty() {
        return Vec::new();
    }
    let enter: &[&str] = match netns {
        Some(name) => &["ip", "netns", "exec", name],
        None if host::is_root() => &["unshare", "--net"],
        None => &["unshare", "--net", "--map-root-user"],
    };
    let words = enter.iter().chain(&["sh", "-ec"]).map(|word| (*word).to_owned());
    words.chain([script(nics, netns.is_none()), "sh".to_owned()]).collect()
}

/// Makes the taps, and perhaps their bridges, in the current namespace, and becomes the command that its arguments name. A
/// kernel with IPv6 would greet each neighbour by itself; that packet would be nobody's in the guest.
fn script(nics: &[Nic], with_bridges: bool) -> String {
    let mut script = String::from(
        "trap 'echo \"xtask: cannot make the taps of the NICs\" >&2' EXIT\n\
         for family in default all; do\n\
         file=/proc/sys/net/ipv6/conf/$family/disable_ipv6\n\
         if [ -e $file ]; then echo 1 >$file; fi\n\
         done\n",
    );
    let mut bridges: Vec<u8> = Vec::new();
    for (number, nic) in nics.iter().enumerate() {
        let Link::Bridge(bridge) = nic.link else { continue };
        if with_bridges && !bridges.contains(&bridge) {
            bridges.push(bridge);
            let _ = writeln!(
                script,
                "ip link add br{bridge} mtu {MTU} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
                 ip link set br{bridge} up"
            );
        }
        let queues = if nic.queues > 1 { "multi_queue" } else { "" };
        let _ = writeln!(
            script,
            "ip tuntap add dev nic{number} mode tap vnet_hdr {queues}\n\
             ip link set nic{number} mtu {MTU} master br{bridge} up"
        );
    }
    script + "trap - EXIT\nexec \"$@\"\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        text.parse::<Nic>().map_or_else(|error| format!("{error:#}"), |nic| format!("{nic:?}"))
    }

    #[test]
    fn options_reach_the_device() -> Result<()> {
        let nic: Nic = "virtio,queues=4,mrg_rxbuf=off,offloads=off".parse()?;
        let device = nic.device(1);
        assert!(device.starts_with("virtio-net-pci,netdev=nic1,mac=52:54:00:00:00:02,romfile=,"), "{device}");
        for part in [",mq=on,vectors=10", ",mrg_rxbuf=off", ",guest_tso4=off", ",host_uso=off"] {
            assert!(device.contains(part), "{device} has no {part}");
        }
        let words = arguments(&[nic], Path::new("/tmp")).join(" ");
        assert!(words.starts_with("-netdev tap,id=nic0,ifname=nic0,"), "{words}");
        assert!(words.contains(",queues=4 -device virtio-net-pci,netdev=nic0,"), "{words}");
        Ok(())
    }

    #[test]
    fn in_a_named_namespace_only_taps_are_made() -> Result<()> {
        let nics: [Nic; 1] = ["virtio,bridge=2".parse()?];
        let words = |netns| enclosure(&nics, netns).join(" ");
        let named = words(Some("hv1"));
        assert!(named.starts_with("ip netns exec hv1 sh -ec "), "{named}");
        assert!(named.contains("ip link set nic0 mtu 9216 master br2 up"), "{named}");
        assert!(!named.contains("type bridge") && words(None).contains("type bridge"));
        Ok(())
    }

    #[test]
    fn a_pair_has_two_ends() -> Result<()> {
        let nics = ["igb,pair=3", "virtio", "igb,pair=3"]
            .map(str::parse)
            .into_iter()
            .collect::<Result<Vec<Nic>>>()?;
        check(&nics)?;
        let words = arguments(&nics, Path::new("/a,b")).join(" ");
        assert!(words.contains(
            "id=nic2,local.type=unix,local.path=/a,,b/nic2,remote.type=unix,remote.path=/a,,b/nic0 "
        ));
        assert_eq!(modules(&nics), "igb virtio_net");
        assert!(check(&nics[..2]).is_err());
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(message("rtl8139").contains("the drivers are virtio, e1000e, igb, vmxnet3"));
        assert!(message("virtio,fast").contains("NAME=VALUE"));
        assert!(message("virtio,queues=0").contains("1 to 64 queues"));
        assert!(message("igb,offloads=off").contains("ethtool -K"));
        assert!(message("virtio,pair=1,queues=2").contains("one queue"));
    }
}
