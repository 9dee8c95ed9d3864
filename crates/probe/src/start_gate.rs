//! Up to when the start of a recording can be called off without a trace.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

const OPEN: u8 = 0;
/// The file is being created.
const PASSED: u8 = 1;
/// The start was called off before.
const CLOSED: u8 = 2;

/// Shared by the thread that starts a recording and one that may call that off: either the file is created, or it was called
/// off before and no file is touched.
#[derive(Clone, Debug, Default)]
pub struct StartGate(Arc<AtomicU8>);

impl StartGate {
    /// Calls the start off. `false` where that is too late: the session is started, and is to be
    /// [discarded](crate::Session::discard).
    pub fn close(&self) -> bool {
        self.0.compare_exchange(OPEN, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether the start has not been called off; it cannot be from here on.
    pub(crate) fn pass(&self) -> bool {
        self.0.compare_exchange(OPEN, PASSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_the_file_is_created_or_the_start_is_called_off() {
        let gate = StartGate::default();
        assert!(gate.clone().close() && !gate.pass());
        let gate = StartGate::default();
        assert!(gate.clone().pass() && !gate.close());
    }
}
