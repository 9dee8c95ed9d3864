//! The table of everything that is recorded and checked.

use overlay_trace_lab::dataplanes::Knobs;
use overlay_trace_probe::ProbeSet::{self, *};

use crate::filters::{self, scene};
use crate::identity;
use crate::invariants::{EXACT, EXPLAINED, MODERATE, REQUESTS};
use crate::layers::*;
use crate::possible::POSSIBLE;
use crate::scene::{Scene, Setting};
use crate::{levels, networks, special};

const DEVICE_CHECKS: &[&[crate::scene::Check]] = &[EXACT, MODERATE, REQUESTS, OUTLINE, DEVICES, POSSIBLE];

/// Everything but what compares times, which is in [`truth`](crate::truth).
pub const SETTINGS: &[Setting] = &[
    Setting::plain(
        "host",
        &[Scene::of(Full, &[EXACT, MODERATE, REQUESTS, EXPLAINED, HOST]), Scene::of(Device, DEVICE_CHECKS)],
    ),
    Setting::plain(
        "same-pod",
        &[
            Scene::of(Full, &[EXACT, MODERATE, REQUESTS, EXPLAINED, SAME_POD]),
            Scene::of(Light, &[EXACT, MODERATE, REQUESTS]),
            Scene::of(Device, &[EXACT, MODERATE, REQUESTS]),
        ],
    ),
    Setting::plain(
        "same-host",
        &[
            Scene::of(Full, &[EXACT, MODERATE, REQUESTS, EXPLAINED, SAME_HOST]),
            Scene::of(Device, DEVICE_CHECKS),
        ],
    ),
    Setting::plain(
        "flannel-host-gw",
        &[
            Scene::of(Full, &[EXACT, MODERATE, REQUESTS, EXPLAINED, HOST_GW]),
            Scene::of(Light, &[EXACT, MODERATE, REQUESTS, OUTLINE]),
            Scene::of(Device, DEVICE_CHECKS),
        ],
    ),
    Setting::plain(
        "flannel-vxlan",
        &[
            Scene::of(Full, &[EXACT, MODERATE, REQUESTS, EXPLAINED, VXLAN, POSSIBLE]),
            Scene::of(Light, &[EXACT, MODERATE, REQUESTS, OUTLINE, POSSIBLE]),
            Scene {
                name: "device-connections",
                drive: networks::connections,
                ..Scene::of(Device, &[EXACT, MODERATE, POSSIBLE])
            },
            scene(
                Light,
                "light-filter-protocol",
                filters::by_protocol,
                &[EXACT, MODERATE, filters::PROTOCOL],
            ),
            scene(Light, "light-filter-port", filters::by_port, &[EXACT, MODERATE, filters::PORTS]),
            scene(Light, "light-filter-address", filters::by_address, &[EXACT, MODERATE, filters::ADDRESS]),
            scene(Light, "light-filter-netns", filters::by_netns, &[EXACT, MODERATE, filters::NETNS]),
            scene(Light, "light-filter-device", filters::by_device, &[EXACT, MODERATE, filters::DEVICE]),
            Scene::of(Device, DEVICE_CHECKS),
            scene(
                Device,
                "device-filter-protocol",
                filters::by_protocol,
                &[EXACT, MODERATE, filters::PROTOCOL],
            ),
            scene(Device, "device-filter-port", filters::by_port, &[EXACT, MODERATE, filters::PORTS]),
            scene(Device, "device-filter-address", filters::by_address, &[EXACT, MODERATE, filters::ADDRESS]),
            scene(Device, "device-filter-netns", filters::by_netns, &[EXACT, MODERATE, filters::NETNS]),
            scene(Device, "device-filter-device", filters::by_device, &[EXACT, MODERATE, filters::DEVICE]),
        ],
    ),
    Setting {
        // In `--all` only: see "Known not to pass" in CHANGELOG.md.
        name: "flannel-vxlan+bulk",
        ..Setting::plain(
            "flannel-vxlan",
            &[Scene {
                drive: networks::requests_and_bulk,
                ..Scene::of(Device, &[EXACT, MODERATE, POSSIBLE])
            }],
        )
    },
    Setting::plain("calico-ipip", &[Scene::of(Full, &[EXACT, MODERATE, REQUESTS, EXPLAINED, CALICO])]),
    Setting {
        name: "flannel-vxlan+ipv6",
        knobs: || Knobs { ipv6: true, ..Knobs::default() },
        ..Setting::plain(
            "flannel-vxlan",
            &[Scene::of(Full, &[EXACT, MODERATE, REQUESTS, EXPLAINED, TUNNELLED_IPV6])],
        )
    },
    Setting {
        name: "flannel-vxlan+special",
        prepare: special::paths,
        alone: true,
        ..Setting::plain(
            "flannel-vxlan",
            &[
                special_scene(Full, special::along_all_paths),
                special_scene(Light, special::along_all_paths),
                special_scene(Device, special::along_all_paths),
            ],
        )
    },
    Setting {
        name: "host+tunnels",
        prepare: special::tunnels,
        alone: true,
        ..Setting::plain(
            "host",
            &[
                Scene {
                    drive: special::through_tunnels,
                    ..Scene::of(Full, &[EXACT, MODERATE, special::LEVELS])
                },
                special_scene(Light, special::through_tunnels),
                special_scene(Device, special::through_tunnels),
            ],
        )
    },
    levels::FLANNEL_IN_NEUTRON,
    levels::CALICO_IN_NEUTRON,
    levels::GRE,
    levels::GRETAP,
    levels::GENEVE,
    levels::VXLAN6,
    levels::VLAN,
    levels::QINQ,
    levels::FLANNEL_WIRE,
    levels::CALICO_WIRE,
    levels::FLANNEL_IN_NEUTRON_WIRE,
    levels::GRE_WIRE,
    levels::GRETAP_WIRE,
    levels::GENEVE_WIRE,
    levels::VXLAN6_WIRE,
    identity::ROUTED,
    identity::TUNNELLED,
    identity::BRIDGED,
    identity::TRANSLATED,
];

/// A recording that exercises rows of the stage map which the labs alone do not.
const fn special_scene(set: ProbeSet, drive: special::Drive) -> Scene {
    Scene { drive, ..Scene::of(set, &[EXACT]) }
}
