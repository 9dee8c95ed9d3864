//! The commands, one file each.

pub mod book;
mod child;
mod compare;
pub mod diff;
pub mod doctor;
pub mod generate;
pub mod lab;
mod lab_name;
mod live;
pub mod merge;
pub mod monitor;
pub(crate) mod output;
mod pods;
mod probes;
pub mod record;
mod remote;
pub mod report;
pub mod stages;
pub mod tail;
pub mod top;
pub mod traffic;
pub(crate) mod unprivileged;
pub mod what_if;
