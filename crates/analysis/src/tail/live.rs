//! Causes that are certain while the recording is still running: drops, whose reason and place the kernel gives.

use super::{
    drop_site::DropSite,
    loss::is_drop,
    rule::{Evidence, Rule, Sign},
    rules::rules,
};
use crate::breakdown::Drop;

/// The cause of such drops, if a rule knows it and nobody can have configured it on purpose.
pub fn cause_of(drop: &Drop) -> Option<&'static Rule> {
    rules().find(|rule| match &rule.evidence {
        Evidence::Drops { reasons, stages, functions, sign: Sign::Any, intended: false } => {
            is_drop(&DropSite::of(drop), reasons, stages, functions)
        }
        _ => false,
    })
}
