//! A packet is followed through whatever the kernel does with it: each mechanism that puts one `sk_buff` in
//! another's place has a scene with real traffic, and what must hold of every packet is checked in all of
//! them.

mod copies;
mod counts;
mod flood;
mod fragments;
mod loss;
mod nat;
pub mod packets;
mod plausible;
mod redirect;
mod reuse;
mod segments;
mod sockets;
mod xdp;

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use overlay_trace_lab::dataplanes::{Knobs, Running};
use overlay_trace_probe::ProbeSet::Full;

use crate::invariants::{EXACT, MODERATE};
use crate::machine;
use crate::scene::{Check, Scene, Setting};
use crate::since::{VETH_GRO, VETH_WHOLE_UDP};
use crate::special::Drive;
use counts::COUNTED;
use plausible::PLAUSIBLE;

/// Between routed pods, nothing encapsulated.
pub const ROUTED: Setting = Setting {
    name: "identity-routed",
    ..Setting::plain(
        "flannel-host-gw",
        &[
            scene("loss", loss::drive, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, loss::CHECKS]),
            scene(
                "duplicates",
                copies::duplicates,
                &[EXACT, MODERATE, PLAUSIBLE, COUNTED, copies::DUPLICATES],
            ),
            scene("fragments", fragments::drive, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, fragments::CHECKS]),
            scene("gso", segments::gso, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, segments::CUT]),
            Scene {
                since: VETH_GRO,
                ..scene("gro", segments::gro, &[EXACT, MODERATE, PLAUSIBLE, segments::MERGED])
            },
            Scene {
                since: VETH_WHOLE_UDP,
                ..scene(
                    "gro-list",
                    segments::gro_list,
                    &[EXACT, MODERATE, PLAUSIBLE, COUNTED, segments::UDP_LIST],
                )
            },
            scene("udp-gso", segments::udp_gso, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, segments::UDP_CUT]),
            Scene {
                since: VETH_WHOLE_UDP,
                ..scene(
                    "udp-gro",
                    segments::udp_gro,
                    &[EXACT, MODERATE, PLAUSIBLE, COUNTED, segments::UDP_WHOLE],
                )
            },
            scene("reuse", reuse::drive, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, reuse::CHECKS]),
        ],
    )
};

/// Over an overlay.
pub const TUNNELLED: Setting = Setting {
    name: "identity-tunnelled",
    ..Setting::plain(
        "flannel-vxlan",
        &[
            scene("taps", copies::taps, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, copies::TAPS]),
            scene("fragments", fragments::drive, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, fragments::CHECKS]),
            scene("gso", segments::gso, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, segments::CUT]),
            scene("xdp", xdp::drive, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, xdp::CHECKS]),
        ],
    )
};

/// Within one node, over its bridge.
pub const BRIDGED: Setting = Setting {
    name: "identity-bridged",
    prepare: flood::prepare,
    ..Setting::plain(
        "same-host",
        &[
            scene("flood", flood::drive, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, flood::CHECKS]),
            scene(
                "redirect",
                redirect::redirect,
                &[EXACT, MODERATE, PLAUSIBLE, COUNTED, redirect::REDIRECTED],
            ),
            scene("mirror", redirect::mirror, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, redirect::MIRRORED]),
        ],
    )
};

/// To a service address, and with a masqueraded source.
pub const TRANSLATED: Setting = Setting {
    name: "identity-translated",
    knobs: || Knobs { service: true, ..Knobs::default() },
    ..Setting::plain(
        "flannel-vxlan",
        &[scene("nat", nat::drive, &[EXACT, MODERATE, PLAUSIBLE, COUNTED, nat::CHECKS])],
    )
};

const fn scene(name: &'static str, drive: Drive, checks: &'static [&'static [Check]]) -> Scene {
    Scene { name, drive, ..Scene::of(Full, checks) }
}

/// Time for the last packets to arrive, and for their readers to read them.
const SETTLING: Duration = Duration::from_millis(300);

/// Waits for the last packets.
pub fn settle() {
    thread::sleep(SETTLING);
}

/// Runs commands, each a namespace's short name and its words.
pub fn set_up(running: &Running, commands: &[(&str, &str)]) -> Result<()> {
    for (namespace, command) in commands {
        if let Some(lack) = machine::run_in(running.netns(namespace)?, command)? {
            bail!("in {namespace}: {lack}");
        }
    }
    Ok(())
}

/// Does the work with something set up, and takes that down again whatever comes of it.
pub fn with<T>(
    running: &Running,
    up: &[(&str, &str)],
    down: &[(&str, &str)],
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let outcome = set_up(running, up).and_then(|()| work());
    settle();
    let undone = set_up(running, down);
    let outcome = outcome?;
    undone.map(|()| outcome)
}
