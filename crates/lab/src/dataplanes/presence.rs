//! What labs require of this machine, told without trying: nothing is loaded or created.

use super::lab::Need;
use super::module_index::ModuleIndex;
use super::requirements::missing_program;
use super::{cgroup_programs, cni};
use overlay_trace_probe::sys::kernel;

/// The modules of legacy iptables, by IP family.
const LEGACY: [&[&str]; 2] =
    [&["ip_tables", "iptable_filter", "iptable_nat"], &["ip6_tables", "ip6table_filter", "ip6table_nat"]];
/// The modules of iptables over nftables.
const NFTABLES: &[&str] = &["nf_tables", "nft_compat", "nft_chain_nat"];
/// The matches and targets that every lab with rules uses.
const XTABLES: &[&str] =
    &["xt_comment", "xt_mark", "xt_addrtype", "xt_conntrack", "xt_statistic", "xt_nat", "xt_MASQUERADE"];

/// The IP families of a system, and how it runs iptables.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub ipv6: bool,
    /// `legacy` or `nft`.
    pub iptables: &'static str,
}

impl Variant {
    fn families(self) -> usize {
        if self.ipv6 { 2 } else { 1 }
    }

    /// The variant that labs prefer of those that there are.
    pub fn of(ipv6: bool, index: &ModuleIndex) -> Variant {
        let legacy = Variant { ipv6, iptables: "legacy" };
        let is_there = legacy.required_modules(Need::Iptables).iter().all(|name| index.has(name))
            && legacy.restore_programs().iter().all(|name| missing_program(name).is_none());
        if is_there { legacy } else { Variant { iptables: "nft", ..legacy } }
    }

    fn restore_programs(self) -> Vec<String> {
        ["ip", "ip6"][..self.families()]
            .iter()
            .map(|family| format!("{family}tables-{}-restore", self.iptables))
            .collect()
    }

    /// Modules, or what the kernel asks for instead of their names, without which the need is not met.
    fn required_modules(self, need: Need) -> Vec<String> {
        let names: Vec<&str> = match need {
            Need::Link(kind) => return vec![format!("rtnl-link-{kind}")],
            Need::LinkV6(kind) if self.ipv6 => return vec![format!("rtnl-link-{kind}")],
            Need::Iptables if self.iptables == "legacy" => {
                LEGACY[..self.families()].concat().into_iter().chain(XTABLES.iter().copied()).collect()
            }
            Need::Iptables => [NFTABLES, XTABLES].concat(),
            Need::BridgeNetfilter => vec!["br_netfilter"],
            Need::Netem => vec!["sch_netem"],
            Need::Tap => vec!["tun"],
            Need::Ipset => vec!["ip_set_hash_ipport", "xt_set"],
            Need::Ipvs => vec!["ip_vs_rr"],
            Need::OpenVswitch => vec!["openvswitch"],
            Need::Esp => vec!["esp4"],
            Need::LinkV6(_) | Need::Ipv6 | Need::Wireguard | Need::Bird => vec![],
            Need::TcPrograms | Need::Cgroup | Need::Cni => vec![],
        };
        names.into_iter().map(str::to_owned).collect()
    }

    /// What is loaded too in labs with this need, where the kernel has it.
    fn further_modules(self, need: Need) -> &'static [&'static str] {
        match need {
            Need::Iptables => &["xt_tcpudp", "xt_multiport"],
            Need::Ipset => &["ip_set_hash_net", "ip_set_hash_ipportip"],
            Need::TcPrograms => &["sch_ingress", "cls_bpf"],
            Need::Esp if self.ipv6 => &["esp6", "xfrm_user", "gcm", "ctr", "ghash_generic", "seqiv"],
            Need::Esp => &["xfrm_user", "gcm", "ctr", "ghash_generic", "seqiv"],
            _ => &[],
        }
    }

    /// All modules that are loaded for a need, or what the kernel asks for instead of their names.
    pub fn modules(self, need: Need) -> Vec<String> {
        let further = self.further_modules(need).iter().map(|name| name.to_string());
        self.required_modules(need).into_iter().chain(further).collect()
    }

    /// Why the need is not met, as far as modules do not matter; `None` when it may be.
    pub fn lack_of_others(self, need: Need) -> Option<String> {
        match need {
            Need::Ipv6 => (!self.ipv6).then(|| "this system has no IPv6".to_owned()),
            Need::TcPrograms => {
                (!kernel::at_least((5, 10))).then(|| "bpf_redirect_peer needs Linux 5.10".to_owned())
            }
            Need::Cgroup => cgroup_programs::root()
                .is_none()
                .then(|| "no cgroup2 is mounted: run `mount -t cgroup2 cgroup2 /sys/fs/cgroup`".to_owned()),
            Need::Iptables => self.restore_programs().iter().find_map(|name| missing_program(name)),
            Need::Ipset => missing_program("ipset"),
            Need::Ipvs => missing_program("ipvsadm"),
            Need::OpenVswitch => missing_program("ovs-dpctl"),
            Need::Wireguard => missing_program("wg"),
            Need::Bird => missing_program("bird"),
            Need::Cni => cni::missing_plugin(),
            _ => None,
        }
    }

    /// Why the need is not met; `None` when it is, as far as can be told.
    pub fn lack(self, need: Need, index: &ModuleIndex) -> Option<String> {
        self.lack_of_others(need).or_else(|| {
            let missing = self.required_modules(need).into_iter().find(|name| !index.has(name))?;
            Some(match need {
                Need::Link(kind) | Need::LinkV6(kind) => {
                    format!("this kernel has no link type {kind}, or its module is not installed")
                }
                _ => format!("the kernel module {missing} is missing, or not installed"),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NFT: Variant = Variant { ipv6: true, iptables: "nft" };
    const LEGACY_V4: Variant = Variant { ipv6: false, iptables: "legacy" };

    #[test]
    fn a_module_that_is_not_installed_is_named() {
        let index = ModuleIndex::with(["rtnl-link-vxlan", "nf_conntrack"]);
        assert_eq!(NFT.lack(Need::Link("vxlan"), &index), None);
        let said = NFT.lack(Need::Link("no-such-kind"), &index).unwrap();
        assert!(said.contains("link type no-such-kind"), "{said}");
        let said = NFT.lack(Need::BridgeNetfilter, &ModuleIndex::with([]));
        // The machine that tests may have it loaded.
        assert!(said.is_none_or(|said| said.contains("br_netfilter")));
        assert_eq!(LEGACY_V4.lack(Need::LinkV6("no-such-kind"), &index), None);
        assert!(LEGACY_V4.lack(Need::Ipv6, &index).is_some());
    }

    #[test]
    fn each_family_has_its_own_modules_of_legacy_iptables() {
        let modules = LEGACY_V4.modules(Need::Iptables);
        assert!(modules.iter().any(|name| name == "iptable_nat"));
        assert!(!modules.iter().any(|name| name.starts_with("ip6")));
        let both = Variant { ipv6: true, ..LEGACY_V4 }.modules(Need::Iptables);
        assert!(both.iter().any(|name| name == "ip6table_nat"));
        assert!(NFT.modules(Need::Iptables).iter().any(|name| name == "nft_compat"));
    }
}
