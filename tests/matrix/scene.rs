//! What is recorded, and what is checked of it, as data.

use anyhow::Result;
use overlay_trace_lab::dataplanes::{self, Knobs, Running};
use overlay_trace_lab::traffic::{Stop, TrafficReport};
use overlay_trace_probe::{FilterOptions, ProbeSet};

use crate::networks;
use crate::results::Outcome;
use crate::seen::Seen;
use crate::since::{self, Since};

/// A lab, perhaps with something changed about it.
pub struct Setting {
    /// Begins the names of its tests.
    pub name: &'static str,
    pub lab: &'static str,
    pub knobs: fn() -> Knobs,
    /// What else is set up in it before recordings begin.
    pub prepare: fn(&Running) -> Result<Vec<Lack>>,
    /// The recordings; those of probe sets that are not asked for are left out.
    pub scenes: &'static [Scene],
    /// It stands by itself, and nothing it is recorded with has more in it.
    pub alone: bool,
}

/// A row of the stage map that cannot be exercised on this machine, and why.
#[derive(Clone, Debug)]
pub struct Lack {
    pub stage: &'static str,
    pub why: String,
}

/// A recording.
pub struct Scene {
    /// Unique within the setting; part of the names of its tests.
    pub name: &'static str,
    pub set: ProbeSet,
    pub filter: fn() -> FilterOptions,
    /// Sends the traffic.
    pub drive: fn(&Running, &Stop) -> Result<Vec<TrafficReport>>,
    pub checks: &'static [&'static [Check]],
    /// Traffic runs already when the recording begins, and packets that were sent before are in flight then.
    pub in_flight: bool,
    /// Which kernels can do what the scene shows.
    pub since: Since,
}

/// Something that must hold for a recording.
pub struct Check {
    pub name: &'static str,
    pub run: fn(&Seen, &[Seen]) -> Outcome,
}

impl Setting {
    /// The lab with nothing changed.
    pub const fn plain(lab: &'static str, scenes: &'static [Scene]) -> Setting {
        Setting { name: lab, lab, knobs: Knobs::default, prepare: |_| Ok(Vec::new()), scenes, alone: false }
    }

    /// Whether the lab stands as it is by default.
    pub fn is_plain(&self) -> bool {
        self.name == self.lab
    }

    /// The lab.
    pub fn lab(&self) -> Result<&'static dataplanes::Lab> {
        dataplanes::find(self.lab).ok_or_else(|| anyhow::anyhow!("there is no lab {}", self.lab))
    }
}

impl Scene {
    /// A recording of request/response traffic, without a filter.
    pub const fn of(set: ProbeSet, checks: &'static [&'static [Check]]) -> Scene {
        let name = match set {
            ProbeSet::Full => "full",
            ProbeSet::Light => "light",
            ProbeSet::Device => "device",
            ProbeSet::Tc => "tc",
        };
        Scene {
            name,
            set,
            filter: FilterOptions::default,
            drive: networks::requests,
            checks,
            in_flight: false,
            since: None,
        }
    }

    /// Whether it can be part of a recording that has more in it.
    pub fn shares(&self) -> bool {
        (self.filter)() == FilterOptions::default()
    }

    /// Why the running kernel cannot do what the scene shows, if it cannot.
    pub fn lack(&self) -> Option<String> {
        since::lack(self.since)
    }

    /// All checks.
    pub fn checks(&self) -> impl Iterator<Item = &'static Check> {
        self.checks.iter().flat_map(|group| group.iter())
    }
}

/// A check whose function looks at its own recording alone.
pub const fn check(name: &'static str, run: fn(&Seen, &[Seen]) -> Outcome) -> Check {
    Check { name, run }
}
