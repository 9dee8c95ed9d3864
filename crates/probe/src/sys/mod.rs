//! The running system: its kernel, its namespaces, the `bpf` system call.

pub mod bpf;
pub mod btf;
pub mod clock;
pub mod kallsyms;
pub mod kernel;
pub mod netns;
pub mod netns_names;
pub mod privilege;
pub mod signature;
mod struct_offsets;
