//! The names of drop reasons in the running kernel.

use std::collections::BTreeMap;

use crate::sys::kernel::Kernel;

/// The kernel's own enumeration, and the prefix of its names.
const OWN: (&str, &str) = ("skb_drop_reason", "SKB_DROP_REASON_");
/// Subsystems with reasons of their own: the enumeration, and the module that has it; `None` where the kernel itself has
/// (qdiscs, since Linux 7.1).
const SUBSYSTEMS: [(Option<&str>, &str); 3] = [
    (Some("openvswitch"), "ovs_drop_reason"),
    (Some("mac80211"), "mac80211_drop_reason"),
    (None, "qdisc_drop_reason"),
];

/// The names of all reasons that the loaded modules have, as the kernel's own tracing prints them. There are none
/// before 5.17: there only the location of a drop is known.
pub fn drop_reasons(kernel: &Kernel) -> BTreeMap<u32, String> {
    let (own, prefix) = OWN;
    let mut reasons: BTreeMap<u32, String> = short(kernel.enumeration(own), prefix).collect();
    for (module, enumeration) in SUBSYSTEMS {
        let mut values = module.map_or(Vec::new(), |module| kernel.module_enumeration(module, enumeration));
        values.extend(kernel.enumeration(enumeration));
        for (value, name) in values {
            reasons.entry(value).or_insert(name);
        }
    }
    reasons
}

fn short<'a>(values: Vec<(u32, String)>, prefix: &'a str) -> impl Iterator<Item = (u32, String)> + 'a {
    values
        .into_iter()
        .map(move |(value, name)| (value, name.strip_prefix(prefix).unwrap_or(&name).to_owned()))
}

/// Whether a packet can be dropped for a reason of this name: not the first and the last entries of an enumeration, which
/// only mark its ends. mac80211's are left out (`RX_DROP_…`, `RX_…`): no packet of a container network passes its code.
pub fn is_given(name: &str) -> bool {
    let is_end = matches!(name, "MAX" | "SUBSYS_MASK" | "QDISC_DROP_UNSPEC") || name.ends_with("_MAX");
    !is_end && !name.starts_with("__") && !name.starts_with("RX_")
}
