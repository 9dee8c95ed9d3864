//! What a kernel consists of: its BTF, its symbols, its release.
//!
//! [`Kernel::read`] describes the running kernel. [`Kernel::from_files`] reads the same files below another root
//! folder, so that what is decided from them can be tested without that kernel and without privileges.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use overlay_trace_common::abi::Offsets;

use super::{
    addresses::Addresses,
    bpf,
    btf::{Btf, Kind},
    netns,
};

/// BTF of the kernel (`vmlinux`) and of its modules.
const BTF_FOLDER: &str = "sys/kernel/btf";
const KALLSYMS: &str = "proc/kallsyms";
/// The same as `uname -r`.
const RELEASE: &str = "proc/sys/kernel/osrelease";

/// A function, a kernel tracepoint, or a type in BTF, and where it is.
#[derive(Clone, Debug)]
pub struct Typed {
    pub id: u32,
    /// The module that has it, `None` for the kernel itself.
    pub module: Option<String>,
    /// Position of the first argument of type `struct sk_buff *` (or `**`, see `indirect`).
    pub skb: Option<u8>,
    /// Positions of all such arguments, as bits.
    pub skbs: u32,
    /// Position of the first argument of type `struct sock *`.
    pub sock: Option<u8>,
    pub indirect: bool,
    pub arguments: u8,
}

impl Typed {
    /// Where the packet is: at the wanted position if there is one there, else the first.
    pub fn packet(&self, wanted: u8) -> Option<u8> {
        if self.skbs >> wanted & 1 == 1 { Some(wanted) } else { self.skb }
    }
}

/// A kernel's types and symbols.
pub struct Kernel {
    pub release: String,
    /// `/` for the running kernel.
    root: PathBuf,
    btf: Arc<Btf>,
    /// BTF of the modules that have functions of the stage map.
    modules: HashMap<String, Module>,
    /// Symbols of the stage map that exist.
    symbols: HashMap<String, Symbol>,
    addresses: Addresses,
    /// Whether programs can read the cookie of a network namespace.
    has_netns_cookies: bool,
}

/// A module's types.
struct Module {
    btf: Btf,
    /// The kernel's descriptor of them; only of the running kernel.
    fd: Option<OwnedFd>,
}

/// Functions, and the module that each is usually in; `None` for the kernel itself.
pub type Functions = HashMap<&'static str, Option<&'static str>>;

/// A function that the kernel lists.
struct Symbol {
    /// The module that it is in, if it is not in the kernel itself.
    module: Option<String>,
    /// Other modules have functions of this name too.
    is_ambiguous: bool,
}

/// From this version on the kernel looks for a module's function in that module. Before, fentry was put at whichever
/// function of that name it found first (`bpf_check_attach_target`).
const LOOKS_INTO_MODULES: (u32, u32) = (6, 3);
/// From this version on programs can read the cookie of a network namespace (`bpf_get_netns_cookie` for sockets,
/// `SO_NETNS_COOKIE`).
const NETNS_COOKIES: (u32, u32) = (5, 14);

/// The kernel's release, as `uname -r` prints it.
pub fn release() -> String {
    nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether the running kernel is of this version (major, minor) or a later one.
pub fn at_least(version: (u32, u32)) -> bool {
    is_at_least(&release(), version)
}

fn is_at_least(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}

impl Kernel {
    /// Reads what is needed to find the functions `wanted` in the running kernel.
    ///
    /// # Errors
    ///
    /// If the kernel has no BTF (`CONFIG_DEBUG_INFO_BTF`) or hides its symbols.
    pub fn read(wanted: &Functions) -> Result<Kernel> {
        Kernel::below(Path::new("/"), release(), netns::cookies_are_known(), wanted)
    }

    /// Reads a kernel that is described by files: in `root` lie the files that [`Kernel::read`] reads in `/`, or the
    /// part of them that concerns the functions `wanted`: `proc/sys/kernel/osrelease`, `proc/kallsyms`,
    /// `sys/kernel/btf/vmlinux` and the BTF of modules beside it, `lib/modules/RELEASE/modules.dep`. Nothing can be
    /// attached to such a kernel.
    ///
    /// # Errors
    ///
    /// If one of them is missing.
    pub fn from_files(root: &Path, wanted: &Functions) -> Result<Kernel> {
        let file = root.join(RELEASE);
        let release = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let release = release.trim().to_owned();
        let has_netns_cookies = is_at_least(&release, NETNS_COOKIES);
        Kernel::below(root, release, has_netns_cookies, wanted)
    }

    fn below(root: &Path, release: String, has_netns_cookies: bool, wanted: &Functions) -> Result<Kernel> {
        let btf = Btf::read(root.join(BTF_FOLDER).join("vmlinux"), None).context(
            "the kernel's type information is needed: it must be built with CONFIG_DEBUG_INFO_BTF=y, and /sys be mounted",
        )?;
        let (symbols, addresses) = read_symbols(root, wanted)?;
        let mut kernel = Kernel {
            release,
            root: root.to_owned(),
            btf: Arc::new(btf),
            modules: HashMap::new(),
            symbols,
            addresses,
            has_netns_cookies,
        };
        kernel.modules = kernel.read_modules();
        Ok(kernel)
    }

    /// Reads anew what changes when a module is loaded: the symbols and the modules' types.
    ///
    /// # Errors
    ///
    /// If the kernel hides its symbols.
    pub fn refresh(&mut self, wanted: &Functions) -> Result<()> {
        (self.symbols, self.addresses) = read_symbols(&self.root, wanted)?;
        self.modules = self.read_modules();
        Ok(())
    }

    /// The BTF of the modules that have wanted functions; none before 5.11.
    fn read_modules(&self) -> HashMap<String, Module> {
        let wanted: HashSet<&String> =
            self.symbols.values().filter_map(|symbol| symbol.module.as_ref()).collect();
        let Ok(names) = self.modules_with_btf() else { return HashMap::new() };
        names
            .into_iter()
            .filter(|(name, _)| wanted.contains(name))
            .filter_map(|(name, fd)| Some((name.clone(), Module { btf: self.module_btf(&name)?, fd })))
            .collect()
    }

    /// The modules that have BTF, with the running kernel's descriptors of it.
    fn modules_with_btf(&self) -> io::Result<Vec<(String, Option<OwnedFd>)>> {
        if self.root == Path::new("/") {
            return Ok(bpf::module_btfs()?.into_iter().map(|(name, fd)| (name, Some(fd))).collect());
        }
        let files = fs::read_dir(self.root.join(BTF_FOLDER))?.flatten();
        Ok(files.filter_map(|file| Some((file.file_name().into_string().ok()?, None))).collect())
    }

    fn module_btf(&self, module: &str) -> Option<Btf> {
        Btf::read(self.root.join(BTF_FOLDER).join(module), Some(self.btf.clone())).ok()
    }

    /// The kernel's own BTF.
    pub fn btf(&self) -> &Btf {
        &self.btf
    }

    /// The BTF of a module that has wanted functions.
    pub fn btf_of(&self, module: &str) -> Option<&Btf> {
        self.modules.get(module).map(|module| &module.btf)
    }

    /// Whether the kernel is of this version (major, minor) or a later one.
    pub fn at_least(&self, version: (u32, u32)) -> bool {
        is_at_least(&self.release, version)
    }

    /// The folder of the modules that can be loaded.
    pub fn module_folder(&self) -> String {
        format!("/lib/modules/{}", self.release)
    }

    /// The list of the modules that can be loaded, `modules.dep`; `None` if there is no folder of them.
    pub fn loadable_modules(&self) -> Option<String> {
        let folder = self.module_folder();
        fs::read_to_string(self.root.join(folder.trim_start_matches('/')).join("modules.dep")).ok()
    }

    /// The module of a function that exists as a symbol.
    pub fn symbol(&self, function: &str) -> Option<&Option<String>> {
        self.symbols.get(function).map(|symbol| &symbol.module)
    }

    /// Where the kernel's functions are.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The BTF descriptor of a module, for loading programs for its functions.
    pub fn module_fd(&self, module: &str) -> Option<&OwnedFd> {
        self.modules.get(module)?.fd.as_ref()
    }

    /// A function that BTF describes, and that the kernel finds by its name.
    pub fn function(&self, name: &str) -> Option<Typed> {
        let symbol = self.symbols.get(name)?;
        match &symbol.module {
            None => typed(&self.btf, name, None),
            Some(_) if symbol.is_ambiguous && !self.at_least(LOOKS_INTO_MODULES) => None,
            Some(module) => typed(self.btf_of(module)?, name, Some(module)),
        }
    }

    /// A tracepoint, by the type of its callback (`btf_trace_NAME`).
    pub fn tracepoint(&self, name: &str) -> Option<Typed> {
        let id = self.btf.find(&format!("btf_trace_{name}"), Kind::Typedef)?;
        let prototype = self.btf.behind(self.btf.behind(id));
        // The callback's first argument is the tracer's own data.
        Some(Typed { id, ..describe(&self.btf, prototype, 1) })
    }

    /// Names of an enumeration's values.
    pub fn enumeration(&self, name: &str) -> Vec<(u32, String)> {
        enumeration(&self.btf, name)
    }

    /// The same of an enumeration in a module; none if it is not loaded or has no types.
    pub fn module_enumeration(&self, module: &str, name: &str) -> Vec<(u32, String)> {
        self.module_btf(module).map(|btf| enumeration(&btf, name)).unwrap_or_default()
    }

    /// The offsets of the fields that the kernel side reads.
    ///
    /// # Errors
    ///
    /// If a field is missing.
    pub fn offsets(&self) -> Result<Offsets> {
        let of = |name: &str, path: &str| self.offset(name, path);
        Ok(Offsets {
            skb_dev: of("sk_buff", "dev")?,
            skb_sk: of("sk_buff", "sk")?,
            skb_len: of("sk_buff", "len")?,
            skb_data_len: of("sk_buff", "data_len")?,
            skb_protocol: of("sk_buff", "protocol")?,
            skb_next: of("sk_buff", "next")?,
            skb_head: of("sk_buff", "head")?,
            skb_data: of("sk_buff", "data")?,
            skb_end: of("sk_buff", "end")?,
            skb_inner_network_header: of("sk_buff", "inner_network_header")?,
            skb_network_header: of("sk_buff", "network_header")?,
            shared_gso_segs: of("skb_shared_info", "gso_segs")?,
            shared_frag_list: of("skb_shared_info", "frag_list")?,
            dev_ifindex: of("net_device", "ifindex")?,
            dev_net: of("net_device", "nd_net")?,
            dev_name: of("net_device", "name")?,
            dev_link_ops: of("net_device", "rtnl_link_ops")?,
            link_ops_kind: of("rtnl_link_ops", "kind")?,
            queue_dev: of("netdev_queue", "dev")?,
            sock_net: of("sock_common", "skc_net")?,
            net_inum: of("net", "ns.inum")?,
            // The cookie is there from 5.12 on, and for programs to read from 5.14 on.
            net_mix: of("net", if self.has_netns_cookies { "net_cookie" } else { "hash_mix" })?,
            sock_protocol: of("sock", "sk_protocol")?,
            skb_dst: of("sk_buff", "_skb_refdst")?,
            dst_dev: of("dst_entry", "dev")?,
        })
    }

    fn offset(&self, structure: &str, path: &str) -> Result<u32> {
        let id = self
            .btf
            .find(structure, Kind::Struct)
            .with_context(|| format!("the kernel's BTF has no struct {structure}"))?;
        let bits = member_offset(&self.btf, id, path).with_context(|| {
            format!("the kernel's struct {structure} has no field {path}: this kernel is not supported yet")
        })?;
        Ok(bits / 8)
    }
}

fn enumeration(btf: &Btf, name: &str) -> Vec<(u32, String)> {
    let Some(id) = btf.find(name, Kind::Enum) else { return Vec::new() };
    btf.values(id).map(|(name, value)| (value, name.to_owned())).collect()
}

/// The offset in bits of a field, also inside anonymous structs and unions.
fn member_offset(btf: &Btf, structure: u32, path: &str) -> Option<u32> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    btf.members(structure).find_map(|member| {
        let offset = match (member.name, rest) {
            (name, None) if name == first => 0,
            (name, Some(rest)) if name == first => {
                member_offset(btf, unqualified(btf, member.type_id), rest)?
            }
            ("", _) => member_offset(btf, unqualified(btf, member.type_id), path)?,
            _ => return None,
        };
        Some(member.bits + offset)
    })
}

/// The type behind qualifiers and typedefs.
fn unqualified(btf: &Btf, mut id: u32) -> u32 {
    while matches!(btf.kind(id), Kind::Qualifier | Kind::Typedef) {
        id = btf.behind(id);
    }
    id
}

fn typed(btf: &Btf, name: &str, module: Option<&String>) -> Option<Typed> {
    let id = btf.find(name, Kind::Function)?;
    Some(Typed { id, module: module.cloned(), ..describe(btf, btf.behind(id), 0) })
}

fn describe(btf: &Btf, prototype: u32, skipped: usize) -> Typed {
    let mut described =
        Typed { id: 0, module: None, skb: None, skbs: 0, sock: None, indirect: false, arguments: 0 };
    for (position, parameter) in btf.parameters(prototype).skip(skipped).enumerate() {
        described.arguments = position as u8 + 1;
        let pointed = pointed_to(btf, parameter);
        if pointed.is_some_and(|(name, _)| name == "sk_buff") {
            described.skbs |= 1 << position;
        }
        match pointed {
            Some(("sk_buff", depth)) if described.skb.is_none() => {
                described.skb = Some(position as u8);
                described.indirect = depth > 1;
            }
            Some(("sock", 1)) if described.sock.is_none() => described.sock = Some(position as u8),
            _ => {}
        }
    }
    described
}

/// The struct that a parameter points to, and through how many pointers.
fn pointed_to(btf: &Btf, parameter: u32) -> Option<(&str, u8)> {
    let (mut id, mut depth) = (unqualified(btf, parameter), 0);
    while btf.kind(id) == Kind::Pointer {
        id = unqualified(btf, btf.behind(id));
        depth += 1;
    }
    (depth > 0 && btf.kind(id) == Kind::Struct).then(|| (btf.name(id), depth))
}

/// Which of the wanted functions `/proc/kallsyms` lists, and in which module: the usual one, if several have it. And
/// where all functions are.
fn read_symbols(root: &Path, wanted: &Functions) -> Result<(HashMap<String, Symbol>, Addresses)> {
    let mut found: HashMap<String, Symbol> = HashMap::new();
    let addresses = Addresses::read_list(&root.join(KALLSYMS), |name, module| {
        let Some(usual) = wanted.get(name) else { return };
        let module = module.map(str::to_owned);
        match found.entry(name.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(Symbol { module, is_ambiguous: false });
            }
            Entry::Occupied(mut entry) => {
                let symbol = entry.get_mut();
                symbol.is_ambiguous = true;
                if module.as_deref() == *usual {
                    symbol.module = module;
                }
            }
        }
    })?;
    Ok((found, addresses))
}
