//! Causes that are certain while a recording still runs: drops, whose reason and place the kernel gives.

use super::{
    findings::is_drop,
    rule::{Evidence, Rule},
    rules::RULES,
    tcp::LostAt,
};
use crate::breakdown::Drop;

/// The cause of such drops, if it is known and nobody may have wanted it so.
pub fn cause_of(drop: &Drop) -> Option<&'static Rule> {
    RULES.iter().find(|rule| match &rule.evidence {
        Evidence::Drops { reasons, stages, functions, intended: false } => {
            is_drop(&LostAt::of(drop), reasons, stages, functions)
        }
        _ => false,
    })
}
