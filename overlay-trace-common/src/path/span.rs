//! Decoding a path into spans.

use super::{
    CODE_COMPLETION, CODE_CPU, CODE_MORE, CODE_POSITION, HOP_BITS, LEVEL_MAX, VALUE_BITS, VALUE_MASK,
};

/// A decoded piece of a path: the time in one stage at one position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Its length in ns.
    pub ns: u64,
    /// Number of the packet's [`Hop`](crate::record::Hop); 0 if unknown.
    pub hop: u16,
    /// Number of encapsulation headers around the packet.
    pub level: u8,
    /// Index into [`STAGES`](crate::stage_map::STAGES).
    pub stage: u8,
    /// The CPU that the packet was on, or waited for; `None` in recordings of early versions.
    pub cpu: Option<u16>,
}

/// Decodes the words of a path.
pub fn spans(words: &[u32]) -> Spans<'_> {
    Spans { words: words.iter(), position: 0, cpu: None }
}

/// How long after the end of its path, in ns, the driver freed the packet; `None` if that was not seen.
pub fn completion(words: &[u32]) -> Option<u64> {
    let &[.., more, last] = words else { return None };
    let is_one = (last >> VALUE_BITS) as u8 == CODE_COMPLETION && (more >> VALUE_BITS) as u8 == CODE_MORE;
    is_one.then_some(((more & VALUE_MASK) as u64) << VALUE_BITS | (last & VALUE_MASK) as u64)
}

/// The spans of a path; see [`spans`].
#[derive(Clone, Debug)]
pub struct Spans<'a> {
    words: core::slice::Iter<'a, u32>,
    position: u32,
    cpu: Option<u16>,
}

impl Iterator for Spans<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let mut more = 0;
        loop {
            let word = *self.words.next()?;
            let value = word & VALUE_MASK;
            match (word >> VALUE_BITS) as u8 {
                CODE_POSITION => self.position = value,
                CODE_MORE => more = (value as u64) << VALUE_BITS,
                CODE_CPU => self.cpu = Some(value as u16),
                CODE_COMPLETION => more = 0,
                stage => {
                    let (hop, level) =
                        (self.position as u16, (self.position >> HOP_BITS) as u8 & LEVEL_MAX as u8);
                    return Some(Span { ns: more + value as u64, hop, level, stage, cpu: self.cpu });
                }
            }
        }
    }
}
