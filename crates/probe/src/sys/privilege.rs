//! What the user must be allowed to do.

use std::fs;

use anyhow::{Result, bail};

/// The capabilities that recording needs, by their bit in `/proc/self/status`, and what for.
const NEEDED: [(u8, &str, &str); 3] = [
    (39, "CAP_BPF", "to load the kernel programs"),
    (38, "CAP_PERFMON", "to attach them to kernel functions and tracepoints"),
    (21, "CAP_SYS_ADMIN", "to read the types of kernel modules and enter network namespaces"),
];

/// The effective capabilities of this process, as bits.
pub fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

/// The names of the needed capabilities that this process lacks, each with its purpose.
pub fn missing() -> Vec<(&'static str, &'static str)> {
    let have = effective_capabilities();
    NEEDED.iter().filter(|(bit, ..)| have >> bit & 1 == 0).map(|(_, name, why)| (*name, *why)).collect()
}

/// Checks that recording is allowed.
///
/// # Errors
///
/// Names the missing capabilities.
pub fn check() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    bail!(
        "missing the capabilities {}: run as root, or grant them with `setcap cap_bpf,cap_perfmon,cap_sys_admin+ep overlay-trace`",
        names.join(", ")
    )
}
