//! The code that the kernel side and the user side of overlay-trace share:
//!
//! - the stage map: its types ([`stage`]), its rows ([`stage_map`]) and how a row is packed into a kernel program
//!   ([`probe_spec`]);
//! - the layout of everything that crosses between kernel and user space ([`abi`], [`record`],
//!   [`edges`], [`latency_histogram`], [`flags`]);
//! - the accounting of packets and CPUs, which is pure ([`path`], [`cpu`]), and the ownership of the slots of the
//!   packet table ([`slot`], [`shared`]);
//! - the parser of a packet's headers ([`headers`], [`addresses`]);
//! - the hooks of the probe set `tc` ([`tc`]).
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod addresses;
pub mod behaviour;
pub mod cpu;
pub mod edges;
pub mod flags;
pub mod headers;
pub mod lab;
pub mod latency_histogram;
pub mod layer;
pub mod packet_sampling;
pub mod path;
pub mod probe_spec;
pub mod record;
pub mod shared;
pub mod slot;
pub mod stage;
pub mod stage_map;
pub mod tc;
