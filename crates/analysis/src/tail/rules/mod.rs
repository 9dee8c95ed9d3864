//! The rules, as tables: evidence, wording, advice.

pub(super) mod advice;
mod counted;
mod delays;
mod losses;
mod waits;

use super::rule::Rule;
use counted::COUNTED;
use delays::DELAYS;
use losses::LOSSES;
use waits::WAITS;

/// The causes that a recording by itself can show: delays first, then losses, each with the more specific rules first, then
/// what the kernel's counters tell.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    DELAYS.iter().chain(WAITS).chain(LOSSES).chain(COUNTED)
}
