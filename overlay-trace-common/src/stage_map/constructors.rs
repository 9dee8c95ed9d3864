//! What the rows of the stage map are written with.

use crate::behaviour::Behaviour;
use crate::record::Outcome;
use crate::stage::{
    Action, Headers, Kind, Layer, LevelChange, Point, Probe, Sets, Stage,
    Target::{Function, Tracepoint, Transmit},
};

/// A kernel function whose argument number `argument` is the packet.
pub(super) const fn f(name: &'static str, argument: u8) -> Probe {
    Probe { target: Function(name), argument, before: None, indirect: false }
}

/// The same, where the packet was at another position before a kernel version.
pub(super) const fn since(name: &'static str, argument: u8, version: (u32, u32), before: u8) -> Probe {
    Probe { before: Some((version, before)), ..f(name, argument) }
}

/// A kernel function whose argument number `argument` is the address of the packet's address.
pub(super) const fn by_address(name: &'static str, argument: u8) -> Probe {
    Probe { indirect: true, ..f(name, argument) }
}

/// A tracepoint whose argument number `argument` is the packet.
pub(super) const fn t(name: &'static str, argument: u8) -> Probe {
    Probe { target: Tracepoint(name), argument, before: None, indirect: false }
}

pub(super) const fn point(action: Action, probes: &'static [Probe]) -> Point {
    Point {
        action,
        hop: false,
        routed: false,
        exit: false,
        first: false,
        new_at_edge: false,
        gro_result: false,
        in_tcp: false,
        timer: false,
        dequeued: false,
        headers: Headers::No,
        split: false,
        current: false,
        after: false,
        if_zero: false,
        deferred: false,
        softirq: false,
        resumes: false,
        in_socket: false,
        forwards: false,
        unless_forwarded: false,
        without: None,
        probes,
    }
}
pub(super) const fn enter(probes: &'static [Probe]) -> Point {
    point(Action::Enter, probes)
}
/// The way of the packet is decided here.
pub(super) const fn decide(probes: &'static [Probe]) -> Point {
    Point { unless_forwarded: true, ..enter(probes) }
}
pub(super) const fn forward(probes: &'static [Probe]) -> Point {
    Point { forwards: true, ..enter(probes) }
}
pub(super) const fn start(probes: &'static [Probe]) -> Point {
    point(Action::Start, probes)
}
/// As [`start`], at the first place where the packet can be seen at all.
pub(super) const fn first(probes: &'static [Probe]) -> Point {
    Point { first: true, ..start(probes) }
}
/// As [`start`], where the headers are complete.
pub(super) const fn birth_with_headers(probes: &'static [Probe]) -> Point {
    Point { headers: Headers::Out, ..start(probes) }
}
/// A packet is made of another one.
pub(super) const fn copy(probes: &'static [Probe]) -> Point {
    point(Action::Copy, probes)
}
/// The function returns a part of the packet.
pub(super) const fn part(probes: &'static [Probe]) -> Point {
    Point { exit: true, ..copy(probes) }
}
pub(super) const fn join(probes: &'static [Probe]) -> Point {
    point(Action::Join, probes)
}
pub(super) const fn note(probes: &'static [Probe]) -> Point {
    point(Action::Note, probes)
}
pub(super) const fn interrupt(probes: &'static [Probe]) -> Point {
    point(Action::Interrupt, probes)
}
pub(super) const fn resume(probes: &'static [Probe]) -> Point {
    point(Action::Resume, probes)
}
pub(super) const fn end(probes: &'static [Probe]) -> Point {
    point(Action::End, probes)
}
/// The enqueuing function of a qdisc, where there is no tracepoint for all of them.
pub(super) const fn qdisc(probes: &'static [Probe]) -> Point {
    Point { without: Some("qdisc_enqueue"), ..hop(probes) }
}
/// Enters the stage and reads the packet's device anew.
pub(super) const fn hop(probes: &'static [Probe]) -> Point {
    Point { hop: true, ..enter(probes) }
}
/// As [`hop`], and takes up packets that are not known yet.
pub(super) const fn pick_up(headers: Headers, probes: &'static [Probe]) -> Point {
    Point { hop: true, headers, ..point(Action::PickUp, probes) }
}
/// As [`pick_up`], where GRO takes the packet.
pub(super) const fn gro(probes: &'static [Probe]) -> Point {
    Point { new_at_edge: true, ..pick_up(Headers::In, probes) }
}
/// GRO tells what it did with the packet.
pub(super) const fn gro_result(probes: &'static [Probe]) -> Point {
    Point { gro_result: true, ..end(probes) }
}
/// Packets that go out through devices of this link kind.
pub(super) const fn transmit(probes: &'static [Probe]) -> Point {
    Point { hop: true, headers: Headers::Out, ..point(Action::Transmit, probes) }
}
/// A device of this link kind.
pub(super) const fn kind(kind: &'static str) -> Probe {
    Probe { target: Transmit(kind), argument: 0, before: None, indirect: false }
}
pub(super) const fn with_exit(point: Point) -> Point {
    Point { exit: true, ..point }
}

pub(super) const fn work(
    name: &'static str,
    layer: Layer,
    sets: Sets,
    points: &'static [Point],
    about: &'static str,
) -> Stage {
    Stage {
        name,
        layer,
        kind: Kind::Work,
        level: LevelChange::Keep,
        sets,
        points,
        outcome: None,
        behaviour: Behaviour::of(layer),
        about,
    }
}
pub(super) const fn wait(
    name: &'static str,
    layer: Layer,
    sets: Sets,
    points: &'static [Point],
    about: &'static str,
) -> Stage {
    Stage { kind: Kind::Wait, ..work(name, layer, sets, points, about) }
}
pub(super) const fn up(stage: Stage) -> Stage {
    Stage { level: LevelChange::Up, ..stage }
}
pub(super) const fn down(stage: Stage) -> Stage {
    Stage { level: LevelChange::Down, ..stage }
}
pub(super) const fn ends(
    name: &'static str,
    outcome: Outcome,
    sets: Sets,
    points: &'static [Point],
    about: &'static str,
) -> Stage {
    Stage { outcome: Some(outcome), ..work(name, Layer::Other, sets, points, about) }
}

/// What is particular to the behaviour of a row: see [`Behaviour`].
impl Stage {
    pub(super) const fn transmits(mut self) -> Stage {
        self.behaviour.transmits = true;
        self.leaves()
    }
    pub(super) const fn leaves(mut self) -> Stage {
        self.behaviour.leaves = true;
        self
    }
    /// The packet comes in from a device, and stays unless another device sees it.
    pub(super) const fn comes_in(mut self) -> Stage {
        self.behaviour.arrives = true;
        self.stays()
    }
    /// What is freed here and does not leave the namespace has been taken by a protocol or a socket.
    pub(super) const fn stays(mut self) -> Stage {
        self.behaviour.delivers = crate::behaviour::Delivery::Local;
        self
    }
    pub(super) const fn before_start(mut self) -> Stage {
        self.behaviour.before_start = true;
        self
    }
    pub(super) const fn behind_others(mut self) -> Stage {
        self.behaviour.behind_others = true;
        self.shared_queue()
    }
    pub(super) const fn shared_queue(mut self) -> Stage {
        self.behaviour.shared_queue = true;
        self
    }
    pub(super) const fn clones(mut self) -> Stage {
        self.behaviour.clones = true;
        self
    }
    pub(super) const fn probed_by(mut self, stage: &'static str) -> Stage {
        self.behaviour.probed_by = Some(stage);
        self
    }
}

macro_rules! transmit {
    ($name:literal, $layer:ident, [$($kind:literal),+], $about:literal) => {
        work(
            $name,
            Layer::$layer,
            Sets::NOT_TC,
            &[$(transmit(&[kind($kind)])),+],
            $about,
        )
        .transmits()
    };
}
