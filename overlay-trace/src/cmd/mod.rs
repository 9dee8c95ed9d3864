//! The commands, one file each.

pub mod anonymise;
pub mod book;
pub mod cat;
mod child;
mod compare;
pub mod cut;
pub mod diff;
pub mod doctor;
pub mod export;
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
