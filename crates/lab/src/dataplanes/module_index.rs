//! Which modules the running kernel has, told without loading one: from the lists of `depmod`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use overlay_trace_probe::sys::kernel;

/// What `depmod` and the kernel's build say of this kernel's modules. Names have `_` for `-`.
#[derive(Debug, Default)]
pub struct ModuleIndex {
    /// Modules that are part of the kernel itself.
    builtin: BTreeSet<String>,
    /// Modules that can be loaded, each with those that it needs.
    loadable: BTreeMap<String, Vec<String>>,
    /// What the kernel asks for instead of a module's name, such as `rtnl-link-vxlan`.
    aliases: BTreeMap<String, String>,
}

/// Aliases that begin otherwise are of hardware: there are tens of thousands.
const ALIASES: &[&str] = &["rtnl-link-", "ipt_", "ip6t_", "xfrm-type-", "ip_set_", "vport-type-"];

impl ModuleIndex {
    /// The index of the running kernel; `None` where it has none: no module can be loaded then.
    pub fn of_kernel() -> Option<ModuleIndex> {
        ModuleIndex::read(&Path::new("/lib/modules").join(kernel::release()))
    }

    fn read(folder: &Path) -> Option<ModuleIndex> {
        let dependencies = fs::read_to_string(folder.join("modules.dep")).ok()?;
        // Kernels that have everything in modules lack the others.
        let text = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let mut index = ModuleIndex::default();
        for (file, needs) in dependencies.lines().filter_map(|line| line.split_once(':')) {
            index.loadable.insert(module_name(file), needs.split_whitespace().map(module_name).collect());
        }
        index.builtin = text("modules.builtin").lines().map(module_name).collect();
        let mut add = |alias: &str, module: &str| {
            if ALIASES.iter().any(|beginning| alias.starts_with(beginning)) {
                index.aliases.insert(alias.to_owned(), module.replace('-', "_"));
            }
        };
        for line in text("modules.alias").lines() {
            if let ["alias", alias, module] = line.split(' ').collect::<Vec<_>>()[..] {
                add(alias, module);
            }
        }
        // `MODULE.KEY=VALUE`, each with a NUL at its end.
        for entry in text("modules.builtin.modinfo").split('\0') {
            if let Some((module, alias)) = entry.split_once(".alias=") {
                add(alias, module);
            }
        }
        Some(index)
    }

    /// The module of a name or an alias.
    fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.get(name).map_or(name, String::as_str)
    }

    /// Whether the kernel has, or can load, the module of this name or alias.
    pub fn has(&self, name: &str) -> bool {
        let module = self.resolve(name);
        self.builtin.contains(module) || self.loadable.contains_key(module) || is_loaded(module)
    }

    /// The modules that are loaded for this name or alias, those that others need first; without those of the kernel
    /// itself.
    pub fn to_load(&self, name: &str) -> Vec<String> {
        let module = self.resolve(name);
        // modules.dep has the needs of the needs too, and names first what is loaded last.
        let needs = self.loadable.get(module).into_iter().flatten().rev().cloned();
        let it = self.loadable.contains_key(module).then(|| module.to_owned());
        needs.chain(it).collect()
    }

    /// The kinds of devices (`ip link add … type KIND`) that a module makes.
    pub fn link_kinds(&self, module: &str) -> Vec<&str> {
        let named = self.aliases.iter().filter(|(_, of)| *of == module);
        let kinds = named.filter_map(|(alias, _)| alias.strip_prefix("rtnl-link-"));
        // Their kinds are no names for asking.
        let others = [("tun", "tun"), ("openvswitch", "openvswitch")];
        kinds.chain(others.iter().filter(|(of, _)| *of == module).map(|(_, kind)| *kind)).collect()
    }
}

/// Whether a module is loaded; built-in ones may be told too.
pub fn is_loaded(module: &str) -> bool {
    Path::new("/sys/module").join(module.replace('-', "_")).exists()
}

/// `kernel/net/sched/sch-fq.ko.xz` is `sch_fq`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
impl ModuleIndex {
    /// A kernel that can load these, by these names.
    pub fn with<'a>(names: impl IntoIterator<Item = &'a str>) -> ModuleIndex {
        let loadable = names.into_iter().map(|name| (name.to_owned(), Vec::new())).collect();
        ModuleIndex { loadable, ..ModuleIndex::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> ModuleIndex {
        let dir = tempfile::TempDir::new().unwrap();
        for (name, text) in [
            (
                "modules.dep",
                "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz kernel/net/ipv6/ip6_udp_tunnel.ko.xz\n\
                 kernel/net/ipv4/udp_tunnel.ko.xz:\nkernel/net/ipv6/ip6_udp_tunnel.ko.xz:\n\
                 kernel/net/8021q/8021q.ko.xz:\nkernel/net/netfilter/xt_nat.ko.xz:\n",
            ),
            ("modules.builtin", "kernel/net/sched/sch-fq.ko\nkernel/drivers/net/veth.ko\n"),
            (
                "modules.alias",
                "# comment\nalias rtnl-link-vxlan vxlan\nalias rtnl-link-vlan 8021q\nalias ipt_DNAT xt_nat\nalias pci:v1 e1000\n",
            ),
            ("modules.builtin.modinfo", "veth.alias=rtnl-link-veth\0veth.license=GPL\0"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        ModuleIndex::read(dir.path()).unwrap()
    }

    #[test]
    fn modules_are_found_by_name_and_by_what_the_kernel_asks_for() {
        let index = index();
        for name in ["vxlan", "rtnl-link-vxlan", "rtnl-link-vlan", "ipt_DNAT", "rtnl-link-veth", "sch_fq"] {
            assert!(index.has(name), "{name}");
        }
        assert!(!index.has("rtnl-link-no-such") && !index.has("no_such_module"));
        assert!(index.aliases.keys().all(|alias| !alias.starts_with("pci")));
    }

    #[test]
    fn what_is_loaded_is_told_with_what_it_needs() {
        let index = index();
        assert_eq!(index.to_load("rtnl-link-vxlan"), ["ip6_udp_tunnel", "udp_tunnel", "vxlan"]);
        assert!(index.to_load("rtnl-link-veth").is_empty());
        assert_eq!(index.link_kinds("8021q"), ["vlan"]);
        assert_eq!(index.link_kinds("tun"), ["tun"]);
    }

    #[test]
    fn a_kernel_without_a_list_can_load_nothing() {
        assert!(ModuleIndex::read(Path::new("/nonexistent")).is_none());
    }
}
