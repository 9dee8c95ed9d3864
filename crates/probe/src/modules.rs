//! Kernel modules: which one has a function of the stage map, and which are loaded.

use std::{collections::BTreeSet, fs, io::Read};

use crate::{sys::kernel::Kernel, unprobed::Unprobed};

/// Prefix of functions, and their module; the first match counts. All other functions are in the kernel itself.
const MODULES: [(&str, &str); 31] = [
    ("nf_conntrack_", "nf_conntrack"),
    ("__nf_conntrack_confirm", "nf_conntrack"),
    ("nf_nat_", "nf_nat"),
    ("ipt_", "ip_tables"),
    ("ip6t_", "ip6_tables"),
    ("nft_", "nf_tables"),
    ("br_nf_", "br_netfilter"),
    ("br_", "bridge"),
    ("vxlan_", "vxlan"),
    ("ipip_", "ipip"),
    ("tunnel4_", "tunnel4"),
    ("ipip6_", "sit"),
    ("ip6ip6_", "ip6_tunnel"),
    ("ip4ip6_", "ip6_tunnel"),
    ("ip6_tnl_", "ip6_tunnel"),
    ("gre_", "ip_gre"),
    ("geneve_", "geneve"),
    ("ip_vs_", "ip_vs"),
    ("ovs_", "openvswitch"),
    ("wg_", "wireguard"),
    ("encrypt_packet", "wireguard"),
    ("decrypt_packet", "wireguard"),
    ("tun_", "tun"),
    ("tap_", "tap"),
    ("ipvlan_", "ipvlan"),
    ("macvlan_", "macvlan"),
    ("fq_codel_", "sch_fq_codel"),
    ("fq_", "sch_fq"),
    ("tbf_", "sch_tbf"),
    ("htb_", "sch_htb"),
    ("netem_", "sch_netem"),
];

/// The module that usually has a function; `None` for the kernel itself.
pub fn module_of(function: &str) -> Option<&'static str> {
    MODULES.iter().find(|(prefix, _)| function.starts_with(prefix)).map(|(_, module)| *module)
}

/// Why a function that the kernel does not list is missing.
pub fn missing(function: &'static str) -> Unprobed {
    match module_of(function) {
        Some(module) => Unprobed::ModuleNotLoaded(module),
        None => Unprobed::NoFunction(function),
    }
}

const LIST: &str = "/proc/modules";

/// The modules that are loaded, to notice when others are.
pub struct Modules {
    live: BTreeSet<String>,
    /// The beginning of the list: the module that was loaded last stands first.
    beginning: Vec<u8>,
    /// No module was being loaded or unloaded at that moment.
    settled: bool,
}

impl Modules {
    /// Those that are loaded now.
    pub fn now() -> Modules {
        let beginning = beginning();
        let list = fs::read_to_string(LIST).unwrap_or_default();
        let live: BTreeSet<String> = live(&list).map(str::to_owned).collect();
        Modules { settled: live.len() == list.lines().count(), live, beginning }
    }

    /// Whether modules have been loaded since the last call. The kernel takes long to write the list, so the whole of it
    /// is read only when its beginning has changed.
    pub fn have_been_added(&mut self) -> bool {
        if self.settled && beginning() == self.beginning {
            return false;
        }
        let before = std::mem::replace(self, Modules::now());
        !self.live.is_subset(&before.live)
    }
}

/// The first line of the list, or the beginning of it.
fn beginning() -> Vec<u8> {
    let mut line = vec![0; 64];
    let length = fs::File::open(LIST).and_then(|mut list| list.read(&mut line)).unwrap_or_default();
    line.truncate(length);
    line
}

/// The modules of the list that are ready for use.
fn live(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .filter(|line| line.split(' ').nth(4) == Some("Live"))
        .filter_map(|line| line.split(' ').next())
}

/// How to get a module on this kernel, as the end of a sentence: `module vxlan is …`.
pub fn advice(kernel: &Kernel, module: &str) -> String {
    match kernel.loadable_modules() {
        Some(list) if list.contains(&format!("/{module}.ko")) => {
            format!("not loaded: `modprobe {module}`, or start what uses it, before you record")
        }
        Some(_) => "not among this kernel's modules: install the package that has it".to_owned(),
        None => {
            let folder = kernel.module_folder();
            format!("not loaded, and {folder} is not there: this kernel may have been built without it")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_counts_when_it_is_ready() {
        let list = "vxlan 86016 0 - Loading 0x0\nveth 32768 2 a,b, Live 0x0 (E)\n";
        assert_eq!(live(list).collect::<Vec<_>>(), ["veth"]);
    }

    #[test]
    fn a_missing_function_is_put_down_to_its_module() {
        assert_eq!(missing("br_nf_forward").to_string(), "needs module br_netfilter");
        assert_eq!(missing("br_handle_frame_finish").to_string(), "needs module bridge");
        assert_eq!(missing("udp_rcv").to_string(), "no function udp_rcv in this kernel");
    }
}
