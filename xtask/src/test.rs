//! `cargo xtask test`: everything that must hold before a change goes in.

use std::{ffi::OsString, path::PathBuf, process::Command, sync::Mutex};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use crate::{
    book, build_ebpf, confusion, coverage, host, labs,
    tally::{self, Step, Tally},
    tool::Tool,
    vm::{self, VmOptions, kernel::NAMES},
};

/// The kernel of the injection suite.
const TAIL_KERNEL: &str = "6.12";
/// The settings that are always tested, and that every point of the stage map can be probed; the others are, with
/// `--all`.
const CORE: &str =
    "host/,same-pod/,flannel-host-gw/,flannel-vxlan/,flannel-vxlan+ipv6/,calico-ipip/,rows/points";
/// The name by which the machine's own kernel is chosen.
const OWN_KERNEL: &str = "own";
/// Seconds that a kernel's tests may take: those of the core, and all. Beginning a recording of the full set takes
/// half a minute in a virtual machine, and there are some seventy.
const CORE_TIMEOUT: u64 = 2400;
const WHOLE_TIMEOUT: u64 = 10_800;
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
    /// Write down what was found instead of comparing it: in docs/src/coverage.md by which probes the kernels' stages are
    /// seen, in docs/src/labs-by-kernel.md which labs they can have, in docs/src/confusion.md what `tail` said of causes that were
    /// injected
    #[arg(long, requires = "all")]
    bless: bool,
    /// With --all: how often each cause of a bad tail is injected; the full suite is 20
    #[arg(long, value_name = "N", default_value_t = 3)]
    tail_runs: u32,
}

impl Test {
    /// Runs every step, also after one has failed, and prints the sum; true if nothing failed.
    pub fn run(&self) -> bool {
        let mut sum = Tally::default();
        sum.step("format", || format().map(|()| Tally::PASSED));
        let built = sum.step("kernel programs", || build_ebpf::build().map(|_| Tally::PASSED));
        if built {
            sum.step("lints", || lints().map(|()| Tally::PASSED));
            sum.step("documentation of the code", || code_docs().map(|()| Tally::PASSED));
            sum.step("oldest supported Rust", oldest_rust);
            sum.step("unit and golden tests", unit_tests);
            sum.step("documents and book", || book::check().map(|()| Tally::PASSED));
            sum.step("licences", || licences().map(|()| Tally::PASSED));
            self.matrix(&mut sum);
        }
        host::progress("done");
        println!("{sum}");
        sum.is_good()
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
        if !own.is_empty() {
            sum.step("kernel matrix, own", || own_kernel(self.all));
        }
    }

    /// The matrix under kernels of the distribution, in virtual machines.
    fn in_machines(&self, kernels: &[&str], sum: &mut Tally) {
        let ready = sum.step("kernels and programs of the matrix", || {
            kernels.iter().try_for_each(|kernel| vm::kernel::get(kernel).map(drop))?;
            matrix_program().map(|_| Tally::PASSED)
        });
        if kernels.is_empty() || !ready {
            return;
        }
        let all_outputs = Mutex::new(Vec::new());
        let outputs = &all_outputs;
        let step = |name: String, options: VmOptions, arguments: &'static [&str]| -> Step {
            let run = move || {
                let (tally, output) = virtual_machine(&options, arguments)?;
                outputs.lock().map_err(|_| anyhow!("another kernel's tests have panicked"))?.push(output);
                Ok(tally)
            };
            (name, Box::new(run))
        };
        let mut steps = Vec::new();
        for kernel in kernels {
            let seconds = if self.all { WHOLE_TIMEOUT } else { CORE_TIMEOUT };
            let options = VmOptions { timeout: Some(seconds), ..VmOptions::new(kernel) };
            let whole: &[&str] = &["--set", "full,light"];
            let core: &[&str] = &["--set", "full,light", "--only", CORE];
            let arguments = if self.all { whole } else { core };
            steps.push(step(format!("kernel matrix, {kernel}"), options.clone(), arguments));
            // What compares times needs a clock that does not depend on what else this machine does.
            let options = VmOptions { icount: true, ..options };
            steps.push(step(
                format!("kernel matrix, {kernel}, times"),
                options,
                &["--set", "full", "--truth"],
            ));
        }
        if self.all && kernels.contains(&TAIL_KERNEL) {
            let (runs, bless) = (self.tail_runs.to_string(), self.bless);
            let suite = move || {
                let timeout = Some(WHOLE_TIMEOUT);
                let options = VmOptions { timeout, icount: true, ..VmOptions::new(TAIL_KERNEL) };
                let arguments = ["--set", "full", "--tail", "--runs", &runs];
                let (tally, output) = virtual_machine(&options, &arguments)?;
                confusion::keep(&[output], TAIL_KERNEL, bless)?;
                Ok(tally)
            };
            steps.push((format!("injection suite, {TAIL_KERNEL}"), Box::new(suite)));
        }
        sum.steps_at_once(MACHINES, steps);
        if !self.all {
            return;
        }
        let outputs = all_outputs.into_inner().unwrap_or_default();
        sum.step("table of coverage", || {
            coverage::check(&outputs, &NAMES, self.bless).map(|()| Tally::PASSED)
        });
        sum.step("table of labs", || labs::check(&outputs, &NAMES, self.bless).map(|()| Tally::PASSED));
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

fn unit_tests() -> Result<Tally> {
    let (status, output) =
        host::watch(cargo().args(["test", "--workspace", "--no-fail-fast"]).env_remove(BLESS))?;
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
fn virtual_machine(options: &VmOptions, arguments: &[&str]) -> Result<(Tally, String)> {
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
    matrix.args(["--set", "device"]).current_dir(host::workspace());
    if !all {
        matrix.args(["--only", CORE]);
    }
    let (status, output) = host::watch(&mut matrix)?;
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
