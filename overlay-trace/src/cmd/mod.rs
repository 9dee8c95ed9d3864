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
pub(crate) mod output;
mod probes;
pub mod record;
mod remote;
pub mod report;
pub mod schema;
pub mod stages;
pub mod tail;
pub mod traffic;
pub(crate) mod unprivileged;
pub mod what_if;
