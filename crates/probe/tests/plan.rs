//! The attach plan for the kernels of the matrix, which are described by files: which probes are attached, which
//! stages cannot be seen and why.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use overlay_trace_common::flags::ProbeFlags;
use overlay_trace_common::stage_map::{STAGES, transmit_stages};
use overlay_trace_probe::{
    Attachment, Plan, ProbeKind, ProbeSet, Unprobed,
    modules::{self, module_of},
    sys::{btf::Kind, kernel::Kernel},
    wanted_functions,
};
use overlay_trace_test_support::{
    golden,
    kernels::{self, Traceable},
    workspace,
};
use tempfile::TempDir;

const SETS: [ProbeSet; 4] = [ProbeSet::Full, ProbeSet::Light, ProbeSet::Device, ProbeSet::Tc];
const BTF_FOLDER: &str = "sys/kernel/btf";

fn kernel(version: &str) -> Kernel {
    Kernel::from_files(&kernels::root(version), &wanted_functions()).unwrap()
}

/// Attaches as the kernel would: fentry and fexit to what it accepts, kprobes and tracepoints to all.
fn attach(plan: &mut Plan, traceable: &Traceable) -> Vec<Attachment> {
    plan.attach(|alternatives| {
        let is_accepted = |one: &&Attachment| match one.kind {
            ProbeKind::Fentry | ProbeKind::Fexit => {
                traceable.accepts(one.target, one.spec.has(ProbeFlags::INDIRECT))
            }
            ProbeKind::Kprobe | ProbeKind::TpBtf => true,
        };
        let entry = alternatives
            .iter()
            .find(is_accepted)
            .ok_or_else(|| Unprobed::Refused("ftrace does not know it".to_owned()))?;
        Ok([Some(entry.clone()), entry.exit()].into_iter().flatten().collect())
    })
}

/// A line for each point of the set that is probed, and for each that is not.
fn described(version: &str, set: ProbeSet) -> String {
    let mut plan = Plan::new(&kernel(version), set, false);
    let attached = attach(&mut plan, &kernels::traceable(version));
    let mut lines: BTreeMap<(u8, usize), String> = BTreeMap::new();
    for one in &attached {
        let line = lines.entry((one.stage, one.point)).or_default();
        let module = one.module.as_deref().map(|module| format!(" [{module}]")).unwrap_or_default();
        match one.kind {
            ProbeKind::Fexit if !line.is_empty() => line.push_str(" and its exit"),
            kind => {
                write!(line, "{} {}{module}, packet at {}", kind.name(), one.target, one.argument).unwrap()
            }
        }
    }
    for (stage, point, reason) in &plan.missing {
        lines.insert((*stage, *point), format!("MISSING: {reason}"));
    }
    let mut text = format!("The set {} on {version}: {} points\n", set.name(), lines.len());
    for ((stage, point), line) in lines {
        writeln!(text, "{:<18} {point}  {line}", STAGES[usize::from(stage)].name).unwrap();
    }
    for (stage, reason) in &plan.unseen {
        writeln!(text, "UNSEEN: {}: {reason}", STAGES[usize::from(*stage)].name).unwrap();
    }
    text
}

#[test]
fn the_plans_are_the_known_ones() {
    for version in kernels::VERSIONS {
        let text: Vec<String> = SETS.iter().map(|set| described(version, *set)).collect();
        golden::check(&format!("plan-{version}.txt"), text.join("\n").as_bytes());
    }
}

/// The kinds of probes by which each stage of the full set is entered, as docs/src/coverage.md has them.
fn kinds(version: &str) -> BTreeMap<&'static str, String> {
    let mut plan = Plan::new(&kernel(version), ProbeSet::Full, false);
    let mut kinds: BTreeMap<u8, BTreeSet<&str>> = BTreeMap::new();
    for one in attach(&mut plan, &kernels::traceable(version)) {
        let kind = if one.kind == ProbeKind::Fexit { ProbeKind::Fentry } else { one.kind };
        kinds.entry(one.stage).or_default().insert(kind.name());
    }
    // One program serves the stages of all link kinds.
    for (stage, _) in transmit_stages() {
        kinds.entry(stage).or_default().insert(ProbeKind::TpBtf.name());
    }
    let joined = |kinds: BTreeSet<&str>| kinds.into_iter().collect::<Vec<_>>().join(" and ");
    kinds.into_iter().map(|(stage, kinds)| (STAGES[usize::from(stage)].name, joined(kinds))).collect()
}

/// docs/src/coverage.md was found on the kernels themselves.
#[test]
fn what_is_planned_is_what_the_kernels_accept() {
    let table = fs::read_to_string(workspace().join("docs/src/coverage.md")).unwrap();
    let mut rows = table.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        Some(cells)
    });
    let columns = rows.next().unwrap();
    let rows: Vec<Vec<&str>> = rows.skip(1).collect();
    assert!(!rows.is_empty());
    for version in kernels::VERSIONS {
        let column = columns.iter().position(|name| *name == version).unwrap();
        let planned = kinds(version);
        for row in &rows {
            let planned = planned.get(row[0]).map(String::as_str);
            match row[column] {
                absent if absent.starts_with("absent: ") => {
                    assert_eq!(planned, None, "{} on {version}", row[0])
                }
                found => assert_eq!(planned, Some(found), "{} on {version}", row[0]),
            }
        }
    }
}

#[test]
fn a_plan_for_kprobes_has_no_fentry() {
    for version in kernels::VERSIONS {
        let plan = Plan::new(&kernel(version), ProbeSet::Full, true);
        let kinds: BTreeSet<&str> = plan.points.iter().flatten().map(|one| one.kind.name()).collect();
        assert_eq!(kinds, BTreeSet::from(["kprobe", "tp_btf"]), "{version}");
        assert!(plan.points.iter().flatten().all(|one| one.exit().is_none()), "{version}");
    }
}

#[test]
fn the_sets_device_and_tc_have_tracepoints_alone() {
    for (version, set) in
        kernels::VERSIONS.iter().flat_map(|version| [(version, ProbeSet::Device), (version, ProbeSet::Tc)])
    {
        let plan = Plan::new(&kernel(version), set, false);
        assert!(!plan.points.is_empty());
        assert!(plan.points.iter().flatten().all(|one| one.kind == ProbeKind::TpBtf), "{version}");
    }
}

/// Modules of 5.10 have no BTF, so that their functions can only be probed by kprobes.
#[test]
fn functions_of_modules_have_types_where_modules_have_btf() {
    for version in kernels::VERSIONS {
        let kernel = kernel(version);
        let has_btf = kernel.at_least((5, 11));
        let function = kernel.function("vxlan_rcv");
        assert_eq!(function.is_some(), has_btf, "{version}");
        assert_eq!(kernel.symbol("vxlan_rcv"), Some(&Some("vxlan".to_owned())), "{version}");
        if let Some(function) = function {
            assert_eq!(function.skb, Some(1), "{version}");
            // The packet's type is the kernel's, not the module's.
            let btf = kernel.btf_of("vxlan").unwrap();
            assert!(function.id >= btf.first(), "{version}");
            assert_eq!(btf.find("sk_buff", Kind::Struct), None, "{version}");
        }
    }
}

#[test]
fn the_fields_that_the_kernel_side_reads_are_found() {
    for version in kernels::VERSIONS {
        let offsets = kernel(version).offsets().unwrap();
        // In each of these kernels a packet begins with the list that it is in, and ends with its data's places.
        assert_eq!(offsets.skb_next, 0, "{version}");
        assert_eq!(offsets.skb_data, offsets.skb_head + 8, "{version}");
        assert!(offsets.skb_len > offsets.skb_dev && offsets.skb_end < offsets.skb_head, "{version}");
        assert_ne!(offsets.net_mix, 0, "{version}");
    }
}

#[test]
fn drops_have_reasons_since_5_17() {
    for version in kernels::VERSIONS {
        let kernel = kernel(version);
        let names: Vec<String> =
            kernel.enumeration("skb_drop_reason").into_iter().map(|(_, name)| name).collect();
        let is_known = names.iter().any(|name| name == "SKB_DROP_REASON_NO_SOCKET");
        assert_eq!(is_known, kernel.at_least((5, 17)), "{version}: {names:?}");
    }
}

/// A copy of a kernel's files, to take something away from.
fn copy(version: &str) -> TempDir {
    fn all(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if from.is_dir() {
                all(&from, &to);
            } else {
                fs::copy(&from, &to).unwrap();
            }
        }
    }
    let folder = TempDir::new().unwrap();
    all(&kernels::root(version), folder.path());
    folder
}

fn without_symbols(root: &Path, is_gone: impl Fn(&str) -> bool) {
    let file = root.join("proc/kallsyms");
    let list = fs::read_to_string(&file).unwrap();
    let kept: String = list.lines().filter(|line| !is_gone(line)).map(|line| format!("{line}\n")).collect();
    assert_ne!(kept, list, "nothing was taken away");
    fs::write(file, kept).unwrap();
}

fn stage(name: &str) -> u8 {
    STAGES.iter().position(|stage| stage.name == name).unwrap() as u8
}

#[test]
fn a_module_that_is_not_loaded_is_named() {
    let files = copy("6.12");
    without_symbols(files.path(), |line| line.ends_with("\t[wireguard]"));
    fs::remove_file(files.path().join(BTF_FOLDER).join("wireguard")).unwrap();
    let kernel = Kernel::from_files(files.path(), &wanted_functions()).unwrap();
    let plan = Plan::new(&kernel, ProbeSet::Full, false);
    let whole = Plan::new(&self::kernel("6.12"), ProbeSet::Full, false);
    let newly: BTreeSet<u8> =
        plan.unseen.keys().filter(|stage| !whole.unseen.contains_key(stage)).copied().collect();
    assert!(newly.contains(&stage("wireguard-encrypt")));
    for stage in newly {
        assert_eq!(
            plan.unseen[&stage],
            Unprobed::ModuleNotLoaded("wireguard"),
            "{}",
            STAGES[usize::from(stage)].name
        );
    }
    assert!(modules::advice(&kernel, "wireguard").contains("`modprobe wireguard`"));
}

#[test]
fn a_module_that_cannot_be_had_is_told_from_one_that_can() {
    let files = copy("6.12");
    let kernel = Kernel::from_files(files.path(), &wanted_functions()).unwrap();
    let list = files.path().join(kernel.module_folder().trim_start_matches('/')).join("modules.dep");
    fs::write(&list, "kernel/net/bridge/bridge.ko.xz:\n").unwrap();
    assert!(modules::advice(&kernel, "bridge").starts_with("not loaded: `modprobe bridge`"));
    assert!(modules::advice(&kernel, "vxlan").starts_with("not among this kernel's modules"));
    fs::remove_file(list).unwrap();
    assert!(modules::advice(&kernel, "vxlan").contains("may have been built without it"));
}

#[test]
fn a_function_that_the_kernel_does_not_have_is_named() {
    let files = copy("6.12");
    without_symbols(files.path(), |line| line.ends_with(" __tcp_transmit_skb"));
    let kernel = Kernel::from_files(files.path(), &wanted_functions()).unwrap();
    let plan = Plan::new(&kernel, ProbeSet::Full, false);
    assert_eq!(plan.unseen[&stage("tcp-send")], Unprobed::NoFunction("__tcp_transmit_skb"));
    // All others are seen as before.
    let whole = Plan::new(&self::kernel("6.12"), ProbeSet::Full, false);
    assert_eq!(plan.points.len() + 1, whole.points.len());
}

/// Before 6.3 the kernel looked for a module's function in all modules.
#[test]
fn of_functions_of_the_same_name_the_usual_modules_is_taken() {
    let name = "vxlan_rcv";
    assert_eq!(module_of(name), Some("vxlan"));
    for (version, is_typed) in [("6.1", false), ("6.12", true)] {
        let files = copy(version);
        let list = files.path().join("proc/kallsyms");
        let other = format!("0000000000000000 t {name}\t[another]\n");
        fs::write(&list, other + &fs::read_to_string(&list).unwrap()).unwrap();
        let kernel = Kernel::from_files(files.path(), &wanted_functions()).unwrap();
        assert_eq!(kernel.symbol(name), Some(&Some("vxlan".to_owned())), "{version}");
        assert_eq!(kernel.function(name).is_some(), is_typed, "{version}");
    }
}

#[test]
fn a_kernel_without_types_or_symbols_is_refused_with_what_it_needs() {
    let refusal = |missing: &str| {
        let files = copy("6.1");
        fs::remove_file(files.path().join(missing)).unwrap();
        let error = Kernel::from_files(files.path(), &wanted_functions()).err().expect("it is refused");
        format!("{error:#}")
    };
    assert!(refusal("sys/kernel/btf/vmlinux").contains("CONFIG_DEBUG_INFO_BTF=y"));
    assert!(refusal("proc/kallsyms").contains("CONFIG_KALLSYMS=y"));
    assert!(refusal("proc/sys/kernel/osrelease").contains("osrelease"));
}

#[test]
fn damaged_types_are_an_error_and_no_panic() {
    let files = copy("6.1");
    let file: PathBuf = files.path().join(BTF_FOLDER).join("vmlinux");
    let whole = fs::read(&file).unwrap();
    for length in [0, 3, 23, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        assert!(Kernel::from_files(files.path(), &wanted_functions()).is_err(), "{length} bytes were taken");
    }
}
