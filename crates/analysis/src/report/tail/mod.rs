//! The slow packets compared with the ordinary ones. One view model holds every sentence and every cell; text, page and
//! JSON only lay it out.

mod json;
mod page;
mod sentences;
mod summary;
mod tcp;
mod text;
mod view;

use anyhow::Result;

use super::Detail;
use crate::tail::Tail;
use view::TailView;

/// The tail as text.
pub(super) fn text(tail: &Tail, detail: Detail) -> String {
    text::report(tail, &TailView::of(tail, detail), detail)
}

/// The tail as one JSON object.
pub(super) fn json(tail: &Tail) -> Result<Vec<u8>> {
    json::report(tail, &TailView::of(tail, Detail::Full))
}

/// The tail as a page.
pub(super) fn page(tail: &Tail) -> String {
    page::report(tail, &TailView::of(tail, Detail::Full))
}
