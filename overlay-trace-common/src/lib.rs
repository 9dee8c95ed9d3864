//! What the kernel side and the user side of overlay-trace share: the words of the stage map ([`stage`]),
//! the map itself ([`stage_map`]) and the layout of everything that crosses from one side to the other
//! ([`record`]).
#![no_std]

pub mod kernel;
pub mod record;
pub mod row;
pub mod stage;
pub mod stage_map;
