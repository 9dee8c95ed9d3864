//! A path without its interruptions.
//!
//! An interruption can happen anywhere, so the paths of a busy machine would have endless shapes if they were told apart
//! by where they were interrupted. In a folded path the span after an interruption is part of the same step again, and
//! the waiting time is kept separately.

use overlay_trace_common::path::{
    CODE_COMPLETION, CODE_MORE, CODE_POSITION, HOP_BITS, HOP_MASK, Span, VALUE_BITS, VALUE_MASK, position,
    word,
};

/// Bits of a position: the level and the hop.
const PLACE_MASK: u32 = 0xf << HOP_BITS | HOP_MASK;

/// A step of a folded path: a span without its time, as the code of its stage and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Step(pub u32);

impl Step {
    /// The step of a span.
    pub fn of(span: &Span) -> Step {
        Step(word(span.stage, position(span.level.into(), span.hop.into())))
    }

    /// The step as a span without time.
    pub fn span(self) -> Span {
        Span {
            ns: 0,
            hop: (self.0 & HOP_MASK) as u16,
            level: (self.0 >> HOP_BITS) as u8 & 15,
            stage: (self.0 >> VALUE_BITS) as u8,
            cpu: None,
        }
    }
}

/// A folded path.
#[derive(Default)]
pub(super) struct Folded {
    pub steps: Vec<Step>,
    /// By step: its time in ns, without the time for which it was interrupted.
    pub times: Vec<u64>,
    pub waits: Vec<Wait>,
}

/// An interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// Which step was interrupted.
    pub step: u32,
    /// What the packet waited in.
    pub stage: u8,
    pub ns: u64,
}

/// Which stages are waits in the middle of another one.
pub(super) type Interrupts = [bool; 256];

impl Folded {
    /// Folds the words of a path.
    pub fn fold(&mut self, words: &[u32], interrupts: &Interrupts) {
        self.steps.clear();
        self.times.clear();
        self.waits.clear();
        let (mut position, mut more) = (0, 0);
        let mut interrupted = false;
        for &next in words {
            let (code, value) = ((next >> VALUE_BITS) as u8, next & VALUE_MASK);
            if code >= CODE_POSITION {
                match code {
                    CODE_POSITION => position = value & PLACE_MASK,
                    CODE_MORE => more = u64::from(value) << VALUE_BITS,
                    CODE_COMPLETION => more = 0,
                    // On which CPU a packet is makes no difference to where its time goes.
                    _ => {}
                }
                continue;
            }
            let (step, ns) = (Step(word(code, position)), more + u64::from(value));
            more = 0;
            if interrupted || interrupts[usize::from(code)] {
                interrupted = self.put(step, ns, interrupts);
            } else {
                self.steps.push(step);
                self.times.push(ns);
            }
        }
    }

    /// Adds an interruption, or the first span after one; returns whether the step is still open.
    fn put(&mut self, step: Step, ns: u64, interrupts: &Interrupts) -> bool {
        let stage = step.span().stage;
        let last = self.steps.len().wrapping_sub(1);
        if interrupts[usize::from(stage)] && !self.steps.is_empty() {
            self.waits.push(Wait { step: last as u32, stage, ns });
            return true;
        }
        if self.steps.last() == Some(&step) {
            self.times[last] += ns;
        } else {
            self.steps.push(step);
            self.times.push(ns);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stages from 100 on interrupt.
    fn folded(path: &[(u8, u64)]) -> Folded {
        let span = |&(stage, ns): &(u8, u64)| Span { ns, hop: 3, level: 1, stage, cpu: Some(stage.into()) };
        let words = overlay_trace_format::encode_path(&path.iter().map(span).collect::<Vec<_>>());
        let mut folded = Folded::default();
        folded.fold(&words, &std::array::from_fn(|stage| stage >= 100));
        folded
    }

    #[test]
    fn what_was_interrupted_goes_on() {
        let plain = folded(&[(1, 10), (2, 20), (2, 5)]);
        let interrupted = folded(&[(1, 3), (100, 100), (1, 4), (101, 50), (1, 3), (2, 20), (2, 5)]);
        assert_eq!((plain.steps.len(), &plain.steps), (3, &interrupted.steps));
        assert_eq!((&plain.times, &interrupted.times), (&vec![10, 20, 5], &vec![10, 20, 5]));
        let wait = |stage, ns| Wait { step: 0, stage, ns };
        assert_eq!(interrupted.waits, [wait(100, 100), wait(101, 50)]);
        assert_eq!(plain.steps[0].span(), Span { ns: 0, hop: 3, level: 1, stage: 1, cpu: None });
    }

    #[test]
    fn a_step_that_does_not_go_on_is_over() {
        let folded = folded(&[(1, 3), (100, 100), (2, 4), (2, 5)]);
        assert_eq!((folded.steps.len(), folded.times), (3, vec![3, 4, 5]));
    }

    #[test]
    fn long_times_and_a_wait_at_the_beginning_are_steps() {
        let long = (1 << 40) + 5;
        let folded = folded(&[(100, long), (1, long), (101, long)]);
        assert_eq!(folded.times, [long, long]);
        assert_eq!(folded.waits, [Wait { step: 1, stage: 101, ns: long }]);
    }
}
