//! What a recording says. Everything here is a pure function of the file: no kernel and no privilege is needed, on any
//! Unix.
//!
//! [`breakdown`] turns records into times per stage, level and device; [`tail`] says why the slow packets are slow;
//! [`what_if`] predicts what packets would take without a part of their network; [`report`] renders all of these as text,
//! JSON, CSV, flame graphs and pages.

pub mod breakdown;
pub mod report;
pub mod tail;
pub mod what_if;
