//! The running system: its kernel, its namespaces, the `bpf` system call.

pub mod bpf;
pub mod btf;
pub mod kernel;
pub mod netns;
pub mod privilege;
