//! The commands, one file each.

pub mod diff;
pub mod doctor;
pub mod lab;
mod output;
pub mod record;
pub mod report;
pub mod stages;
pub mod traffic;
