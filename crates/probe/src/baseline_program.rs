//! Programs that are attached instead of the recorder's, to measure what the kernel itself takes to call them.

use aya_obj::generated::{bpf_func_id::BPF_FUNC_ktime_get_ns, bpf_insn};

use crate::patch::{CALL, instruction, return_zero};

/// What each program does instead of accounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BaselineProgram {
    /// It returns at once: what remains is the kernel's call of it.
    Empty,
    /// It reads the clock, which every program that measures does.
    Clock,
}

impl BaselineProgram {
    /// The program.
    pub fn instructions(self) -> Vec<bpf_insn> {
        let read_clock = instruction(CALL, 0, BPF_FUNC_ktime_get_ns as i32);
        match self {
            BaselineProgram::Empty => return_zero().to_vec(),
            BaselineProgram::Clock => [&[read_clock][..], &return_zero()].concat(),
        }
    }
}
