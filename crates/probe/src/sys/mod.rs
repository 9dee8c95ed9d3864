//! The running system: its kernel, its namespaces, the `bpf` system call.

pub mod bpf;
pub mod btf;
pub mod capabilities;
pub mod clock;
pub mod conntrack;
pub mod cpu_quota;
pub mod driver_counts;
pub mod kallsyms;
pub mod kernel;
pub mod limits;
pub mod lookup;
pub mod machine;
pub mod netns;
pub mod netns_counters;
pub mod netns_names;
pub mod privilege;
pub mod signature;
mod struct_offsets;
pub mod traffic_control;
