//! Segments' keys: what of a segment is not its time.

/// The part of a key that says where the packet is: level and hop.
pub const PLACE_MASK: u64 = 0x000f_ffff_0000_0000;
pub const HOP_MASK: u64 = 0x0000_ffff_0000_0000;
pub const LEVEL_MASK: u64 = 0xf << 48;
pub const LEVEL_ONE: u64 = 1 << 48;

#[inline(always)]
pub const fn stage_bits(stage: u8) -> u64 {
    (stage as u64) << 56
}
