//! The kernel matrix in pieces: what runs in one virtual machine each.

use anyhow::Result;

use crate::{
    nics,
    test::Part,
    vm::{VmOptions, kernel::NAMES},
};

/// The kernel of the injection suite.
pub const TAIL_KERNEL: &str = "6.12";
/// The settings that are always tested, and that every point of the stage map can be probed; the others are, with
/// `--all`.
const CORE: &str =
    "host/,same-pod/,flannel-host-gw/,flannel-vxlan/,flannel-vxlan+ipv6/,calico-ipip/,rows/points";
/// The set `tc`, in the core run of a kernel that has no tcx.
const TC: &str = "tc/";
/// That the machine is left alone, in the core run of one kernel with modules: it depends little on the version.
const LEFT_ALONE: &str = "untouched/looking,ownership/";
/// Kernels whose times the core run does not compare: one of the comparisons is known to fail (CHANGELOG.md).
const TIMES_KNOWN_TO_DIFFER: [&str; 1] = ["5.10"];
/// How often each case is brought about, in one recording.
const CASES_RUNS: &str = "10";
/// The cases of the core run, once each.
const CORE_CASES: &str = "cases/vtep-address,cases/stale-entry,cases/unknown-spi";
/// How recordings end, which packets a sample has, and what their threads may do meanwhile: several recordings, which take long to begin in a virtual
/// machine.
const ENDS: &str = "ends/,sampling/,node/privileges,node/netns-number-reused";
/// Seconds that a kernel's tests may take: those of the core, and all. Beginning a recording of the full set takes
/// half a minute in a virtual machine, and there are some seventy.
const CORE_TIMEOUT: u64 = 2400;
const WHOLE_TIMEOUT: u64 = 10_800;
/// Those of a machine with NICs.
const NIC_TIMEOUT: u64 = 2400;

/// A virtual machine, and what of the matrix is run in it.
pub struct Piece {
    pub part: Part,
    pub name: String,
    /// The NIC, where drivers are compared.
    pub nic: Option<&'static str>,
    pub options: VmOptions,
    pub arguments: Vec<String>,
}

impl Piece {
    fn new(part: Part, name: String, options: VmOptions, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        Self { part, name, nic: None, options, arguments }
    }
}

/// The pieces under these kernels of the distribution; without `all` those of the core run. Each cause of a bad tail is
/// injected `tail_runs` times.
///
/// # Errors
///
/// A NIC's description is wrong.
pub fn of(kernels: &[&str], all: bool, tail_runs: u32) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for kernel in NAMES.iter().filter(|kernel| kernels.contains(kernel)) {
        pieces.extend(of_kernel(kernel, all));
    }
    for machine in nics::MACHINES.iter().filter(|machine| kernels.contains(&machine.kernel)) {
        if all || machine.core {
            let (options, arguments) = (machine.options(NIC_TIMEOUT)?, machine.arguments(all));
            let (name, nic) = (machine.name(), machine.compared_nic());
            pieces.push(Piece { part: Part::Nic, name, nic, options, arguments });
        }
    }
    if all && kernels.contains(&TAIL_KERNEL) {
        let options = VmOptions { timeout: Some(WHOLE_TIMEOUT), icount: true, ..VmOptions::new(TAIL_KERNEL) };
        let runs = tail_runs.to_string();
        let name = format!("injection suite, {TAIL_KERNEL}, {runs} runs");
        pieces.push(Piece::new(Part::Tail, name, options, &["--set", "full", "--tail", "--runs", &runs]));
    }
    if kernels.contains(&TAIL_KERNEL) {
        pieces.push(cases(all));
    }
    Ok(pieces)
}

/// The cases that people reported.
fn cases(all: bool) -> Piece {
    let seconds = if all { WHOLE_TIMEOUT } else { CORE_TIMEOUT };
    let options = VmOptions { timeout: Some(seconds), ..VmOptions::new(TAIL_KERNEL) };
    let how_often: &[&str] =
        if all { &["--runs", CASES_RUNS] } else { &["--runs", "1", "--only", CORE_CASES] };
    let arguments = [&["--set", "full", "--cases"][..], how_often].concat();
    Piece::new(Part::Tail, format!("cases, {TAIL_KERNEL}"), options, &arguments)
}

/// The tests of the core run under a kernel, by parts of their names; under one that is not the distribution's, all.
pub fn core(kernel: &str) -> String {
    let further: &[&str] = match kernel {
        "5.10" | "7.2" => &[],
        "6.1" => &[TC],
        "6.12" => &[LEFT_ALONE],
        _ => &[TC, LEFT_ALONE, ENDS],
    };
    [&[CORE], further].concat().join(",")
}

fn of_kernel(kernel: &str, all: bool) -> Vec<Piece> {
    let seconds = if all { WHOLE_TIMEOUT } else { CORE_TIMEOUT };
    let options = VmOptions { timeout: Some(seconds), ..VmOptions::new(kernel) };
    let whole: &[&str] = &["--set", "full,light,tc"];
    let core = core(kernel);
    let core: &[&str] = &["--set", "full,light,tc", "--only", &core];
    let arguments = if all { whole } else { core };
    let name = format!("kernel matrix, {kernel}");
    // What compares times needs a clock that does not depend on what else this machine does.
    let exact = VmOptions { icount: true, ..options.clone() };
    let times = ["--set", "full", "--truth"];
    let mut pieces = vec![Piece::new(Part::Matrix, name.clone(), options, arguments)];
    if all || !TIMES_KNOWN_TO_DIFFER.contains(&kernel) {
        pieces.push(Piece::new(Part::Matrix, name + ", times", exact, &times));
    }
    pieces
}
