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

use anyhow::{Context, Result, ensure};
use overlay_trace_common::abi::Offsets;

use super::{
    bpf,
    btf::{Btf, Kind},
    kallsyms::Kallsyms,
    netns,
    signature::Signature,
    struct_offsets,
};

/// BTF of the kernel (`vmlinux`) and of its modules.
const BTF_FOLDER: &str = "sys/kernel/btf";
const KALLSYMS: &str = "proc/kallsyms";
/// The same as `uname -r`.
const RELEASE: &str = "proc/sys/kernel/osrelease";

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
    kallsyms: Kallsyms,
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

/// How the content of a page is found by the address of its `struct page` (`page_address` of x86-64).
pub struct Pages {
    /// Bytes of a `struct page`.
    pub struct_bytes: u32,
    /// Address of the variable with the address of the first `struct page`.
    pub vmemmap_base: u64,
    /// Address of the variable with the address where all memory is mapped.
    pub page_offset_base: u64,
}

/// A function that the kernel lists.
struct Symbol {
    /// The module that it is in, if it is not in the kernel itself.
    module: Option<String>,
    /// Other modules have functions of this name too.
    is_ambiguous: bool,
}

/// Since this version the kernel looks for a module's function in that module. Before, fentry was attached to the first
/// function of that name that it found (`bpf_check_attach_target`).
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
    /// The kernel has no BTF (`CONFIG_DEBUG_INFO_BTF`) or hides its symbols, or /proc is not mounted.
    pub fn read(wanted: &Functions) -> Result<Kernel> {
        ensure!(
            Path::new("/proc/self/stat").exists(),
            "/proc is not mounted here, and the kernel's functions and namespaces are read from it: `mount -t proc proc /proc`"
        );
        Kernel::below(Path::new("/"), release(), netns::cookies_are_known(), wanted)
    }

    /// Reads a kernel that is described by files: in `root` lie the files that [`Kernel::read`] reads in `/`, or the
    /// part of them that concerns the functions `wanted`: `proc/sys/kernel/osrelease`, `proc/kallsyms`,
    /// `sys/kernel/btf/vmlinux` and the BTF of modules beside it, `lib/modules/RELEASE/modules.dep`. Nothing can be
    /// attached to such a kernel.
    ///
    /// # Errors
    ///
    /// One of them is missing.
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
        let (symbols, kallsyms) = read_symbols(root, wanted)?;
        let mut kernel = Kernel {
            release,
            root: root.to_owned(),
            btf: Arc::new(btf),
            modules: HashMap::new(),
            symbols,
            kallsyms,
            has_netns_cookies,
        };
        kernel.modules = kernel.read_modules();
        Ok(kernel)
    }

    /// Reads again what changes when a module is loaded: the symbols and the modules' types.
    ///
    /// # Errors
    ///
    /// The kernel hides its symbols.
    pub fn refresh(&mut self, wanted: &Functions) -> Result<()> {
        (self.symbols, self.kallsyms) = read_symbols(&self.root, wanted)?;
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

    /// The module of a function that `/proc/kallsyms` lists (`None` for the kernel itself).
    pub fn symbol(&self, function: &str) -> Option<&Option<String>> {
        self.symbols.get(function).map(|symbol| &symbol.module)
    }

    /// The addresses of all functions.
    pub fn kallsyms(&self) -> &Kallsyms {
        &self.kallsyms
    }

    /// The BTF descriptor of a module, for loading programs for its functions.
    pub fn module_fd(&self, module: &str) -> Option<&OwnedFd> {
        self.modules.get(module)?.fd.as_ref()
    }

    /// A function that BTF describes, and that the kernel can find by its name.
    pub fn function(&self, name: &str) -> Option<Signature> {
        let symbol = self.symbols.get(name)?;
        match &symbol.module {
            None => Signature::of_function(&self.btf, name),
            Some(_) if symbol.is_ambiguous && !self.at_least(LOOKS_INTO_MODULES) => None,
            Some(module) => Signature::of_function(self.btf_of(module)?, name),
        }
    }

    /// A tracepoint, by the type of its callback (`btf_trace_NAME`).
    pub fn tracepoint(&self, name: &str) -> Option<Signature> {
        Signature::of_tracepoint(&self.btf, name)
    }

    /// Names of an enumeration's values.
    pub fn enumeration(&self, name: &str) -> Vec<(u32, String)> {
        enumeration(&self.btf, name)
    }

    /// The same of an enumeration in a module; none if it is not loaded or has no types.
    pub fn module_enumeration(&self, module: &str, name: &str) -> Vec<(u32, String)> {
        self.module_btf(module).map(|btf| enumeration(&btf, name)).unwrap_or_default()
    }

    /// How the content of a page is found; `None` where that is unknown: other processors than x86-64, and kernels that
    /// do not list variables (CONFIG_KALLSYMS_ALL).
    pub fn pages(&self) -> Option<Pages> {
        Some(Pages {
            struct_bytes: self.btf.size(self.btf.find("page", Kind::Struct)?)?,
            vmemmap_base: self.kallsyms.variable("vmemmap_base")?,
            page_offset_base: self.kallsyms.variable("page_offset_base")?,
        })
    }

    /// The offsets of the fields that the kernel side reads.
    ///
    /// # Errors
    ///
    /// A field is missing.
    pub fn offsets(&self) -> Result<Offsets> {
        struct_offsets::read(&self.btf, self.has_netns_cookies)
    }
}

fn enumeration(btf: &Btf, name: &str) -> Vec<(u32, String)> {
    let Some(id) = btf.find(name, Kind::Enum) else { return Vec::new() };
    btf.values(id).map(|(name, value)| (value, name.to_owned())).collect()
}

/// The wanted functions that `/proc/kallsyms` lists, with the module of each (the usual one, if several have it), and the
/// addresses of all functions.
fn read_symbols(root: &Path, wanted: &Functions) -> Result<(HashMap<String, Symbol>, Kallsyms)> {
    let mut found: HashMap<String, Symbol> = HashMap::new();
    let kallsyms = Kallsyms::read_list(&root.join(KALLSYMS), |name, module| {
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
    Ok((found, kallsyms))
}
