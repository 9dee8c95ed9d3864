//! The rules, as tables: evidence, wording, advice.

mod advice;
mod delays;
mod losses;

use super::rule::Rule;
use delays::DELAYS;
use losses::LOSSES;

/// The causes that a recording by itself can show: delays first, then losses, each with the more specific rules first.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    DELAYS.iter().chain(LOSSES)
}
