//! Probe specs: what one probe does, packed in a 64-bit immediate of its program.
//!
//! The kernel side has one program per class of probe specs ([`ProbeSpec::class`]), and generic programs, one per kind
//! of probe and argument position. The loader copies a program for each probe and replaces the marker
//! [`SPEC_MARKER`] by the probe's spec.

use crate::flags::ProbeFlags;
use crate::record::Outcome;
use crate::stage::{Action, Headers, Kind, Layer, LevelChange, Point, Sets, Stage};

/// Placeholder of the probe spec in a program: a 64-bit immediate.
pub const SPEC_MARKER: u64 = 0x0eae_7ace_0b5e_55ed;

/// Placeholder of the offset of a function's result, which lies behind its arguments; no structure is as large.
pub const RESULT_MARKER: i16 = 0x7ff8;

/// Placeholder of the offset of the first field of [`Offsets`](crate::abi::Offsets) in a direct load from a kernel
/// structure; those of the other fields follow.
pub const FIELD_MARKER: i16 = 0x7e00;

/// A probe spec: the stage in bits 0..8, the action in 8..16, the outcome in 16..24, the [`ProbeFlags`] from 24 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct ProbeSpec(pub u64);

/// Placeholder of the offset of the packet argument in the programs of classes.
pub const ARGUMENT_MARKER: i16 = 0x7f8;

/// Offsets in bytes of the first four arguments (di, si, dx, cx) in x86-64's `struct pt_regs`.
pub const KPROBE_ARGUMENTS: [usize; 4] = [112, 104, 96, 88];

/// The specs by which the cost of probes is measured: no stage of the map has them. Those of a start have programs of their
/// classes, as stages have. Those of a step share one that looks at its spec as it runs: its branches stand for those of
/// real steps.
pub mod calibration {
    use super::*;

    const fn spec(action: Action, outcome: u8, more: ProbeFlags) -> ProbeSpec {
        ProbeSpec::new(0, action as u8, outcome, ProbeFlags::CALIBRATE).with(more)
    }

    /// A synthetic packet enters a stage; or it is there already.
    pub const STEP: ProbeSpec = spec(Action::Enter, 0, ProbeFlags::NONE);
    pub const REPEATED_STEP: ProbeSpec = spec(Action::Enter, Outcome::Delivered as u8, ProbeFlags::NONE);
    /// The program also reads a packet's device through a helper.
    pub const STEP_WITH_DEVICE: ProbeSpec = STEP.with(ProbeFlags::DEVICE);
    /// A synthetic packet starts, and is forgotten; its headers are parsed, its device is read, or it has a record.
    pub const START: ProbeSpec = spec(Action::Start, 0, ProbeFlags::NONE);
    pub const START_WITH_HEADERS: ProbeSpec = spec(Action::Start, 0, ProbeFlags::PARSE_HEADERS);
    pub const START_WITH_DEVICE: ProbeSpec = spec(Action::Start, 0, ProbeFlags::DEVICE);
    pub const START_WITH_RECORD: ProbeSpec = spec(Action::Start, Outcome::Delivered as u8, ProbeFlags::NONE);

    pub const STARTS: [ProbeSpec; 4] = [START, START_WITH_HEADERS, START_WITH_DEVICE, START_WITH_RECORD];
}

/// Whether a packet that is known goes on, or ends, at probes of this action.
const fn is_on_path(action: Action) -> bool {
    matches!(action, Action::Enter | Action::Start | Action::PickUp | Action::Transmit | Action::End)
}

impl ProbeSpec {
    /// The spec of a point of a stage in a probe set.
    pub fn of(number: u8, stage: &Stage, point: &Point, set: Sets) -> ProbeSpec {
        let flag = |wanted: bool, flag: ProbeFlags| if wanted { flag } else { ProbeFlags::NONE };
        // Only the full set probes all functions by which sockets send. In the others the first device is a proper start.
        let begins = set != Sets::FULL && point.action == Action::PickUp && point.headers == Headers::Out;
        let action = if begins { Action::Start } else { point.action };
        let flags = flag(point.hop, ProbeFlags::DEVICE)
            | flag(point.routed, ProbeFlags::ROUTED)
            | flag(stage.kind == Kind::Wait, ProbeFlags::WAIT)
            | flag(stage.level == LevelChange::Down, ProbeFlags::DECAPSULATES)
            // What a transmitting device adds, its link kind says.
            | flag(stage.level == LevelChange::Up && point.action != Action::Transmit, ProbeFlags::ENCAPSULATES)
            | flag(point.exit, ProbeFlags::EXIT)
            | flag(matches!(stage.layer, Layer::Iptables | Layer::Nftables), ProbeFlags::REPEATS)
            | flag(point.first, ProbeFlags::ALWAYS_NEW)
            | flag(point.current, ProbeFlags::CURRENT_PACKET)
            | flag(point.after, ProbeFlags::AFTER_HANDOVER)
            | flag(point.if_zero, ProbeFlags::IF_ZERO)
            // The light set does not probe softirqs.
            | flag(point.deferred && set != Sets::LIGHT, ProbeFlags::SOFTIRQ_QUEUE)
            | flag(point.softirq, ProbeFlags::SOFTIRQ)
            | flag(point.resumes, ProbeFlags::RESUMES)
            | flag(point.in_socket, ProbeFlags::IN_SOCKET)
            | flag(point.forwards, ProbeFlags::FORWARDS)
            | flag(point.unless_forwarded, ProbeFlags::UNLESS_FORWARDED)
            // In the light set an unknown packet starts at its first device.
            | flag(set == Sets::LIGHT && point.action == Action::Transmit, ProbeFlags::STARTS_PATH)
            // The light set probes no send calls except TCP's transmission, which IP follows.
            | flag(action == Action::Start && (set == Sets::FULL || stage.layer == Layer::Ip), ProbeFlags::HAS_SEND_NOTE)
            | flag(point.new_at_edge, ProbeFlags::NEW_AT_EDGE)
            | flag(point.new_at_edge && set == Sets::DEVICE, ProbeFlags::GRO_ENTRY)
            | flag(point.gro_result, ProbeFlags::GRO_RESULT)
            | flag(point.in_tcp, ProbeFlags::IN_TCP)
            | flag(point.timer, ProbeFlags::TIMER)
            | flag(point.dequeued, ProbeFlags::DEQUEUED)
            | flag(set == Sets::LIGHT && point.action == Action::Transmit, ProbeFlags::HANDS_OVER)
            | flag(set == Sets::DEVICE && is_on_path(action), ProbeFlags::UNSEEN_ENDS)
            | flag(point.headers != Headers::No, ProbeFlags::PARSE_HEADERS)
            | flag(point.headers == Headers::In, ProbeFlags::INGRESS)
            // The light set does not probe GRO.
            | flag(set == Sets::LIGHT && point.action == Action::PickUp && point.headers == Headers::In, ProbeFlags::BEHIND_GRO)
            | flag(point.split || point.action == Action::Copy, ProbeFlags::RETURNS_PACKETS);
        let outcome = stage.outcome.map_or(0, |outcome| outcome as u8);
        ProbeSpec::new(number, action as u8, outcome, flags)
    }

    /// The spec without the stage. Probes of a class share a program, from which the compiler has removed what they do
    /// not need.
    pub const fn class(self) -> u64 {
        self.0 & !0xff
    }

    /// Whether a known packet only enters another stage, and at most its device is read from it.
    #[inline(always)]
    pub const fn is_step(self) -> bool {
        self.action() == Action::Enter as u8 && self.flags().difference(ProbeFlags::STEP).is_empty()
    }

    pub const fn new(stage: u8, action: u8, outcome: u8, flags: ProbeFlags) -> ProbeSpec {
        ProbeSpec(stage as u64 | (action as u64) << 8 | (outcome as u64) << 16 | flags.bits())
    }
    #[inline(always)]
    pub const fn stage(self) -> u8 {
        self.0 as u8
    }
    #[inline(always)]
    pub const fn action(self) -> u8 {
        (self.0 >> 8) as u8
    }
    #[inline(always)]
    pub const fn outcome(self) -> u8 {
        (self.0 >> 16) as u8
    }
    #[inline(always)]
    pub const fn flags(self) -> ProbeFlags {
        ProbeFlags::from_bits(self.0 >> ProbeFlags::SHIFT << ProbeFlags::SHIFT)
    }
    /// Whether at least one of these flags is set.
    #[inline(always)]
    pub const fn has(self, flags: ProbeFlags) -> bool {
        self.0 & flags.bits() != 0
    }
    /// The same spec with more flags.
    pub const fn with(self, flags: ProbeFlags) -> ProbeSpec {
        ProbeSpec(self.0 | flags.bits())
    }
}
