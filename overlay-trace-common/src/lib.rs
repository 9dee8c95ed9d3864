//! What the kernel side and the user side of overlay-trace share: the words of the stage map ([`stage`]),
//! the map itself ([`stage_map`]) and the layout of everything that crosses from one side to the other
//! ([`record`]); the pure accounting ([`way`], [`cpu`]); and the walk through a packet's headers ([`headers`],
//! [`addresses`]).
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod addresses;
pub mod behaviour;
pub mod cpu;
pub mod headers;
pub mod kernel;
pub mod lab;
pub mod record;
pub mod row;
pub mod stage;
pub mod stage_map;
pub mod tail;
pub mod way;
