//! `cargo xtask test`: everything that must hold before a change goes in.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::Command,
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};

use crate::{
    book, build_ebpf, confusion, coverage, drivers, host, labs,
    pieces::{self, Piece, TAIL_KERNEL},
    remembered::Remembered,
    tally::{self, Step, Tally},
    tool::Tool,
    vm::{self, VmOptions, kernel::NAMES},
};

/// The name by which the machine's own kernel is chosen.
const OWN_KERNEL: &str = "own";
/// The kernel of the two guests whose recordings are merged.
const GUESTS_KERNEL: &str = "6.12";
/// With `--part` nothing new is begun after this time.
const PART_LIMIT: Duration = Duration::from_secs(3600);
/// With this variable golden tests write their files instead of comparing them: it must not be inherited here.
const BLESS: &str = "BLESS";
/// What checks licences.
const DENY: Tool = Tool { name: "cargo-deny", version: "0.20", features: None };
/// How many virtual machines run at once. Much of the time they wait for their traffic.
const MACHINES: usize = 2;

/// `cargo xtask test`
#[derive(Args)]
pub struct Test {
    /// Leave out the kernel matrix
    #[arg(long, conflicts_with = "kernel")]
    quick: bool,
    /// Test under these kernels only: a version, or `own` for the machine's [default: every one]
    #[arg(long)]
    kernel: Vec<String>,
    /// The whole matrix: every setting and every row under every kernel
    #[arg(long, conflicts_with = "quick")]
    all: bool,
    /// With --all: this part only. What has passed at this commit is not run again, and nothing new is begun after an
    /// hour: run the same command again until it passes
    #[arg(long, value_enum, value_name = "PART", requires = "all")]
    part: Vec<Part>,
    /// Write down what was found instead of comparing it: in docs/src/coverage.md by which probes the kernels' stages are
    /// seen, in docs/src/labs-by-kernel.md which labs they can have, in docs/src/drivers.md which NICs' packets are seen, in docs/src/confusion.md what `tail` said of causes that were
    /// injected
    #[arg(long, requires = "all")]
    bless: bool,
    /// With --all: how often each cause of a bad tail is injected; the full suite is 20
    #[arg(long, value_name = "N", default_value_t = 3)]
    tail_runs: u32,
}

/// A part of `--all`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What needs no virtual machine
    Checks,
    /// Every setting, row and lab under every kernel
    Matrix,
    /// Labs over the NICs that QEMU emulates
    Nic,
    /// Injected causes of bad tails
    Tail,
}

/// What a piece of the matrix has said.
struct Said {
    part: Part,
    /// The NIC, where drivers are compared.
    nic: Option<&'static str>,
    output: String,
}

impl Test {
    /// Runs every step, also after one has failed, and prints the sum; true if nothing failed.
    pub fn run(&self) -> bool {
        let mut sum = Tally::default();
        let has_checks = self.has(Part::Checks);
        if has_checks {
            sum.step("format", || format().map(|()| Tally::PASSED));
        }
        let built = sum.step("kernel programs", || build_ebpf::build().map(|_| Tally::PASSED));
        if built && has_checks {
            sum.step("lints", || lints().map(|()| Tally::PASSED));
            sum.step("documentation of the code", || code_docs().map(|()| Tally::PASSED));
            sum.step("oldest supported Rust", oldest_rust);
            sum.step("unit and golden tests", || unit_tests(self.all));
            sum.step("documents and book", || book::check().map(|()| Tally::PASSED));
            sum.step("licences", || licences().map(|()| Tally::PASSED));
        }
        if built {
            self.matrix(&mut sum);
        }
        host::progress("done");
        println!("{sum}");
        sum.is_good()
    }

    /// Whether the part is to be run.
    fn has(&self, part: Part) -> bool {
        self.part.is_empty() || self.part.contains(&part)
    }

    fn matrix(&self, sum: &mut Tally) {
        if self.quick {
            sum.step("kernel matrix", || Ok(Tally::skipped("--quick")));
            return;
        }
        let kernels: Vec<&str> = if self.kernel.is_empty() {
            NAMES.iter().copied().chain([OWN_KERNEL]).collect()
        } else {
            self.kernel.iter().map(String::as_str).collect()
        };
        let (own, others): (Vec<&str>, Vec<&str>) =
            kernels.into_iter().partition(|kernel| *kernel == OWN_KERNEL);
        self.in_machines(&others, sum);
        if !own.is_empty() && self.has(Part::Matrix) {
            sum.step("kernel matrix, own", || own_kernel(self.all));
            sum.step("two guests", || two_guests(self.all));
        }
    }

    /// The matrix under kernels of the distribution, in virtual machines.
    fn in_machines(&self, kernels: &[&str], sum: &mut Tally) {
        let mut pieces = Vec::new();
        let ready = sum.step("kernels and programs of the matrix", || {
            kernels.iter().try_for_each(|kernel| vm::kernel::get(kernel).map(drop))?;
            pieces = pieces::of(kernels, self.all, self.tail_runs)?;
            if !pieces.is_empty() {
                vm::prepare()?;
            }
            matrix_program().map(|_| Tally::PASSED)
        });
        pieces.retain(|piece| self.has(piece.part));
        if pieces.is_empty() || !ready {
            return;
        }
        let begin = Instant::now();
        let remembered =
            if self.part.is_empty() { Remembered::nothing() } else { Remembered::of_this_commit() };
        let all_outputs = Mutex::new(Vec::new());
        let step = |piece: Piece| -> Step {
            let (remembered, outputs, name) = (&remembered, &all_outputs, piece.name.clone());
            let run = move || {
                let (tally, output) = remembered.or_run(&piece.name, || {
                    if !self.part.is_empty() && begin.elapsed() > PART_LIMIT {
                        bail!("not begun after an hour: run the same command again, it goes on from here");
                    }
                    virtual_machine(&piece.options, &piece.arguments)
                })?;
                let mut outputs =
                    outputs.lock().map_err(|_| anyhow!("another kernel's tests have panicked"))?;
                outputs.push(Said { part: piece.part, nic: piece.nic, output });
                Ok(tally)
            };
            (name, Box::new(run))
        };
        sum.steps_at_once(MACHINES, pieces.into_iter().map(step).collect());
        if self.all {
            self.tables(&all_outputs.into_inner().unwrap_or_default(), sum);
        }
    }

    /// The book's tables of what was found.
    fn tables(&self, said: &[Said], sum: &mut Tally) {
        let of = |part: Part| -> Vec<String> {
            said.iter().filter(|one| one.part == part).map(|one| one.output.clone()).collect()
        };
        let with_nics: Vec<(&str, &str)> =
            said.iter().filter_map(|one| Some((one.nic?, one.output.as_str()))).collect();
        let (matrix, tail) = (of(Part::Matrix), of(Part::Tail));
        if !matrix.is_empty() {
            sum.step("table of coverage", || {
                coverage::check(&matrix, &NAMES, self.bless).map(|()| Tally::PASSED)
            });
            sum.step("table of labs", || labs::check(&matrix, &NAMES, self.bless).map(|()| Tally::PASSED));
        }
        if !with_nics.is_empty() {
            sum.step("table of drivers", || drivers::check(&with_nics, self.bless).map(|()| Tally::PASSED));
        }
        if !tail.is_empty() {
            sum.step("table of causes", || {
                confusion::keep(&tail, TAIL_KERNEL, self.bless).map(|()| Tally::PASSED)
            });
        }
    }
}

fn cargo() -> Command {
    let mut cargo = host::command("cargo");
    cargo.current_dir(host::workspace());
    cargo
}

fn format() -> Result<()> {
    host::run(cargo().args(["fmt", "--all", "--check"]))?;
    host::run(cargo().args(["fmt", "--check"]).current_dir(host::workspace().join("overlay-trace-ebpf")))
}

fn lints() -> Result<()> {
    host::run(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // The kernel programs are checked for the host: their own target has no clippy. Instructions of BPF are left out.
    let mut kernel_side = cargo();
    kernel_side.args(["clippy", "--quiet", "--target-dir"]).arg(host::workspace().join("target/ebpf-clippy"));
    kernel_side.args(["--", "-D", "warnings"]);
    host::run(kernel_side.current_dir(host::workspace().join("overlay-trace-ebpf")))
}

/// The documentation comments: broken links are errors.
fn code_docs() -> Result<()> {
    host::run(cargo().args(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

/// The workspace compiles with the Rust that its `rust-version` names.
fn oldest_rust() -> Result<Tally> {
    let (oldest, here) =
        (env!("CARGO_PKG_RUST_VERSION"), host::output(host::command("rustc").arg("--version"))?);
    if here.starts_with(&format!("rustc {oldest}.")) {
        // Every other step has compiled with it.
        return Ok(Tally::PASSED);
    }
    let toolchain = format!("+{oldest}");
    if host::output(host::command("rustc").args([&toolchain, "--version"])).is_err() {
        return Ok(Tally::skipped(&format!("Rust {oldest} is not here: rustup toolchain install {oldest}")));
    }
    // In a folder of its own, so that neither compiler throws away what the other has built.
    let target = host::target().join("oldest-rust");
    let check = ["check", "--quiet", "--workspace", "--all-targets", "--locked"];
    host::run(cargo().arg(toolchain).args(check).env("CARGO_TARGET_DIR", target))?;
    Ok(Tally::PASSED)
}

/// The generated cases are the same each time, so that a change is judged by what it changes. In a night there are others, and
/// mutated recordings are tried for an hour.
fn unit_tests(all: bool) -> Result<Tally> {
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]).env_remove(BLESS);
    let night = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_secs() / 86_400);
    let seed = if all { night() } else { 1 }.to_string();
    tests.env("PROPTEST_RNG_SEED", &seed).env("OVERLAY_TRACE_FUZZ_SEED", &seed);
    if all {
        tests.env("OVERLAY_TRACE_FUZZ_SECONDS", "3600");
    }
    let (status, output) = host::watch(&mut tests)?;
    Ok(tally::of_cargo(&output).checked(status.success()))
}

/// The licences and sources of everything that is linked, against deny.toml; of the kernel programs too.
fn licences() -> Result<()> {
    let deny = DENY.find()?;
    let workspace = host::workspace();
    for folder in [workspace.clone(), workspace.join("overlay-trace-ebpf")] {
        let mut check = host::command(&deny);
        check.args(["--workspace", "--config"]).arg(workspace.join("deny.toml")).arg("check");
        // Neither workspace has every licence that may be had.
        check.args(["--allow", "license-not-encountered", "--allow", "license-exception-not-encountered"]);
        check.args(["bans", "licenses", "sources"]);
        host::run(check.current_dir(folder))?;
    }
    Ok(())
}

/// The program that tests under one kernel.
pub fn matrix_program() -> Result<PathBuf> {
    let program = host::build_binaries()?.join("matrix");
    if !program.is_file() {
        bail!("the package overlay-trace-tests has no program `matrix`");
    }
    Ok(program)
}

/// Runs the matrix in a virtual machine; gives what it counted and what it said.
fn virtual_machine(options: &VmOptions, arguments: &[String]) -> Result<(Tally, String)> {
    let mut command = vec![matrix_program()?.into_os_string()];
    command.extend(arguments.iter().map(OsString::from));
    let finished = vm::run(options, &command)?;
    let tally = of_matrix(&finished.output, finished.status.success())?;
    Ok((tally, finished.output))
}

fn own_kernel(all: bool) -> Result<Tally> {
    if !host::is_root() {
        bail!("the tests under the machine's own kernel need root: run `cargo xtask test` as root");
    }
    let mut matrix = Command::new(matrix_program()?);
    matrix.args(["--set", "device,tc"]).current_dir(host::workspace());
    if !all {
        matrix.args(["--only", &pieces::core(OWN_KERNEL)]);
    }
    let (status, output) = host::watch(&mut matrix)?;
    of_matrix(&output, status.success())
}

/// Guests and the machine's own kernel, recorded at once and merged.
fn two_guests(all: bool) -> Result<Tally> {
    if !host::is_root() {
        bail!("two guests on taps need root: run `cargo xtask test` as root");
    }
    vm::prepare()?;
    vm::kernel::get(GUESTS_KERNEL)?;
    let xtask = env::current_exe().context("this program cannot be found")?;
    let mut matrix = Command::new(matrix_program()?);
    matrix.args([
        "--set",
        if all { "light,full" } else { "light" },
        "--guest-kernel",
        GUESTS_KERNEL,
        "--two-guests",
    ]);
    matrix.arg(xtask);
    let (status, output) = host::watch(matrix.current_dir(host::workspace()))?;
    of_matrix(&output, status.success())
}

/// A kernel under which nothing was tested has not passed.
fn of_matrix(output: &str, success: bool) -> Result<Tally> {
    let tally = tally::last_line(output).context("the matrix ended without its last line, `N passed, …`")?;
    if tally.passed == 0 && tally.failed == 0 {
        bail!("nothing was tested under this kernel ({tally})");
    }
    Ok(tally.checked(success))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_under_which_all_was_skipped_has_not_passed() {
        assert!(of_matrix("6.1  vxlan  skipped (no module)\n0 passed, 0 failed, 1 skipped\n", true).is_err());
        assert!(of_matrix("", true).is_err());
    }

    #[test]
    fn a_failure_that_the_matrix_did_not_count_is_counted() -> Result<()> {
        assert!(of_matrix("3 passed, 0 failed, 0 skipped\n", true)?.is_good());
        assert!(!of_matrix("3 passed, 0 failed, 0 skipped\n", false)?.is_good());
        assert!(!of_matrix("3 passed, 1 failed, 0 skipped\n", true)?.is_good());
        Ok(())
    }
}
