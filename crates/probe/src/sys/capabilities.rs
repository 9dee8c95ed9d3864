//! The capabilities of a thread (`capabilities(7)`): each thread of the recorder keeps only what its work needs.

use std::io;

use super::kernel;

/// A capability's number.
pub type Number = u8;

pub const CAP_CHOWN: Number = 0;
pub const CAP_DAC_OVERRIDE: Number = 1;
pub const CAP_KILL: Number = 5;
pub const CAP_NET_ADMIN: Number = 12;
pub const CAP_SYS_PTRACE: Number = 19;
pub const CAP_SYS_ADMIN: Number = 21;
pub const CAP_SYS_NICE: Number = 23;
pub const CAP_SYS_RESOURCE: Number = 24;
pub const CAP_SYSLOG: Number = 34;
pub const CAP_PERFMON: Number = 38;
pub const CAP_BPF: Number = 39;

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities each.
const VERSION: u32 = 0x2008_0522;

/// From this version on a program's maps can be used without CAP_BPF by whoever has them open
/// (`kernel.unprivileged_bpf_disabled` is about new ones).
const MAPS_NEED_NO_CAPABILITY: (u32, u32) = (5, 19);

#[repr(C)]
struct Header {
    version: u32,
    /// 0 for the calling thread.
    thread: i32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The calling thread's effective capabilities, as bits.
pub fn effective() -> u64 {
    get().map_or(0, |[low, high]| u64::from(high.effective) << 32 | u64::from(low.effective))
}

/// Takes all capabilities but these from the calling thread for good, also those that a set-uid program would give it.
/// What the thread does not have is not given.
///
/// # Errors
///
/// The kernel's error; nothing was taken then.
pub fn keep_only(kept: &[Number]) -> io::Result<()> {
    keep(kept, kept)
}

/// Takes all capabilities but these from the calling thread for good, and lets none of them have an effect but in
/// [`with_effect`].
///
/// # Errors
///
/// As for [`keep_only`].
pub fn keep_without_effect(kept: &[Number]) -> io::Result<()> {
    keep(kept, &[])
}

/// Does some work with these capabilities, as far as the thread has kept them. Afterwards none has an effect.
pub fn with_effect<T>(wanted: &[Number], work: impl FnOnce() -> T) -> T {
    let all: Vec<Number> = (0..64).collect();
    // Without them the kernel refuses the work, and says why.
    let _ = keep(&all, wanted);
    let result = work();
    let _ = keep(&all, &[]);
    result
}

fn keep(permitted: &[Number], effective: &[Number]) -> io::Result<()> {
    let mut data = get()?;
    for (word, data) in data.iter_mut().enumerate() {
        let permitted = word_of(permitted, word) & data.permitted;
        *data = Data { effective: permitted & word_of(effective, word), permitted, inheritable: 0 };
    }
    let header = Header { version: VERSION, thread: 0 };
    // SAFETY: both point to what the kernel expects of this version, and outlive the call.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}

/// The 32 bits of capabilities that are in this word.
fn word_of(numbers: &[Number], word: usize) -> u32 {
    (numbers.iter().fold(0u64, |bits, number| bits | 1 << number) >> (32 * word)) as u32
}

/// What a thread needs to use maps and to ask how often programs were skipped.
pub fn for_maps() -> &'static [Number] {
    if kernel::at_least(MAPS_NEED_NO_CAPABILITY) { &[] } else { &[CAP_BPF] }
}

/// Lets the calling thread keep these capabilities and what [`for_maps`] says. A thread that cannot drop the others works
/// on with them: that is said, and no reason to record nothing.
pub fn drop_in_thread(name: &str, kept: &[Number]) {
    if let Err(error) = keep_only(&[kept, for_maps()].concat()) {
        tracing::warn!("the thread {name} could not drop its capabilities: {error}");
    }
}

/// Lets the calling thread keep all that it has but what is only for programs in the kernel and its addresses.
pub fn drop_for_programs(name: &str) {
    const FOR_PROGRAMS: [Number; 3] = [CAP_BPF, CAP_PERFMON, CAP_SYSLOG];
    let kept: Vec<Number> = (0..64).filter(|one| !FOR_PROGRAMS.contains(one)).collect();
    drop_in_thread(name, &kept);
}

fn get() -> io::Result<[Data; 2]> {
    let mut header = Header { version: VERSION, thread: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: the kernel writes two words of this version to `data`, and the version it knows to `header`.
    match unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } {
        0 => Ok(data),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    #[test]
    fn a_thread_keeps_what_it_is_let_and_the_others_keep_theirs() {
        let before = effective();
        let of_thread = || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            let bits = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                u64::from_str_radix(line.trim(), 16).unwrap()
            };
            ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"].map(bits)
        };
        assert_eq!(of_thread()[0], before);
        let kept = thread::spawn(move || {
            keep_only(&[CAP_KILL, CAP_BPF]).unwrap();
            of_thread()
        });
        let bits = (1 << CAP_KILL | 1 << CAP_BPF) & before;
        assert_eq!(kept.join().unwrap(), [bits, bits, 0, 0]);
        let without_effect = thread::spawn(move || {
            keep_without_effect(&[CAP_KILL, CAP_BPF]).unwrap();
            let raised = with_effect(&[CAP_KILL, CAP_CHOWN], of_thread);
            (raised, of_thread())
        });
        let (raised, after) = without_effect.join().unwrap();
        assert_eq!(raised, [1 << CAP_KILL & before, bits, 0, 0]);
        assert_eq!(after, [0, bits, 0, 0]);
        let none = thread::spawn(move || {
            keep_only(&[]).unwrap();
            keep_only(&[CAP_KILL]).unwrap();
            of_thread()
        });
        assert_eq!(none.join().unwrap(), [0; 4]);
        assert_eq!(effective(), before);
    }
}
