//! One probe's share of the stage map, packed in the word that is patched into its program.
//!
//! The kernel side has one program per class of rows ([`Row::class`]) and one per kind of probe and argument
//! position for all others. The loader makes a copy for each probe and replaces the marker [`ROW_MARKER`] by
//! that probe's row.

use crate::stage::{Action, Headers, Kind, Layer, LevelChange, Point, Sets, Stage};

/// The 64-bit immediate that stands for the row in a generic program.
pub const ROW_MARKER: u64 = 0x0eae_7ace_0b5e_55ed;

/// The offset that stands for that of a function's result behind its arguments; no structure is as large.
pub const RESULT_MARKER: i16 = 0x7ff8;

/// The offset that stands for that of the first field of [`Offsets`](crate::kernel::Offsets) in a direct load from one
/// of the kernel's structures; those of the others follow.
pub const FIELD_MARKER: i16 = 0x7e00;

/// A packed row: the stage in bits 0..8, the action in 8..16, the outcome in 16..24, the flags from 24 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Row(pub u64);

/// Read the packet's device anew.
pub const ROW_HOP: u64 = 1 << 24;
/// The stage is a wait: the CPU is no longer busy with the packet.
pub const ROW_WAIT: u64 = 1 << 25;
/// One encapsulation less from here on.
pub const ROW_DOWN: u64 = 1 << 26;
/// The exit is probed too: remember where the packet came from.
pub const ROW_EXIT: u64 = 1 << 27;
/// The network header is in place: read the addresses if they are not known yet.
pub const ROW_IDENTIFY: u64 = 1 << 28;
/// The packet's data begins with its network header (on the way in).
pub const ROW_INGRESS: u64 = 1 << 29;
/// `skb:kfree_skb` has a third argument, the reason.
pub const ROW_REASON: u64 = 1 << 30;
/// The function returns the packets that this one was cut into, or its copy.
pub const ROW_CHILDREN: u64 = 1 << 31;
/// The argument is the address of the packet's address.
pub const ROW_INDIRECT: u64 = 1 << 32;
/// For measuring the probe's own cost: the packet is an invented one.
pub const ROW_CALIBRATE: u64 = 1 << 33;
/// A packet found at this point is always a new one: what was known under its address is out of date.
pub const ROW_FIRST: u64 = 1 << 34;
/// The argument is a socket; the packet is the one that the CPU is busy with.
pub const ROW_CURRENT: u64 = 1 << 36;
/// An unknown packet is followed from here on, whatever the action.
pub const ROW_BEGINS: u64 = 1 << 38;
/// The probe fires after the packet may have become visible to another CPU: if one has taken it, nothing
/// is to be noted.
pub const ROW_AFTER: u64 = 1 << 39;
/// Only if the function returns 0, so only its exit is probed.
pub const ROW_IF_ZERO: u64 = 1 << 40;

/// The queue is emptied by a softirq: until that begins, the packet waits for it, and then for its turn.
pub const ROW_DEFERRED: u64 = 1 << 41;
/// The argument is the number of a softirq that begins.
pub const ROW_SOFTIRQ: u64 = 1 << 42;
/// What is interrupted at this point is not told when it goes on, but when it is interrupted again.
pub const ROW_RESUMES: u64 = 1 << 43;

/// Only for packets that have not left through a NIC.
pub const ROW_IN_SOCKET: u64 = 1 << 44;

/// From here on the packet is being forwarded.
pub const ROW_FORWARDS: u64 = 1 << 45;
/// Not for packets that are being forwarded.
pub const ROW_UNLESS_FORWARDED: u64 = 1 << 46;
/// One encapsulation more from here on.
pub const ROW_UP: u64 = 1 << 47;
/// Calls of the stage follow each other, with no other stage between.
pub const ROW_REPEATS: u64 = 1 << 48;
/// The send call of a packet that begins here may have been noted.
pub const ROW_NOTED: u64 = 1 << 49;

/// What a step can have.
const ROW_OF_STEPS: u64 = ROW_WAIT | ROW_FORWARDS | ROW_UNLESS_FORWARDED | ROW_REPEATS;

/// Flags that only the running kernel tells.
pub const ROW_OF_KERNEL: u64 = ROW_REASON | ROW_INDIRECT;

/// The offset from which a program of a class reads its packet, until the loader puts in that of the
/// argument.
pub const ARGUMENT_MARKER: i16 = 0x7f8;

/// Offsets in bytes of the first four arguments (di, si, dx, cx) in x86-64's `struct pt_regs`.
pub const KPROBE_ARGUMENTS: [usize; 4] = [112, 104, 96, 88];

impl Row {
    /// What the kernel side must know of a point of a stage in a probe set.
    pub fn of(number: u8, stage: &Stage, point: &Point, set: Sets) -> Row {
        let flag = |wanted: bool, flag: u64| if wanted { flag } else { 0 };
        // Without probes on all the places where sockets send, a packet's way properly begins at its first device.
        let begins = set != Sets::FULL && point.action == Action::Adopt && point.headers == Headers::Out;
        let action = if begins { Action::Birth } else { point.action };
        let flags = flag(point.hop, ROW_HOP)
            | flag(stage.kind == Kind::Wait, ROW_WAIT)
            | flag(stage.level == LevelChange::Down, ROW_DOWN)
            // What the device adds that a packet is transmitted by, the device says.
            | flag(stage.level == LevelChange::Up && point.action != Action::Transmit, ROW_UP)
            | flag(point.exit, ROW_EXIT)
            | flag(matches!(stage.layer, Layer::Iptables | Layer::Nftables), ROW_REPEATS)
            | flag(point.first, ROW_FIRST)
            | flag(point.current, ROW_CURRENT)
            | flag(point.after, ROW_AFTER)
            | flag(point.if_zero, ROW_IF_ZERO)
            // The light set does not see softirqs begin.
            | flag(point.deferred && set != Sets::LIGHT, ROW_DEFERRED)
            | flag(point.softirq, ROW_SOFTIRQ)
            | flag(point.resumes, ROW_RESUMES)
            | flag(point.in_socket, ROW_IN_SOCKET)
            | flag(point.forwards, ROW_FORWARDS)
            | flag(point.unless_forwarded, ROW_UNLESS_FORWARDED)
            // What the light set has not seen before begins at its first device.
            | flag(set == Sets::LIGHT && point.action == Action::Transmit, ROW_BEGINS)
            // The light set watches no send calls, but TCP's transmission, after which IP is the first.
            | flag(action == Action::Birth && (set == Sets::FULL || stage.layer == Layer::Ip), ROW_NOTED)
            | flag(point.headers != Headers::No, ROW_IDENTIFY)
            | flag(point.headers == Headers::In, ROW_INGRESS)
            | flag(point.split || point.action == Action::Copy, ROW_CHILDREN);
        let outcome = stage.outcome.map_or(0, |outcome| outcome as u8);
        Row::new(number, action as u8, outcome, flags)
    }

    /// All but the stage: rows of a class share a program, from which the compiler has removed what they do
    /// not need.
    pub const fn class(self) -> u64 {
        self.0 & !0xff
    }

    /// Whether a known packet only enters another stage, without anything to be read of it.
    #[inline(always)]
    pub const fn is_step(self) -> bool {
        self.action() == Action::Enter as u8 && (self.0 >> 24 << 24) & !ROW_OF_STEPS == 0
    }

    pub const fn new(stage: u8, action: u8, outcome: u8, flags: u64) -> Row {
        Row(stage as u64 | (action as u64) << 8 | (outcome as u64) << 16 | flags)
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
    pub const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
}
