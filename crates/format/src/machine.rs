//! Which machine a recording was made on, and its clocks: what it takes to merge it with those of other machines.

use serde::{Deserialize, Serialize};

/// The machine that recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// `/proc/sys/kernel/random/boot_id`: another one with each start of the kernel.
    pub boot_id: String,
    /// `/etc/machine-id`; empty where there is none.
    pub machine_id: String,
    /// Of a guest, who runs it: the signature that the processor gives (`KVMKVMKVM`, `TCGTCGTCGTCG`), or what stands in
    /// `/sys/hypervisor` or in the DMI table. `None` for a machine that shows no hypervisor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
    /// The devices of the recorder's network namespace that have addresses.
    pub interfaces: Vec<Interface>,
}

/// A device and its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    pub device: String,
    /// As `52:54:00:12:34:56`; empty where the device has none.
    pub mac: String,
    /// IP addresses, without prefix lengths.
    pub addresses: Vec<String>,
}

/// The machine's clocks at one moment: the tightest of several attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClockReading {
    /// CLOCK_MONOTONIC, the records' clock, in ns: in the middle between a reading before the others and one after.
    pub monotonic_ns: u64,
    /// The others were read within so many ns before and after `monotonic_ns`.
    pub within_ns: u64,
    /// CLOCK_REALTIME, in ns since 1970.
    pub realtime_ns: u64,
    /// CLOCK_BOOTTIME, in ns: differs from CLOCK_MONOTONIC by the time that the machine was suspended.
    pub boottime_ns: u64,
    /// The processor's time-stamp counter; 0 on architectures that have none.
    pub tsc: u64,
    /// What bounds the error of CLOCK_REALTIME, in ns (`maxerror` of `adjtimex`); `None` while the kernel says that the
    /// clock is not synchronised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_error_ns: Option<u64>,
}
