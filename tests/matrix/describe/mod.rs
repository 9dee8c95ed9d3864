//! `matrix --describe-kernel FOLDER`: writes what the attach plan reads of the running kernel as files, for unit tests
//! that have no such kernel. `cargo xtask kernel-fixtures` runs it under each kernel of the matrix.
//!
//! Only what concerns the functions of the stage map is written; see `Kernel::from_files` for the files.

mod trim;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use overlay_trace_common::stage::Target;
use overlay_trace_common::stage_map::STAGES;
use overlay_trace_probe::sys::btf::Btf;
use overlay_trace_probe::sys::kernel::Kernel;
use overlay_trace_probe::wanted_functions;
use overlay_trace_probe::{Plan, ProbeSet};

use trim::{Trimmer, Wanted};

const KALLSYMS: &str = "proc/kallsyms";
const TRACEABLE: &str = "sys/kernel/tracing/available_filter_functions";
const RELEASE: &str = "proc/sys/kernel/osrelease";
/// The structs of which fields are read, `Kernel::offsets`.
const STRUCTS: &[&str] = &[
    "sk_buff",
    "skb_shared_info",
    "net_device",
    "rtnl_link_ops",
    "netdev_queue",
    "sock_common",
    "net",
    "ns_common",
    "sock",
    "socket_lock_t",
    // A part of the one before in 7.2.
    "slock_owned",
    "tcp_sock",
    "dst_entry",
];
/// The enumerations that name the reasons of drops.
const ENUMERATIONS: &[&str] = &["skb_drop_reason", "ovs_drop_reason", "qdisc_drop_reason"];
/// Tracepoints that are probed besides those of the stage map.
const TRACEPOINTS: &[&str] = &["net_dev_start_xmit", "task_rename"];

/// Writes the running kernel's description into a folder.
///
/// # Errors
///
/// Something cannot be read or written, or what is read back is not the running kernel.
pub fn write(folder: &Path) -> Result<()> {
    load_modules();
    let kernel = Kernel::read(&wanted_functions())?;
    clear(folder)?;
    put(folder, RELEASE, format!("{}\n", kernel.release).as_bytes())?;
    let symbols = symbols()?;
    put(folder, KALLSYMS, symbols.as_bytes())?;
    put(folder, TRACEABLE, traceable()?.as_bytes())?;
    if let Some(list) = kernel.loadable_modules() {
        let file = format!("{}/modules.dep", kernel.module_folder().trim_start_matches('/'));
        put(folder, &file, loadable(&list).as_bytes())?;
    }
    for (name, bytes) in btf(&kernel)? {
        put(folder, &format!("sys/kernel/btf/{name}"), &bytes)?;
    }
    compare(&kernel, &Kernel::from_files(folder, &wanted_functions())?)
}

/// Loads the modules that have functions of the stage map.
pub fn load_modules() {
    let modules: BTreeSet<&str> = wanted_functions().values().copied().flatten().collect();
    for module in modules {
        // Whether it is there is seen by its functions.
        let _ = Command::new("modprobe").args(["-q", module]).status();
    }
}

/// Removes what is in the folder; itself it may be a mount point.
fn clear(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn put(folder: &Path, file: &str, content: &[u8]) -> Result<()> {
    let path = folder.join(file);
    let parent = path.parent().context("a file needs a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(Path::new("/").join(file)).with_context(|| format!("cannot read /{file}"))
}

/// The wanted functions' lines of `/proc/kallsyms`. The addresses differ from boot to boot and are left out.
fn symbols() -> Result<String> {
    let wanted = wanted_functions();
    let mut lines = BTreeSet::new();
    let list = read(KALLSYMS)?;
    for line in list.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, kind @ ("t" | "T"), name, module @ ..] = fields.as_slice() else { continue };
        if wanted.contains_key(name) {
            let module = module.first().map(|module| format!("\t{module}")).unwrap_or_default();
            lines.insert(format!("{:016x} {kind} {name}{module}\n", 0));
        }
    }
    Ok(lines.into_iter().collect())
}

/// The wanted functions that ftrace, and so fentry, can be attached to.
fn traceable() -> Result<String> {
    let mount = Command::new("mount").args(["-t", "tracefs", "none", "/sys/kernel/tracing"]).output();
    let list = read(TRACEABLE).with_context(|| format!("mounting it gave {mount:?}"))?;
    let wanted = wanted_functions();
    let name = |line: &str| line.split_ascii_whitespace().next().unwrap_or_default().to_owned();
    let lines: BTreeSet<String> = list
        .lines()
        .filter(|line| wanted.contains_key(&*name(line)))
        .map(|line| format!("{}\n", line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    Ok(lines.into_iter().collect())
}

/// The wanted modules' lines of `modules.dep`, without what each depends on.
fn loadable(list: &str) -> String {
    let modules: BTreeSet<&str> = wanted_functions().values().copied().flatten().collect();
    let paths = list.lines().filter_map(|line| line.split(':').next());
    let is_wanted = |path: &&str| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split_once(".ko").is_some_and(|(name, _)| modules.contains(name))
    };
    paths.filter(is_wanted).map(|path| format!("{path}:\n")).collect()
}

/// The kernel's BTF and its modules', of each the part that is read.
fn btf(kernel: &Kernel) -> Result<Vec<(String, Vec<u8>)>> {
    let wanted = wanted_functions();
    let mut functions: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    for name in wanted.keys() {
        if let Some(module) = kernel.symbol(name) {
            functions.entry(module.as_deref()).or_default().push(name);
        }
    }
    functions.values_mut().for_each(|names| names.sort_unstable());
    let of = |module: Option<&str>| functions.get(&module).cloned().unwrap_or_default();
    let tracepoints = tracepoints();
    let modules: Vec<(&str, &Btf)> =
        functions.keys().filter_map(|module| Some(((*module)?, kernel.btf_of((*module)?)?))).collect();
    let mut base = Trimmer::new(kernel.btf(), STRUCTS);
    base.add(Wanted {
        functions: of(None),
        tracepoints: tracepoints.into_iter().collect(),
        structs: STRUCTS,
        enumerations: ENUMERATIONS,
    })?;
    // What modules need of the kernel's types must be there before those are written.
    let mut split = Vec::new();
    for (module, btf) in modules {
        let mut part = Trimmer::on(&mut base, btf, STRUCTS);
        part.add(Wanted { functions: of(Some(module)), enumerations: ENUMERATIONS, ..Wanted::default() })?;
        split.push((module.to_owned(), part.finish()));
    }
    let base = base.finish();
    let mut files = vec![("vmlinux".to_owned(), base.bytes(None))];
    files.extend(split.into_iter().map(|(module, part)| (module, part.bytes(Some(&base)))));
    Ok(files)
}

/// The tracepoints of the stage map, and others that are probed.
fn tracepoints() -> BTreeSet<&'static str> {
    let points = || STAGES.iter().flat_map(|stage| stage.points);
    let probed = points().flat_map(|point| point.probes).filter_map(|probe| match probe.target {
        Target::Tracepoint(name) => Some(name),
        _ => None,
    });
    probed.chain(points().filter_map(|point| point.without)).chain(TRACEPOINTS.iter().copied()).collect()
}

/// Whether the description leads to the same plans as the kernel itself.
fn compare(kernel: &Kernel, described: &Kernel) -> Result<()> {
    for set in [ProbeSet::Full, ProbeSet::Light, ProbeSet::Device] {
        for kprobes_only in [false, true] {
            let [real, read] = [kernel, described].map(|kernel| {
                let mut plan = Plan::new(kernel, set, kprobes_only);
                // The types have other numbers there.
                plan.points.iter_mut().flatten().for_each(|attachment| attachment.type_id = 0);
                format!("{plan:?}")
            });
            ensure!(real == read, "the plan for the set {} is not that of the running kernel", set.name());
        }
    }
    let (real, read) = (kernel.offsets()?, described.offsets()?);
    ensure!(format!("{real:?}") == format!("{read:?}"), "the offsets are {read:?} instead of {real:?}");
    for name in ENUMERATIONS {
        ensure!(kernel.enumeration(name) == described.enumeration(name), "the values of {name} differ");
    }
    Ok(())
}
