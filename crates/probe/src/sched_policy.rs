//! The recorder's threads let the traffic go first, as long as they can.

use std::fs;

/// The bit of `CAP_SYS_NICE` in a set of capabilities.
const CAP_SYS_NICE: u32 = 23;

/// How the scheduler treats the calling thread.
///
/// As a task of `SCHED_IDLE` it gives way as soon as any other wakes up, so that on a busy CPU no request waits behind a
/// batch of records. There it may get too little of the CPU: then it is an ordinary task again until it has caught up.
pub struct Manners {
    /// From how many bytes at once on it is an ordinary task.
    most: usize,
    /// None where an ordinary task could not be made of an idle one again.
    is_idle: Option<bool>,
}

impl Manners {
    /// For a buffer of so many bytes.
    pub fn new(buffer_bytes: u32) -> Manners {
        Manners { most: buffer_bytes as usize / 8, is_idle: may_go_back().then_some(false) }
    }

    /// So many bytes have been found since it had caught up.
    pub fn found(&mut self, bytes: usize) {
        if bytes >= self.most && self.is_idle == Some(true) {
            self.be(false);
        }
    }

    /// So many bytes had come since the last time; there are no more.
    pub fn caught_up(&mut self, bytes: usize) {
        if bytes < self.most && self.is_idle == Some(false) {
            self.be(true);
        }
    }

    fn be(&mut self, idle: bool) {
        self.is_idle = schedule(idle).then_some(idle);
    }
}

/// Does some work for which nobody waits as a task of `SCHED_IDLE`, as well as the threads that it starts. Not for what
/// holds the kernel's locks for long: others would wait for them as long as the CPU is busy.
pub fn giving_way<T>(work: impl FnOnce() -> T) -> T {
    let gives_way = may_go_back() && schedule(true);
    let done = work();
    if gives_way {
        schedule(false);
    }
    done
}

/// Makes the calling thread a task of `SCHED_IDLE`, or an ordinary one.
fn schedule(idle: bool) -> bool {
    let policy = if idle { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter outlives the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) == 0 }
}

fn may_go_back() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits & 1 << CAP_SYS_NICE != 0)
}
