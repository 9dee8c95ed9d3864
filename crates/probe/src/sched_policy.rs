//! The scheduling policy of the recorder's threads: they run under `SCHED_IDLE` while they keep up.

use crate::sys::{
    capabilities::{CAP_SYS_NICE, Number},
    limits, privilege,
};

/// The scheduling policy of the thread that reads the ring buffer.
///
/// Under `SCHED_IDLE` any other task preempts it as soon as it wakes up, so that on a busy CPU no request waits behind
/// a batch of records. It may then get too little of the CPU: while it lags behind it runs under `SCHED_OTHER`.
pub struct SchedPolicy {
    /// A backlog of this many bytes counts as lagging behind.
    lag_bytes: usize,
    /// `None` where the kernel does not let the thread return to `SCHED_OTHER`.
    is_idle: Option<bool>,
}

impl SchedPolicy {
    /// For a ring buffer of this size.
    pub fn new(ring_bytes: u32) -> SchedPolicy {
        SchedPolicy { lag_bytes: ring_bytes as usize / 8, is_idle: can_leave_idle().then_some(false) }
    }

    /// Tells how many bytes have been read since the ring buffer was empty last.
    pub fn has_read(&mut self, bytes: usize) {
        if bytes >= self.lag_bytes && self.is_idle == Some(true) {
            self.set_idle(false);
        }
    }

    /// Tells that the ring buffer is empty, and how many bytes have been read to empty it.
    pub fn caught_up(&mut self, bytes: usize) {
        if bytes < self.lag_bytes && self.is_idle == Some(false) {
            self.set_idle(true);
        }
    }

    fn set_idle(&mut self, idle: bool) {
        self.is_idle = schedule(idle).then_some(idle);
    }
}

/// Puts the calling thread under `SCHED_IDLE` until it ends. Not for work that holds locks of the kernel for long: on a busy
/// CPU other tasks would wait for them (priority inversion).
pub fn become_idle() {
    schedule(true);
}

/// Sets the calling thread's policy to `SCHED_IDLE` or `SCHED_OTHER`; gives whether that succeeded.
fn schedule(idle: bool) -> bool {
    let policy = if idle { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter outlives the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) == 0 }
}

/// Whether the kernel lets a thread leave `SCHED_IDLE` again.
fn can_leave_idle() -> bool {
    privilege::has(CAP_SYS_NICE) || limits::is_priority_allowed()
}

/// What a thread has to keep to leave `SCHED_IDLE`: nothing where [`limits::allow_priority`] could allow it.
pub fn to_leave_idle() -> &'static [Number] {
    if limits::is_priority_allowed() { &[] } else { &[CAP_SYS_NICE] }
}
