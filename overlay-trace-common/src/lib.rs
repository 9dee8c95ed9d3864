//! What the kernel side and the user side of overlay-trace share: the words of the stage map ([`stage`]),
//! the map itself ([`stage_map`]) and the layout of everything that crosses from one side to the other
//! ([`record`]), and the pure accounting ([`way`], [`cpu`]).
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod cpu;
pub mod kernel;
pub mod record;
pub mod row;
pub mod stage;
pub mod stage_map;
pub mod way;
