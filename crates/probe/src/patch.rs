//! Patching the copy of a program: the placeholders in it are replaced by what one probe needs.

use aya_obj::generated::bpf_insn;
use overlay_trace_common::{
    abi::Offsets,
    probe_spec::{ARGUMENT_MARKER, FIELD_MARKER, ProbeSpec, RESULT_MARKER, SPEC_MARKER},
};

/// Opcodes: the first half of a 64-bit immediate load, and the load of a 64-bit word.
pub const LOAD_IMMEDIATE: u8 = 0x18;
const LOAD_WORD: u8 = 0x79;
/// Loads of 32 and 16 bits.
const LOAD_HALF: u8 = 0x61;
const LOAD_QUARTER: u8 = 0x69;

/// Opcodes: setting a register, calling a helper, and returning what register 0 holds.
pub const MOVE: u8 = 0xb7;
pub const CALL: u8 = 0x85;
pub const EXIT: u8 = 0x95;

/// An instruction with an immediate.
pub fn instruction(code: u8, register: u8, imm: i32) -> bpf_insn {
    let mut instruction =
        bpf_insn { code, _bitfield_align_1: [], _bitfield_1: Default::default(), off: 0, imm };
    instruction.set_dst_reg(register);
    instruction
}

/// The end of a program that returns 0.
pub fn return_zero() -> [bpf_insn; 2] {
    [instruction(MOVE, 0, 0), instruction(EXIT, 0, 0)]
}

/// What is patched into a copy.
pub struct Probe<'a> {
    pub spec: ProbeSpec,
    /// Offset in bytes of the packet argument in the program's context.
    pub argument: i16,
    /// How many arguments the function has; its result lies behind them.
    pub arguments: u8,
    /// Offsets of the fields that the program reads.
    pub offsets: &'a Offsets,
}

/// A copy of a program for one probe.
pub fn patch(generic: &[bpf_insn], probe: &Probe) -> Vec<bpf_insn> {
    let Probe { spec, argument, arguments, offsets } = *probe;
    let mut instructions = generic.to_vec();
    for index in 0..instructions.len() {
        let next = instructions.get(index + 1).map_or(0, |next| next.imm);
        let this = &mut instructions[index];
        if this.code == LOAD_IMMEDIATE && this.imm as u32 as u64 | (next as u32 as u64) << 32 == SPEC_MARKER {
            this.imm = spec.0 as u32 as i32;
            instructions[index + 1].imm = (spec.0 >> 32) as i32;
        } else if this.code == LOAD_WORD && this.off == ARGUMENT_MARKER {
            this.off = argument;
        } else if this.code == LOAD_WORD && this.off == RESULT_MARKER {
            this.off = i16::from(arguments) * 8;
        } else if [LOAD_WORD, LOAD_HALF, LOAD_QUARTER].contains(&this.code)
            && let Ok(field) = usize::try_from(i32::from(this.off) - i32::from(FIELD_MARKER))
            && let Some(offset) = offsets.all().get(field)
        {
            this.off = *offset as i16;
        }
    }
    instructions
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE_WORD: u8 = 0x7b;

    fn at_offset((code, off, imm): (u8, i16, i32)) -> bpf_insn {
        bpf_insn { off, ..instruction(code, 0, imm) }
    }

    #[test]
    fn markers_are_replaced_and_nothing_else() {
        let generic = [
            (LOAD_IMMEDIATE, 0, SPEC_MARKER as u32 as i32),
            (0, 0, (SPEC_MARKER >> 32) as i32),
            (LOAD_WORD, RESULT_MARKER, 0),
            (LOAD_WORD, ARGUMENT_MARKER, 0),
            (LOAD_WORD, 8, 0),
            (LOAD_WORD, FIELD_MARKER, 0),
            (LOAD_HALF, FIELD_MARKER + 2, 0),
            (STORE_WORD, FIELD_MARKER, 0),
            (LOAD_IMMEDIATE, 0, 7),
            (0, 0, 0),
        ];
        let expected = [
            (LOAD_IMMEDIATE, 0, 2),
            (0, 0, 1),
            (LOAD_WORD, 24, 0),
            (LOAD_WORD, 16, 0),
            (LOAD_WORD, 8, 0),
            (LOAD_WORD, 300, 0),
            (LOAD_HALF, 112, 0),
            (STORE_WORD, FIELD_MARKER, 0),
            (LOAD_IMMEDIATE, 0, 7),
            (0, 0, 0),
        ];
        let offsets = Offsets { skb_dev: 300, skb_len: 112, ..Offsets::default() };
        let probe = Probe { spec: ProbeSpec(0x1_0000_0002), argument: 16, arguments: 3, offsets: &offsets };
        let patched = patch(&generic.map(at_offset), &probe);
        assert_eq!(patched.iter().map(|this| (this.code, this.off, this.imm)).collect::<Vec<_>>(), expected);
    }
}
