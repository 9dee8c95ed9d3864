//! netem holds packets back at one device.

use std::{process::Command, time::Duration};

use anyhow::Result;

use super::compare::{self, Place, Profile, Recorded};
use super::fixture::{Change, Fixture, Window};
use super::flow::Flow;
use super::{Cause, Injected};
use crate::results::Outcome;

const DELAY: Duration = Duration::from_millis(2);

const POD: Place = Place { stage: "qdisc-wait", netns: "pod1", device: "eth0", level: 0 };
/// What the tunnel device's queue holds is not encapsulated yet.
const TUNNEL: Place = Place { netns: "node1", device: "flannel.1", ..POD };
const UNDERLAY: Place = Place { netns: "node1", level: 1, ..POD };

pub const CAUSES: &[Cause] = &[
    Cause {
        name: "delay/pod",
        inject: |fixture| delayed(fixture, &POD, "tc qdisc del dev eth0 root"),
        untraced: None,
        check: |recorded, windows| is_at(recorded, windows, &POD),
    },
    Cause {
        name: "delay/tunnel",
        inject: |fixture| delayed(fixture, &TUNNEL, "tc qdisc del dev flannel.1 root"),
        untraced: None,
        check: |recorded, windows| is_at(recorded, windows, &TUNNEL),
    },
    Cause {
        name: "delay/underlay",
        inject: |fixture| delayed(fixture, &UNDERLAY, "tc qdisc replace dev eth0 root fq_codel"),
        untraced: None,
        check: |recorded, windows| is_at(recorded, windows, &UNDERLAY),
    },
];

/// Loads netem: before 5.15 its own function is probed, and of a module that comes later some packets are missed.
pub fn prepare() {
    // Whether it is there, `tc` will tell.
    let _ = Command::new("modprobe").args(["-q", "sch_netem"]).status();
}

fn delayed(fixture: &Fixture, place: &Place, undo: &str) -> Result<Injected> {
    let without = fixture.send(&Flow::PLAIN, 0.0)?;
    let make = format!("tc qdisc replace dev {} root netem delay {}us", place.device, DELAY.as_micros());
    let change = Change::new(place.netns, &[&make], &[undo]);
    let with = fixture.with(&[change], || fixture.send(&Flow::PLAIN, DELAY.as_nanos() as f64))?;
    Ok(with.map(|with| vec![without, with]))
}

fn is_at(recorded: &Recorded, windows: &[Window], place: &Place) -> Outcome {
    let [before, after] = [Profile::of(recorded, &windows[0])?, Profile::of(recorded, &windows[1])?];
    compare::Change::between(&before, &after, |key| place.is(recorded, key)).is(windows[1].size)
}
