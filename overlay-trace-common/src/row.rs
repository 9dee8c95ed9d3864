//! One probe's share of the stage map, packed in the word that is patched into its program.
//!
//! The kernel side has one generic program per kind of probe and argument position. The loader makes a copy of it
//! for each probe, replaces the marker [`ROW_MARKER`] by that probe's row, and the kernel's verifier,
//! which then knows every bit of it, removes what this probe does not need.

/// The 64-bit immediate that stands for the row in a generic program.
pub const ROW_MARKER: u64 = 0x0eae_7ace_0b5e_55ed;

/// The offset that stands for that of a function's result behind its arguments; no structure is as large.
pub const RESULT_MARKER: i16 = 0x7ff8;

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
/// Only TCP segments without data end here.
pub const ROW_EMPTY_ONLY: u64 = 1 << 35;
/// The argument is a socket; the packet is the one that the CPU is busy with.
pub const ROW_CURRENT: u64 = 1 << 36;
/// The packet is what the function returns.
pub const ROW_RETURNED: u64 = 1 << 37;
/// An unknown packet is followed from here on, whatever the action.
pub const ROW_BEGINS: u64 = 1 << 38;
/// The probe fires after the packet may have become visible to another CPU: if one has taken it, nothing
/// is to be noted.
pub const ROW_AFTER: u64 = 1 << 39;
/// Only if the function returns 0, so only its exit is probed.
pub const ROW_IF_ZERO: u64 = 1 << 40;

impl Row {
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
