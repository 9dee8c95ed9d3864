//! Labs over real drivers: the nodes' NICs are two of the machine's own, joined outside of it.
//!
//! `cargo xtask test` starts a virtual machine with two NICs for this (`--nic`). The packets of one node arrive at the
//! other as new ones, as from a wire: with their headers in fragments, merged or cut by the driver, counted by it.

mod at_nic;
mod counted;
mod devices;
mod flows;
mod levels;
mod traffic;
mod waits;
mod xdp;

use anyhow::{Result, ensure};
pub use counted::of as counted;
use overlay_trace_lab::dataplanes::{Knobs, Wire};
use overlay_trace_probe::ProbeSet::{self, *};

use crate::invariants::EXACT;
use crate::machine;
use crate::scene::{Check, Scene, Setting, check};

/// What must hold of each recording over NICs.
const SENT_AND_SEEN: &[Check] = &[
    check("one-packet-each", flows::one_packet_each),
    check("levels", levels::levels),
    check("inner-flows", levels::inner_flows),
    check("streams", flows::streams),
    check("datagrams", flows::datagrams),
];
/// The same, by the drivers' own counters.
const NIC: &[Check] =
    &[check("sent-by-driver", counted::sent), check("received-by-driver", counted::received)];
/// The same, by the report, of recordings that are not shared.
const REPORTED: &[Check] = &[check("reported", counted::reported)];

const fn scene(set: ProbeSet, checks: &'static [&'static [Check]]) -> Scene {
    Scene { drive: traffic::both_ways, ..Scene::of(set, checks) }
}

const FULL_SET: Scene =
    scene(Full, &[EXACT, SENT_AND_SEEN, NIC, REPORTED, &[check("other-share", levels::other_share)]]);
const LIGHT_SET: Scene = scene(Light, &[EXACT, SENT_AND_SEEN, NIC, REPORTED]);
const DEVICE_SET: Scene = scene(Device, &[EXACT, SENT_AND_SEEN, NIC, REPORTED]);
const SCENES: &[Scene] = &[FULL_SET, LIGHT_SET, DEVICE_SET];

fn plain() -> Knobs {
    Knobs { wire: Wire::Nics(Vec::new()), ..Knobs::default() }
}

fn without_outer_checksums() -> Knobs {
    Knobs { udp_checksum: Some(false), ..plain() }
}

fn ipv6() -> Knobs {
    Knobs { ipv6: true, ..plain() }
}

const fn setting(name: &'static str, lab: &'static str, knobs: fn() -> Knobs) -> Setting {
    Setting { name, knobs, alone: true, ..Setting::plain(lab, SCENES) }
}

/// QEMU's igb writes the checksum of the outer datagram where that of the inner packet belongs: no tunnel works.
///
/// # Errors
///
/// The driver refuses to leave checksums to the kernel.
pub fn mend_igb() -> Result<()> {
    for device in machine::devices_of_driver("igb") {
        let lack = machine::run(&format!("ethtool -K {device} tx off"))?;
        ensure!(lack.is_none(), "{}", lack.unwrap_or_default());
    }
    Ok(())
}

/// All settings; NICs are one lab's at a time.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(&[waits::E1000E, waits::VMXNET3]).chain(devices::TWO_NICS).chain(devices::FOUR_NICS)
}

/// The settings in which the NICs are the nodes' NICs, and nothing else is on the way.
const SETTINGS: &[Setting] = &[
    setting("nic/host", "host", plain),
    setting("nic/flannel-host-gw", "flannel-host-gw", plain),
    setting("nic/flannel-vxlan", "flannel-vxlan", plain),
    setting("nic/flannel-vxlan+noudpcsum", "flannel-vxlan", without_outer_checksums),
    setting("nic/calico-ipip", "calico-ipip", plain),
    setting("nic/geneve", "geneve", plain),
    setting("nic/host+ipv6", "host", ipv6),
    setting("nic/flannel-vxlan+ipv6", "flannel-vxlan", ipv6),
];
