//! Marks by which recordings of one machine, and of its guests and its hypervisor, are known.

use std::{collections::BTreeMap, fs};

use nix::ifaddrs::getifaddrs;
use overlay_trace_format::{Interface, Machine, printable_bytes};

/// The marks of this machine; what cannot be read is left empty.
pub fn machine() -> Machine {
    Machine {
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        machine_id: line("/etc/machine-id"),
        hypervisor: hypervisor(),
        interfaces: interfaces(),
    }
}

/// The text of a file of one line; empty where it cannot be read.
fn line(path: &str) -> String {
    fs::read(path).map(|bytes| printable_bytes(bytes.trim_ascii())).unwrap_or_default()
}

/// Who runs this machine, if it is a guest.
fn hypervisor() -> Option<String> {
    let vendor =
        || Some(line("/sys/class/dmi/id/sys_vendor")).filter(|vendor| is_of_virtual_machines(vendor));
    let kind = || Some(line("/sys/hypervisor/type")).filter(|kind| !kind.is_empty());
    processor_signature().or_else(kind).or_else(vendor)
}

/// Vendors in the DMI table that make virtual machines only.
fn is_of_virtual_machines(vendor: &str) -> bool {
    ["QEMU", "VMware, Inc.", "Xen", "innotek GmbH", "Amazon EC2", "OpenStack Foundation"].contains(&vendor)
}

/// The signature of the hypervisor (leaf 0x40000000), where the processor says that there is one.
#[cfg(target_arch = "x86_64")]
fn processor_signature() -> Option<String> {
    use std::arch::x86_64::__cpuid;

    const HAS_HYPERVISOR: u32 = 1 << 31;
    const HYPERVISOR_LEAF: u32 = 0x4000_0000;
    if __cpuid(1).ecx & HAS_HYPERVISOR == 0 {
        return None;
    }
    let leaf = __cpuid(HYPERVISOR_LEAF);
    let bytes: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx].into_iter().flat_map(u32::to_le_bytes).collect();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    Some(printable_bytes(&bytes[..end]))
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_signature() -> Option<String> {
    None
}

/// The devices of this network namespace that have addresses, by name. No loopback.
fn interfaces() -> Vec<Interface> {
    let mut found: BTreeMap<String, Interface> = BTreeMap::new();
    for one in getifaddrs().into_iter().flatten() {
        let Some(address) = one.address.filter(|_| one.interface_name != "lo") else { continue };
        let device = printable_bytes(one.interface_name.as_bytes());
        let entry = found.entry(device.clone()).or_insert(Interface { device, ..Interface::default() });
        if let Some(link) = address.as_link_addr() {
            entry.mac = link.addr().map_or_else(String::new, shown_mac);
        } else if let Some(v4) = address.as_sockaddr_in() {
            entry.addresses.push(v4.ip().to_string());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            entry.addresses.push(v6.ip().to_string());
        }
    }
    found.into_values().collect()
}

fn shown_mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_its_boot() {
        let machine = machine();
        assert_eq!(machine.boot_id.len(), 36, "{machine:?}");
        assert!(machine.interfaces.iter().all(|interface| interface.device != "lo"));
    }

    #[test]
    fn an_address_is_shown_as_ip_shows_it() {
        assert_eq!(shown_mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]), "52:54:00:12:34:56");
    }
}
