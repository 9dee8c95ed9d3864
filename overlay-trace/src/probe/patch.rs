//! Putting what one probe needs into its copy of a generic program.

use aya_obj::generated::bpf_insn;
use overlay_trace_common::row::{ARGUMENT_MARKER, RESULT_MARKER, ROW_MARKER, Row};

/// Opcodes: the first half of a 64-bit immediate load, and the load of a 64-bit word.
const LOAD_IMMEDIATE: u8 = 0x18;
const LOAD_WORD: u8 = 0x79;

/// A copy of a program for a probe with this row, whose packet is at this offset of the program's context, at
/// a function with so many arguments: the function's result lies behind them.
pub fn patch(generic: &[bpf_insn], row: Row, argument: i16, arguments: u8) -> Vec<bpf_insn> {
    let mut instructions = generic.to_vec();
    for index in 0..instructions.len() {
        let next = instructions.get(index + 1).map_or(0, |next| next.imm);
        let this = &mut instructions[index];
        if this.code == LOAD_IMMEDIATE && this.imm as u32 as u64 | (next as u32 as u64) << 32 == ROW_MARKER {
            this.imm = row.0 as u32 as i32;
            instructions[index + 1].imm = (row.0 >> 32) as i32;
        } else if this.code == LOAD_WORD && this.off == ARGUMENT_MARKER {
            this.off = argument;
        } else if this.code == LOAD_WORD && this.off == RESULT_MARKER {
            this.off = i16::from(arguments) * 8;
        }
    }
    instructions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction((code, off, imm): (u8, i16, i32)) -> bpf_insn {
        bpf_insn { code, _bitfield_align_1: [], _bitfield_1: bpf_insn::new_bitfield_1(0, 0), off, imm }
    }

    #[test]
    fn markers_are_replaced_and_nothing_else() {
        let generic = [
            (LOAD_IMMEDIATE, 0, ROW_MARKER as u32 as i32),
            (0, 0, (ROW_MARKER >> 32) as i32),
            (LOAD_WORD, RESULT_MARKER, 0),
            (LOAD_WORD, ARGUMENT_MARKER, 0),
            (LOAD_WORD, 8, 0),
            (LOAD_IMMEDIATE, 0, 7),
            (0, 0, 0),
        ];
        let expected = [
            (LOAD_IMMEDIATE, 0, 2),
            (0, 0, 1),
            (LOAD_WORD, 24, 0),
            (LOAD_WORD, 16, 0),
            (LOAD_WORD, 8, 0),
            (LOAD_IMMEDIATE, 0, 7),
            (0, 0, 0),
        ];
        let patched = patch(&generic.map(instruction), Row(0x1_0000_0002), 16, 3);
        assert_eq!(patched.iter().map(|this| (this.code, this.off, this.imm)).collect::<Vec<_>>(), expected);
    }
}
