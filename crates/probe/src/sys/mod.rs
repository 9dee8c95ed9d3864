//! The running system: its kernel, its namespaces, the `bpf` system call.

pub mod addresses;
pub mod bpf;
pub mod btf;
pub mod clock;
pub mod kernel;
pub mod netns;
pub mod netns_names;
pub mod privilege;
