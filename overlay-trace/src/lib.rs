//! overlay-trace: measures, packet by packet, where the time goes in a container network.
//!
//! `record` ([`probe`], [`sys`]) writes a recording ([`trace`]); everything after that is pure:
//! [`analysis`] turns records into numbers, [`report`] shows them. [`lab`] builds the dataplanes of
//! well-known container networks, [`traffic`] drives them, and [`compare`] puts them beside each other.

pub mod analysis;
pub mod cli;
pub mod cmd;
pub mod compare;
pub mod lab;
pub mod probe;
pub mod recognise;
pub mod report;
pub mod sys;
pub mod tail;
pub mod trace;
pub mod traffic;
pub mod what_if;
