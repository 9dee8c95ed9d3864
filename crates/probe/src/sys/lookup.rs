//! Look-ups that ask what others control: a namespace with a million routes, a process that is being traced. None of
//! them may keep a recording from starting or from ending.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use super::capabilities;

/// How long a look-up may take where its result is waited for.
pub const LIMIT: Duration = Duration::from_secs(2);

/// A look-up on a thread of its own. One that takes too long is left behind: nobody waits for its thread.
pub struct Lookup<T>(Receiver<T>);

impl<T: Send + 'static> Lookup<T> {
    /// Starts it; `None` where no thread can be made.
    pub fn start(work: impl FnOnce() -> T + Send + 'static) -> Option<Lookup<T>> {
        let (send, result) = channel();
        let run = move || {
            capabilities::drop_for_programs("look-up");
            // The one who asked may have given up.
            let _ = send.send(work());
        };
        thread::Builder::new().name("look-up".into()).spawn(run).ok()?;
        Some(Lookup(result))
    }

    /// Waits for its result for at most this long, and gives the look-up back if it is not done then; `Err(None)` if it
    /// failed.
    pub fn wait(self, limit: Duration) -> Result<T, Option<Lookup<T>>> {
        match self.0.recv_timeout(limit) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Timeout) => Err(Some(self)),
            Err(RecvTimeoutError::Disconnected) => Err(None),
        }
    }
}

/// The result of the look-up, if it has one within this time. The look-up stays while it is not done.
pub fn poll<T: Send + 'static>(lookup: &mut Option<Lookup<T>>, limit: Duration) -> Option<T> {
    lookup.take()?.wait(limit).map_err(|unfinished| *lookup = unfinished).ok()
}

/// Looks something up for at most [`LIMIT`]; `None` where that takes longer, or fails.
pub fn within_limit<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    Lookup::start(work)?.wait(LIMIT).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn a_look_up_that_hangs_is_left_behind() {
        assert_eq!(within_limit(|| 7), Some(7));
        assert_eq!(within_limit(|| if true { panic!("a look-up that fails") } else { 7 }), None);
        let gate = Arc::new(Barrier::new(2));
        let held = Arc::clone(&gate);
        let lookup = Lookup::start(move || held.wait()).unwrap();
        let mut lookup = lookup.wait(Duration::from_millis(1)).err();
        let lookup = lookup.as_mut().expect("it is not done");
        assert!(poll(lookup, Duration::ZERO).is_none() && lookup.is_some());
        gate.wait();
        assert!(poll(lookup, LIMIT).is_some() && lookup.is_none());
        assert!(poll(lookup, Duration::ZERO).is_none());
    }
}
