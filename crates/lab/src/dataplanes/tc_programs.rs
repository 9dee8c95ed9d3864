//! BPF programs of this project at tc ingress hooks (tcx where the kernel has it), for labs in the shape of
//! Cilium.

use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, anyhow, bail};
use aya::programs::SchedClassifier;
use aya::programs::tc::{TcAttachType, qdisc_add_clsact};
use aya::{Ebpf, EbpfLoader};
use overlay_trace_common::lab::{LabNetwork, LabSettings};

use super::netns::Netns;

/// The programs, as `cargo xtask build-ebpf` built them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("OVERLAY_TRACE_LAB_OBJECT"));

/// `LabSettings` as a global variable of the BPF object.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Globals(LabSettings);
// SAFETY: LabSettings is repr(C), Copy and consists of integers without padding, so every byte is initialised
// and may be copied to the object.
unsafe impl aya::Pod for Globals {}

/// A program at a device; it is detached when this value is dropped.
#[derive(Debug)]
pub struct TcProgram {
    netns: Netns,
    object: Option<Ebpf>,
}

impl TcProgram {
    /// Attaches the program of a line `DEVICE PROGRAM NAME=VALUE…`.
    pub fn attach(netns: &Netns, line: &str) -> Result<TcProgram> {
        let object = netns.run(|| attach_here(line))?.with_context(|| format!("`{line}`"))?;
        Ok(TcProgram { netns: netns.clone(), object: Some(object) })
    }
}

impl Drop for TcProgram {
    fn drop(&mut self) {
        // Before tcx a filter is removed by the interface index, which denotes another device in another namespace.
        // If the namespace is gone, so is the filter.
        let object = ManuallyDrop::new(self.object.take());
        if let Err(error) = self.netns.run(|| drop(ManuallyDrop::into_inner(object))) {
            tracing::debug!("cannot detach a tc program of a lab: {error:#}");
        }
    }
}

fn attach_here(line: &str) -> Result<Ebpf> {
    let mut words = line.split_whitespace();
    let (Some(device), Some(name)) = (words.next(), words.next()) else {
        bail!("a device or a program name is missing")
    };
    let mut settings = LabSettings::default();
    for word in words {
        let (name, value) = word.split_once('=').context("a setting is NAME=VALUE")?;
        apply(&mut settings, name, value).with_context(|| format!("cannot use the setting `{word}`"))?;
    }
    let mut object = load(&settings)?;
    let program = object.program_mut(name).context("there is no such program")?;
    let program: &mut SchedClassifier = program.try_into()?;
    program.load().context("the kernel rejects the program")?;
    // Not needed with tcx; before tcx it fails when the qdisc already exists.
    let _ = qdisc_add_clsact(device);
    program.attach(device, TcAttachType::Ingress).context("cannot attach the program")?;
    Ok(object)
}

/// Loads a copy of the programs with these settings.
pub fn load(settings: &LabSettings) -> Result<Ebpf> {
    if OBJECT.is_empty() {
        bail!("this build has no kernel programs: run `cargo xtask build-ebpf` and build again");
    }
    let globals = Globals(*settings);
    Ok(EbpfLoader::new().override_global("LAB", &globals, true).load(OBJECT)?)
}

fn apply(settings: &mut LabSettings, name: &str, value: &str) -> Result<()> {
    match name {
        "network" => add_network(&mut settings.network, value)?,
        "out" => settings.out = ifindex(value)?,
        "remote" => {
            settings.is_tunnel = 1;
            settings.remote = value.parse::<Ipv4Addr>()?.to_bits();
        }
        "vni" => settings.vni = value.parse()?,
        "pod-device" => settings.pod_device = ifindex(value)?,
        "pod-mac" => settings.pod_mac = mac_address(value)?,
        "node-mac" => settings.node_mac = mac_address(value)?,
        _ => bail!("there is no such setting"),
    }
    Ok(())
}

/// Adds an `ADDRESS/LENGTH` of either IP family, in network byte order.
fn add_network(network: &mut LabNetwork, text: &str) -> Result<()> {
    let (address, length) = text.split_once('/').context("a network is ADDRESS/LENGTH")?;
    let length: u32 = length.parse()?;
    let unused = |bits: u32| bits.checked_sub(length).context("the prefix length is too long");
    match address.parse()? {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(unused(32)?).unwrap_or(0);
            network.mask_v4 = mask.to_be();
            network.v4 = (address.to_bits() & mask).to_be();
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(unused(128)?).unwrap_or(0);
            network.mask_v6 = network_order(mask);
            network.v6 = network_order(address.to_bits() & mask);
        }
    }
    Ok(())
}

/// The 32-bit words of an address in network byte order.
fn network_order(address: u128) -> [u32; 4] {
    [96, 64, 32, 0].map(|shift| ((address >> shift) as u32).to_be())
}

fn ifindex(device: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(device).with_context(|| format!("there is no device {device}"))
}

fn mac_address(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> =
        text.split(':').map(|part| u8::from_str_radix(part, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().map_err(|_| anyhow!("a MAC address has six bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> [u32; 4] {
        network_order(text.parse::<std::net::Ipv6Addr>().unwrap().to_bits())
    }

    #[test]
    fn a_network_contains_addresses_of_its_prefixes() {
        let mut network = LabNetwork::default();
        let inside = u32::from_ne_bytes([10, 244, 2, 7]);
        assert!(!network.has_v4(inside) && !network.has_v6(&address("::")));
        add_network(&mut network, "10.244.2.0/24").unwrap();
        assert!(network.has_v4(inside) && !network.has_v4(u32::from_ne_bytes([10, 244, 1, 7])));
        assert!(!network.has_v6(&address("::")));
        add_network(&mut network, "fd00:10:244:2::/64").unwrap();
        assert!(
            network.has_v6(&address("fd00:10:244:2::9")) && !network.has_v6(&address("fd00:10:244:3::9"))
        );
        add_network(&mut network, "fd00::2/128").unwrap();
        assert!(network.has_v6(&address("fd00::2")) && !network.has_v6(&address("fd00::3")));
        assert!(add_network(&mut network, "10.0.0.0/33").is_err());
    }
}
