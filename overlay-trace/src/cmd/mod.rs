//! The commands, one file each.

pub mod diff;
pub mod doctor;
pub mod lab;
pub mod record;
pub mod report;
pub mod stages;
pub mod traffic;
