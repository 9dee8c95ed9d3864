//! What this process is allowed to do: its capabilities, and the kernel's lockdown.

use std::fs;

use thiserror::Error;

use super::capabilities::{self, CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN};

/// A capability that recording needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    pub name: &'static str,
    /// What it is needed for, as the rest of a sentence: `to load the kernel programs`.
    pub purpose: &'static str,
    /// Its number (`capabilities(7)`).
    pub number: u8,
}

const NEEDED: [Capability; 3] = [
    Capability { name: "CAP_BPF", purpose: "to load the kernel programs", number: CAP_BPF },
    Capability {
        name: "CAP_PERFMON",
        purpose: "to attach them to kernel functions and tracepoints",
        number: CAP_PERFMON,
    },
    Capability {
        name: "CAP_SYS_ADMIN",
        purpose: "to read the types of kernel modules and enter network namespaces",
        number: CAP_SYS_ADMIN,
    },
];

/// Recording needs capabilities that this process does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "missing the capabilities {}: run as root, or grant them with `setcap cap_bpf,cap_perfmon,cap_sys_admin+ep overlay-trace`",
    self.0.iter().map(|capability| capability.name).collect::<Vec<_>>().join(", ")
)]
pub struct MissingPrivileges(pub Vec<Capability>);

/// Whether this thread has a capability, by its number.
pub fn has(capability: u8) -> bool {
    capabilities::effective() >> capability & 1 == 1
}

/// The capabilities that recording needs and this process lacks.
pub fn missing() -> Vec<Capability> {
    NEEDED.into_iter().filter(|capability| !has(capability.number)).collect()
}

/// The mode in which the kernel is locked down, `integrity` or `confidentiality` (`kernel_lockdown(7)`); `None` if it is
/// not.
pub fn lockdown() -> Option<String> {
    active_lockdown(&fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default())
}

/// The mode that is marked in a list such as `none [integrity] confidentiality`.
fn active_lockdown(modes: &str) -> Option<String> {
    let active = modes.split_whitespace().find_map(|mode| mode.strip_prefix('[')?.strip_suffix(']'))?;
    (active != "none").then(|| active.to_owned())
}

/// Checks that recording is allowed.
///
/// # Errors
///
/// Names the missing capabilities.
pub fn check() -> Result<(), MissingPrivileges> {
    let missing = missing();
    if missing.is_empty() { Ok(()) } else { Err(MissingPrivileges(missing)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_capabilities_are_named() {
        let error = MissingPrivileges(NEEDED[..2].to_vec()).to_string();
        assert!(error.starts_with("missing the capabilities CAP_BPF, CAP_PERFMON: run as root"), "{error}");
    }

    #[test]
    fn the_active_lockdown_mode_is_in_brackets() {
        assert_eq!(active_lockdown("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(active_lockdown("[none] integrity confidentiality\n"), None);
        assert_eq!(active_lockdown(""), None);
    }
}
