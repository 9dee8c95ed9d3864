//! `cargo xtask vm`: runs a command under another kernel, in a virtual machine that sees this machine's files.

mod emulator;
mod initramfs;
pub mod kernel;
pub mod nics;
mod qemu;
mod suite;

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, IsTerminal},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::nics::Nic;
use self::qemu::{Accelerator, Boot, End};
use crate::{host, packages};

/// The time that a command gets if nothing else was said, in seconds.
const DEFAULT_TIMEOUT: u64 = 900;
const DEFAULT_PROCESSORS: u32 = 2;
const DEFAULT_MEMORY: &str = "3G";

/// The virtual machine that a command is to run in.
#[derive(Args, Clone)]
pub struct VmOptions {
    /// Version of the kernel: 5.10, 6.1, 6.12, 7.2
    pub kernel: String,
    /// Let one guest nanosecond be one guest instruction, so that times repeat exactly (one processor)
    #[arg(long)]
    pub icount: bool,
    /// Number of processors; at least as many as a NIC has queues
    #[arg(long, default_value_t = DEFAULT_PROCESSORS, conflicts_with = "icount")]
    pub cpus: u32,
    /// Memory, with a unit of qemu's
    #[arg(long, default_value = DEFAULT_MEMORY)]
    pub memory: String,
    /// Seconds after which the machine is stopped [default: 900; none for a shell]
    #[arg(long)]
    pub timeout: Option<u64>,
    /// A folder that the command can write to, at the same path as here; other changes are lost in the end
    #[arg(long)]
    pub share: Option<PathBuf>,
    /// A NIC of this driver (virtio, e1000e, igb, vmxnet3), perhaps with options, as in
    /// `virtio,queues=4,offloads=off,mrg_rxbuf=off`; once for each NIC. All NICs with the same `bridge=N` (0 if it is
    /// not given) are joined by a bridge of this machine's kernel, the two with the same `pair=N` directly. Other
    /// options are properties of QEMU's device. The guest's kernel names the NICs eth0, eth1, …; they are down
    #[arg(long = "nic", value_name = "DRIVER[,OPTION=VALUE…]")]
    pub nics: Vec<Nic>,
    /// The named network namespace in which the taps are made, and which has the bridges (br0, …) that they are put in
    /// [default: one of their own, which goes with the machine]
    #[arg(long, value_name = "NAME", requires = "nics")]
    pub netns: Option<String>,
    /// A file whose first megabyte the guest has as the memory of a PCI device (ivshmem)
    #[arg(long, value_name = "FILE")]
    pub shared_memory: Option<PathBuf>,
    /// A socket that QEMU takes commands from while the machine runs: `stop`, `cont`, …
    #[arg(long, value_name = "SOCKET")]
    pub monitor: Option<PathBuf>,
}

impl VmOptions {
    /// A kernel, and the defaults.
    pub fn new(kernel: &str) -> Self {
        Self {
            kernel: kernel.to_owned(),
            icount: false,
            cpus: DEFAULT_PROCESSORS,
            memory: DEFAULT_MEMORY.to_owned(),
            timeout: None,
            share: None,
            nics: Vec::new(),
            netns: None,
            shared_memory: None,
            monitor: None,
        }
    }

    fn processors(&self) -> u32 {
        let queues = self.nics.iter().map(Nic::processors).max().unwrap_or(1);
        if self.icount { 1 } else { self.cpus.max(queues) }
    }

    fn time_limit(&self, interactive: bool) -> Option<Duration> {
        let seconds = self.timeout.or((!interactive).then_some(DEFAULT_TIMEOUT));
        seconds.map(Duration::from_secs)
    }
}

/// True if this machine's processor seems able to run a guest itself.
pub fn has_kvm() -> bool {
    Accelerator::choose(&VmOptions::new("")) == Accelerator::Kvm
}

/// What became of a command in a virtual machine.
pub struct Finished {
    /// The command's exit status.
    pub status: ExitStatus,
    /// What it wrote to its standard output, which was also passed on as it came.
    pub output: String,
}

/// `cargo xtask vm KERNEL [-- COMMAND...]`
#[derive(Args)]
pub struct Vm {
    #[command(flatten)]
    options: VmOptions,
    /// What to run there, in the current folder; a shell if nothing is named
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl Vm {
    /// Runs the command and ends as it does.
    ///
    /// # Errors
    ///
    /// See [`run`].
    pub fn run(&self) -> Result<ExitCode> {
        let status = run(&self.options, &self.command)?.status;
        Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
    }
}

/// Makes ready what virtual machines need beside their kernels, before several are started at once.
///
/// # Errors
///
/// Something cannot be had.
pub fn prepare() -> Result<()> {
    emulator::get()?;
    packages::require(packages::LAB)
}

/// Runs a command in the current folder under another kernel, with this machine's files (which it cannot
/// change, except in [`VmOptions::share`]), and passes its output on. Without a command: a shell.
///
/// # Errors
///
/// The kernel or a program cannot be had, or the machine does not start, or stops before the command has ended.
pub fn run(options: &VmOptions, command: &[OsString]) -> Result<Finished> {
    if env::consts::ARCH != "x86_64" {
        bail!("the virtual machines need an x86-64 machine: they run its own programs");
    }
    if command.is_empty() && !io::stdin().is_terminal() {
        bail!("a shell needs a terminal: name a command after `--`");
    }
    nics::check(&options.nics)?;
    let emulator = emulator::get()?;
    packages::require(packages::LAB)?;
    let mut options = options.clone();
    if let Some(share) = &mut options.share {
        fs::create_dir_all(&*share).with_context(|| format!("cannot create {}", share.display()))?;
        *share = share.canonicalize().with_context(|| format!("cannot find {}", share.display()))?;
    }
    let kernel = kernel::get(&options.kernel)?;
    let mut accelerator = Accelerator::choose(&options);
    // QEMU 10.0 has a race at the start of guests with several devices and processors ("iotlb_to_section").
    let mut may_crash = true;
    loop {
        let control = tempfile::tempdir().context("cannot create a folder for the virtual machine")?;
        let control = control.path();
        fs::write(control.join("init"), include_str!("init.sh"))?;
        host::output(host::command("chmod").arg("755").arg(control.join("init")))?;
        fs::write(control.join("settings.sh"), settings(&options, &kernel)?)?;
        if !command.is_empty() {
            fs::write(control.join("command.sh"), command_script(command)?)?;
        }
        let initramfs = initramfs::build(&kernel, control)?;
        let image = kernel.image();
        let interactive = command.is_empty();
        let boot = Boot {
            options: &options,
            emulator: &emulator,
            image: &image,
            initramfs: &initramfs,
            control,
            interactive,
        };
        match boot.run(accelerator)? {
            End::Finished { status, output } => {
                return Ok(Finished { status: ExitStatus::from_raw(status << 8), output });
            }
            End::Crashed if may_crash => {
                may_crash = false;
                host::progress("the emulator has failed; starting the machine again, once");
            }
            End::Crashed => bail!("the emulator has failed twice (SIGABRT): what it said is above"),
            End::Hangs => {
                host::progress("the kernel does not start under KVM here; emulating the processor instead");
                accelerator = Accelerator::Emulated;
            }
        }
    }
}

/// What the guest's first process must know, as assignments of the shell.
fn settings(options: &VmOptions, kernel: &kernel::Kernel) -> Result<String> {
    let variable = |name: &str, fallback: &str| env::var(name).unwrap_or_else(|_| fallback.to_owned());
    let size = host::output(host::command("stty").args(["size", "--file=/dev/tty"])).unwrap_or_default();
    let (rows, columns) = size.split_once(' ').unwrap_or(("24", "80"));
    let values = [
        ("NAME", format!("linux-{}", options.kernel.replace('.', "-"))),
        ("DIRECTORY", env::current_dir().context("there is no current folder")?.display().to_string()),
        ("MODULES", kernel.all_modules().display().to_string()),
        ("SHARE", options.share.as_ref().map(|share| share.display().to_string()).unwrap_or_default()),
        ("NIC_MODULES", nics::modules(&options.nics)),
        ("PATH", variable("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"),
        ("HOME", variable("HOME", "/root")),
        ("TERM", variable("TERM", "linux")),
        ("SHELL", variable("SHELL", "/bin/sh")),
        ("ROWS", rows.to_owned()),
        ("COLUMNS", columns.to_owned()),
    ];
    values.iter().map(|(name, value)| Ok(format!("{name}={}\n", shlex::try_quote(value)?))).collect()
}

fn command_script(command: &[OsString]) -> Result<String> {
    let words: Option<Vec<&str>> = command.iter().map(|word| word.to_str()).collect();
    let words = words.context("the command must be valid UTF-8")?;
    Ok(format!("cd \"$DIRECTORY\" || exit 127\nexec {}\n", shlex::try_join(words)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_its_words() -> Result<()> {
        let words = ["sh", "-c", "echo 'a b' \"$HOME\"; exit 3", ""];
        let script = command_script(&words.map(OsString::from))?;
        let line = script.lines().last().and_then(|line| line.strip_prefix("exec ")).unwrap_or_default();
        assert_eq!(shlex::split(line).context("the shell cannot read it")?, words);
        Ok(())
    }
}
