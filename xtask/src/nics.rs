//! The kernel matrix over NICs: which drivers, with which options, under which kernels.

use anyhow::Result;

use crate::vm::{VmOptions, nics::Nic};

/// A machine with NICs, joined by bridges of this machine's kernel or in pairs.
pub struct Machine {
    pub kernel: &'static str,
    /// As `--nic` has them.
    nics: &'static [&'static str],
    /// The tests, by the beginnings of their names.
    only: &'static str,
    /// Part of the run without `--all` too, with fewer tests.
    pub core: bool,
}

/// The kernel under which everything is tested.
const KERNEL: &str = "6.12";
/// The tests in which drivers are compared: in every network with the NIC that has the most ways to hand packets over,
/// and with the others in those networks that ask most of a driver.
const EVERYWHERE: &str = "nic/";
macro_rules! some {
    ($($more:literal)?) => { concat!("nic/host/,nic/host+ipv6/,nic/flannel-vxlan/" $(, ",", $more)?) };
}
/// Of the core run: the probe sets that tests elsewhere do not see from a wire, in one network.
const CORE_ARGUMENTS: &[&str] = &["--nic", "--set", "light,device", "--only", "nic/host/"];

/// The first two are one node's, the others the other's. LACP does not use a link without speed.
const PAIRS: &[&str] = &[
    "virtio,pair=0,speed=1000,duplex=full",
    "virtio,pair=1,speed=1000,duplex=full",
    "virtio,pair=0,speed=1000,duplex=full",
    "virtio,pair=1,speed=1000,duplex=full",
];

pub const MACHINES: &[Machine] = &[
    Machine { core: true, only: EVERYWHERE, ..two(KERNEL, &["virtio", "virtio"]) },
    two(KERNEL, &["virtio,mrg_rxbuf=off", "virtio,mrg_rxbuf=off"]),
    two(KERNEL, &["virtio,offloads=off", "virtio,offloads=off"]),
    two(KERNEL, &["virtio,queues=4", "virtio,queues=4"]),
    Machine { only: some!("nic-e1000e/"), ..two(KERNEL, &["e1000e", "e1000e"]) },
    two(KERNEL, &["igb", "igb"]),
    Machine { only: some!("nic-vmxnet3/"), ..two(KERNEL, &["vmxnet3", "vmxnet3"]) },
    two("5.10", &["virtio", "virtio"]),
    two("6.1", &["virtio", "virtio"]),
    two("7.2", &["virtio", "virtio"]),
    // More devices, XDP, and receive steering, which wants several queues.
    Machine { only: "nic2/", ..two(KERNEL, &["virtio,queues=4", "virtio,queues=4"]) },
    Machine { only: "nic4/", ..two(KERNEL, PAIRS) },
];

const fn two(kernel: &'static str, nics: &'static [&'static str]) -> Machine {
    Machine { kernel, nics, only: some!(), core: false }
}

impl Machine {
    /// The name of its piece.
    pub fn name(&self) -> String {
        let tests = self.only.split('/').next().unwrap_or_default();
        format!("NICs, {}, {tests}, {}", self.kernel, self.nics[0])
    }

    /// Its NIC, if it is one of those in which drivers are compared.
    pub fn compared_nic(&self) -> Option<&'static str> {
        (self.kernel == KERNEL && self.only.starts_with(EVERYWHERE)).then_some(self.nics[0])
    }

    /// What the matrix is told.
    pub fn arguments(&self, all: bool) -> Vec<String> {
        let whole = ["--nic", "--set", "full,light,device", "--only", self.only];
        let arguments: &[&str] = if all { &whole } else { CORE_ARGUMENTS };
        arguments.iter().map(|word| (*word).to_owned()).collect()
    }

    /// What its virtual machine is started with, for so many seconds.
    ///
    /// # Errors
    ///
    /// When a NIC's description is wrong.
    pub fn options(&self, timeout: u64) -> Result<VmOptions> {
        let nics = self.nics.iter().map(|nic| nic.parse()).collect::<Result<Vec<Nic>>>()?;
        Ok(VmOptions { nics, timeout: Some(timeout), ..VmOptions::new(self.kernel) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::nics;

    #[test]
    fn every_machine_can_be_described_and_has_a_name_of_its_own() -> Result<()> {
        let mut names = Vec::new();
        for machine in MACHINES {
            nics::check(&machine.options(1)?.nics)?;
            assert!(!names.contains(&machine.name()), "{}", machine.name());
            names.push(machine.name());
        }
        let compared: Vec<&str> = MACHINES.iter().filter_map(Machine::compared_nic).collect();
        assert_eq!((compared.len(), compared[1]), (7, "virtio,mrg_rxbuf=off"));
        Ok(())
    }
}
