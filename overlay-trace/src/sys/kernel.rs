//! What the running kernel consists of: its BTF, its symbols, its release.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{BufRead, BufReader},
    os::fd::OwnedFd,
};

use anyhow::{Context, Result, bail};
use btf_rs::{Btf, BtfType, FuncProto, Struct, Type};
use overlay_trace_common::kernel::Offsets;

use super::bpf;

const BTF_FOLDER: &str = "/sys/kernel/btf";

/// A function, a kernel tracepoint, or a type in BTF, and where it is.
#[derive(Clone, Debug)]
pub struct Typed {
    pub id: u32,
    /// The module that has it, `None` for the kernel itself.
    pub module: Option<String>,
    /// Position of the first argument of type `struct sk_buff *` (or `**`, see `indirect`).
    pub skb: Option<u8>,
    /// Position of the first argument of type `struct sock *`.
    pub sock: Option<u8>,
    pub indirect: bool,
    pub arguments: u8,
}

/// The running kernel's types and symbols.
pub struct Kernel {
    pub release: String,
    btf: Btf,
    /// BTF of the modules that have functions of the stage map.
    modules: HashMap<String, (Btf, OwnedFd)>,
    /// Symbols of the stage map that exist: name, and the module they are in.
    symbols: HashMap<String, Option<String>>,
}

/// The kernel's release, as `uname -r` prints it.
pub fn release() -> String {
    nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

impl Kernel {
    /// Reads what is needed to find the functions `wanted`.
    ///
    /// # Errors
    ///
    /// If the kernel has no BTF (`CONFIG_DEBUG_INFO_BTF`) or hides its symbols.
    pub fn read(wanted: &HashSet<&str>) -> Result<Kernel> {
        let vmlinux = format!("{BTF_FOLDER}/vmlinux");
        let btf = Btf::from_file(&vmlinux).map_err(|error| {
            anyhow::anyhow!(
                "cannot read the kernel's type information {vmlinux} ({error}): the kernel must be built with CONFIG_DEBUG_INFO_BTF=y, and /sys be mounted"
            )
        })?;
        let symbols = read_symbols(wanted)?;
        let modules = read_modules(&btf, &symbols);
        Ok(Kernel { release: release(), btf, modules, symbols })
    }

    /// The module of a function that exists as a symbol.
    pub fn symbol(&self, function: &str) -> Option<&Option<String>> {
        self.symbols.get(function)
    }

    /// The BTF descriptor of a module, for loading programs for its functions.
    pub fn module_fd(&self, module: &str) -> Option<&OwnedFd> {
        self.modules.get(module).map(|(_, fd)| fd)
    }

    /// A function that BTF describes.
    pub fn function(&self, name: &str) -> Option<Typed> {
        match self.symbols.get(name)? {
            None => typed(&self.btf, name, None),
            Some(module) => typed(&self.modules.get(module)?.0, name, Some(module)),
        }
    }

    /// A tracepoint, by the type of its callback (`btf_trace_NAME`).
    pub fn tracepoint(&self, name: &str) -> Option<Typed> {
        let name = format!("btf_trace_{name}");
        let id = *self.btf.resolve_ids_by_name(&name).ok()?.first()?;
        let Type::Typedef(definition) = self.btf.resolve_type_by_id(id).ok()? else { return None };
        let pointer = self.btf.resolve_chained_type(&definition).ok()?;
        let Type::FuncProto(prototype) = self.btf.resolve_chained_type(pointer.as_btf_type()?).ok()? else {
            return None;
        };
        // The callback's first argument is the tracer's own data.
        let described = describe(&self.btf, &prototype, 1);
        Some(Typed { id, ..described })
    }

    /// Names of an enumeration's values.
    pub fn enumeration(&self, name: &str) -> Vec<(u32, String)> {
        let Ok(types) = self.btf.resolve_types_by_name(name) else { return Vec::new() };
        for candidate in types {
            if let Type::Enum(enumeration) = candidate {
                return enumeration
                    .members
                    .iter()
                    .filter_map(|member| Some((member.val(), self.btf.resolve_name(member).ok()?)))
                    .collect();
            }
        }
        Vec::new()
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
            skb_next: of("sk_buff", "next")?,
            skb_head: of("sk_buff", "head")?,
            skb_data: of("sk_buff", "data")?,
            skb_end: of("sk_buff", "end")?,
            skb_network_header: of("sk_buff", "network_header")?,
            skb_transport_header: of("sk_buff", "transport_header")?,
            skb_protocol: of("sk_buff", "protocol")?,
            shared_gso_segs: of("skb_shared_info", "gso_segs")?,
            dev_ifindex: of("net_device", "ifindex")?,
            dev_net: of("net_device", "nd_net")?,
            dev_name: of("net_device", "name")?,
            dev_link_ops: of("net_device", "rtnl_link_ops")?,
            link_ops_kind: of("rtnl_link_ops", "kind")?,
            sock_net: of("sock_common", "skc_net")?,
            net_inum: of("net", "ns.inum")?,
            sock_protocol: of("sock", "sk_protocol")?,
        })
    }

    fn offset(&self, structure: &str, path: &str) -> Result<u32> {
        let types = self
            .btf
            .resolve_types_by_name(structure)
            .with_context(|| format!("the kernel's BTF has no struct {structure}"))?;
        for candidate in types {
            if let Type::Struct(found) = candidate {
                if let Some(bits) = member_offset(&self.btf, &found, path) {
                    return Ok(bits / 8);
                }
            }
        }
        bail!("the kernel's struct {structure} has no field {path}: this kernel is not supported yet")
    }
}

/// The offset in bits of a field, also inside anonymous structs and unions.
fn member_offset(btf: &Btf, structure: &Struct, path: &str) -> Option<u32> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    for member in &structure.members {
        let name = btf.resolve_name(member).unwrap_or_default();
        let inner = |path: &str| match btf.resolve_chained_type(member).ok()? {
            Type::Struct(inner) | Type::Union(inner) => member_offset(btf, &inner, path),
            _ => None,
        };
        let offset = if name == first {
            match rest {
                None => Some(0),
                Some(rest) => inner(rest),
            }
        } else if name.is_empty() {
            inner(path)
        } else {
            None
        };
        if let Some(offset) = offset {
            return Some(member.bit_offset() + offset);
        }
    }
    None
}

fn typed(btf: &Btf, name: &str, module: Option<&String>) -> Option<Typed> {
    for id in btf.resolve_ids_by_name(name).ok()? {
        if let Ok(Type::Func(function)) = btf.resolve_type_by_id(id) {
            let Ok(Type::FuncProto(prototype)) = btf.resolve_chained_type(&function) else { continue };
            let described = describe(btf, &prototype, 0);
            return Some(Typed { id, module: module.cloned(), ..described });
        }
    }
    None
}

fn describe(btf: &Btf, prototype: &FuncProto, skipped: usize) -> Typed {
    let mut described = Typed { id: 0, module: None, skb: None, sock: None, indirect: false, arguments: 0 };
    for (position, parameter) in prototype.parameters.iter().skip(skipped).enumerate() {
        described.arguments = position as u8 + 1;
        match pointed_to(btf, parameter) {
            Some((name, depth)) if name == "sk_buff" && described.skb.is_none() => {
                described.skb = Some(position as u8);
                described.indirect = depth > 1;
            }
            Some((name, 1)) if name == "sock" && described.sock.is_none() => {
                described.sock = Some(position as u8)
            }
            _ => {}
        }
    }
    described
}

/// The struct that a parameter points to, and through how many pointers.
fn pointed_to(btf: &Btf, parameter: &dyn BtfType) -> Option<(String, u8)> {
    let mut depth = 0;
    for step in btf.type_iter(parameter) {
        match step {
            Type::Ptr(_) => depth += 1,
            Type::Struct(structure) => return Some((btf.resolve_name(&structure).ok()?, depth)),
            Type::Const(_) | Type::Volatile(_) | Type::Typedef(_) | Type::TypeTag(_) => {}
            _ => return None,
        }
    }
    None
}

fn read_modules(btf: &Btf, symbols: &HashMap<String, Option<String>>) -> HashMap<String, (Btf, OwnedFd)> {
    let wanted: HashSet<&String> = symbols.values().flatten().collect();
    let Ok(fds) = bpf::module_btfs() else { return HashMap::new() };
    fds.into_iter()
        .filter(|(name, _)| wanted.contains(name))
        .filter_map(|(name, fd)| {
            let module = Btf::from_split_file(format!("{BTF_FOLDER}/{name}"), btf).ok()?;
            Some((name, (module, fd)))
        })
        .collect()
}

/// Which of the wanted functions `/proc/kallsyms` lists, and in which module.
fn read_symbols(wanted: &HashSet<&str>) -> Result<HashMap<String, Option<String>>> {
    let file = fs::File::open("/proc/kallsyms")
        .context("cannot read /proc/kallsyms: the kernel must be built with CONFIG_KALLSYMS=y")?;
    let mut found = HashMap::new();
    for line in BufReader::with_capacity(1 << 18, file).lines() {
        let line = line.context("cannot read /proc/kallsyms")?;
        let mut fields = line.split_ascii_whitespace();
        let (Some(_), Some(kind), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if matches!(kind, "t" | "T") && wanted.contains(name) {
            let module = fields.next().map(|module| module.trim_matches(['[', ']']).to_owned());
            found.insert(name.to_owned(), module);
        }
    }
    Ok(found)
}

/// The names of addresses in the kernel: the symbol that each lies in and the distance from its start.
pub fn symbol_names(addresses: &[u64]) -> HashMap<u64, String> {
    let mut all: Vec<(u64, String)> = Vec::new();
    if let Ok(file) = fs::File::open("/proc/kallsyms") {
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            let mut fields = line.split_ascii_whitespace();
            if let (Some(address), Some("t" | "T"), Some(name)) =
                (fields.next(), fields.next(), fields.next())
            {
                all.push((u64::from_str_radix(address, 16).unwrap_or(0), name.to_owned()));
            }
        }
    }
    all.sort_unstable();
    let name = |address: u64| {
        let after = all.partition_point(|(start, _)| *start <= address);
        let (start, name) = all.get(after.checked_sub(1)?)?;
        (*start != 0).then(|| (address, format!("{name}+0x{:x}", address - start)))
    };
    addresses.iter().filter_map(|address| name(*address)).collect()
}
