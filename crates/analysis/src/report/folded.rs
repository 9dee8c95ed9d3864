//! Folded stacks: one line per row, `frame;frame;… ns`.

use super::frames::{Frames, stack};
use crate::breakdown::{Analysis, Diff, Key};
use crate::tail::Tail;

/// The time of every row, in ns.
pub(super) fn report(analysis: &Analysis) -> String {
    let mut frames = Frames::<u128>::default();
    let root = format!("node {}", analysis.header.node);
    for row in &analysis.rows {
        frames.add(&names(&root, &row.key), row.raw.sum());
    }
    frames.folded(&|ns| ns.to_string())
}

/// The time of every row in both recordings, in ns per packet or per 1,000 bytes.
pub(super) fn diff(diff: &Diff) -> String {
    let mut frames = Frames::<(f64, f64)>::default();
    for row in &diff.rows {
        frames.add(&names("packet", &row.key), (row.first.each(diff.per), row.second.each(diff.per)));
    }
    frames.folded(&|(first, second)| format!("{first:.0} {second:.0}"))
}

/// The time of every row, in ns per ordinary packet and per slow one.
pub(super) fn tail(tail: &Tail) -> String {
    let mut frames = Frames::<(i128, i128)>::default();
    let root = format!("node {}", tail.analysis.header.node);
    for row in tail.by_path() {
        frames.add(&names(&root, &row.key), (row.ordinary_ns, row.slow_ns));
    }
    frames.folded(&|(ordinary, slow)| format!("{ordinary} {slow}"))
}

fn names(root: &str, key: &Key) -> Vec<String> {
    stack(root, key).into_iter().map(|(_, name)| name).collect()
}
