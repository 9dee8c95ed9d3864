//! Programs that are attached instead of the recorder's, so that it can be measured what the kernel itself takes for
//! them.

use aya_obj::generated::{bpf_func_id::BPF_FUNC_ktime_get_ns, bpf_insn};

use super::patch::{CALL, instruction, return_zero};

/// What each program does instead of accounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stub {
    /// It returns at once: what remains is the kernel's call of it.
    Empty,
    /// It reads the clock: what no program that measures can do without.
    Clock,
}

impl Stub {
    /// The program.
    pub fn instructions(self) -> Vec<bpf_insn> {
        let read_clock = instruction(CALL, 0, BPF_FUNC_ktime_get_ns as i32);
        match self {
            Stub::Empty => return_zero().to_vec(),
            Stub::Clock => [&[read_clock][..], &return_zero()].concat(),
        }
    }
}
