//! A run of qemu: its command line, its output, its end.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use super::{VmOptions, emulator::Emulator, nics};
use crate::host;

/// A guest under KVM that has not come this far after this time hangs.
const KVM_START_LIMIT: Duration = Duration::from_secs(30);
/// Under the clock that counts instructions: without the fast string instructions (ERMS, FSRM, FSRS, FZRM, FSRC). QEMU
/// counts each byte that `rep movsb` copies or `rep stosb` sets as an instruction, where a processor counts one for
/// all; without them the kernel takes eight bytes at a time.
const INSTRUCTION_CPU: &str = "max,-erms,-fsrm,-fsrs,-fzrm,-fsrc";
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of the guest's console that an error shows.
const CONSOLE_LINES: usize = 25;

/// What the kernel is told besides. A processor that makes no headway for two minutes (twice `watchdog_thresh`)
/// ends the guest, and its console then shows where it was.
const PARAMETERS: &str = "console=ttyS0 quiet loglevel=3 panic=-1 oops=panic watchdog_thresh=60 softlockup_panic=1 \
                          mitigations=off audit=0 tsc=reliable no_timer_check";

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The guest's processor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The machine's own processor.
    Kvm,
    /// Emulation in ordinary time.
    Emulated,
    /// Emulation in which one guest nanosecond is one guest instruction.
    InstructionClock,
}

impl Accelerator {
    /// The fastest that the options allow and that this machine seems to have.
    pub fn choose(options: &VmOptions) -> Self {
        // Guests need matching support to run on kvm_pvm; a distribution's kernel hangs there.
        let usable = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
            && !Path::new("/sys/module/kvm_pvm").exists();
        match (options.icount, usable) {
            (true, _) => Self::InstructionClock,
            (false, true) => Self::Kvm,
            (false, false) => Self::Emulated,
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Emulated => &["-accel", "tcg,thread=multi", "-cpu", "max"],
            Self::InstructionClock => {
                &["-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", INSTRUCTION_CPU]
            }
        }
    }
}

/// What a guest is started with.
pub struct Boot<'a> {
    pub options: &'a VmOptions,
    pub emulator: &'a Emulator,
    pub image: &'a Path,
    pub initramfs: &'a Path,
    /// The folder through which host and guest talk.
    pub control: &'a Path,
    /// The guest's console is this process's terminal.
    pub interactive: bool,
}

/// The signal by which a failed assertion ends a process, on Linux. A shell in between gives 128 more as its status.
const SIGABRT: i32 = 6;

/// How a guest ended.
pub enum End {
    /// The command ended with this status; this is what it wrote to its standard output.
    Finished { status: i32, output: String },
    /// Under KVM, it did not start.
    Hangs,
    /// The emulator itself has failed (SIGABRT: an assertion of QEMU's).
    Crashed,
}

impl Boot<'_> {
    /// Runs the guest to its end.
    ///
    /// # Errors
    ///
    /// The guest cannot be started, takes too long, is interrupted, or stops before its command has ended.
    pub fn run(&self, accelerator: Accelerator) -> Result<End> {
        catch_signals();
        let mut child = self.command(accelerator).spawn().context("cannot start qemu-system-x86_64")?;
        let output = child.stdout.take().map(|pipe| host::pass_on(pipe, io::stdout()));
        let errors = child.stderr.take().map(|pipe| host::pass_on(pipe, io::stderr()));
        let ended = self.wait(&mut child, accelerator);
        let output = output.map(host::passed_on).unwrap_or_default();
        errors.map(host::passed_on);
        let Some(emulator) = ended? else { return Ok(End::Hangs) };
        if emulator.signal() == Some(SIGABRT) || emulator.code() == Some(128 + SIGABRT) {
            return Ok(End::Crashed);
        }
        let status = fs::read_to_string(self.control.join("status")).unwrap_or_default();
        match status.trim().parse() {
            Ok(status) => Ok(End::Finished { status, output }),
            Err(_) => bail!("the guest stopped before its command had ended{}", self.console()),
        }
    }

    fn command(&self, accelerator: Accelerator) -> Command {
        let options = self.options;
        // Should this process be killed, the guest goes with it.
        let killed_too = ["setpriv", "--pdeathsig", "KILL"].map(str::to_owned);
        let mut words =
            nics::enclosure(&options.nics, options.netns.as_deref()).into_iter().chain(killed_too);
        let mut qemu = Command::new(words.next().unwrap_or_default());
        qemu.args(words)
            .arg(&self.emulator.program)
            .args(self.emulator.data.iter().flat_map(|folder| [OsStr::new("-L"), folder.as_os_str()]))
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"])
            .args(nics::arguments(&options.nics, self.control))
            .args(accelerator.arguments())
            .args(["-smp", &options.processors().to_string(), "-m", &options.memory])
            .arg("-kernel")
            .arg(self.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", PARAMETERS])
            .args(share("root", Path::new("/"), true))
            .args(share("control", self.control, false))
            .args(options.share.iter().flat_map(|folder| share("share", folder, false)))
            .args(options.shared_memory.iter().flat_map(|file| shared_memory(file)))
            .args(options.monitor.iter().flat_map(|socket| monitor(socket)));
        if self.interactive {
            qemu.args(["-chardev", "stdio,id=console,mux=on,signal=off", "-serial", "chardev:console"]);
            return qemu;
        }
        qemu.args(["-serial", &format!("file:{}", self.console_log().display())])
            .args([
                "-chardev",
                "file,id=output,path=/dev/stdout,append=on",
                "-chardev",
                "file,id=errors,path=/dev/stderr,append=on",
            ])
            .args(["-device", "virtio-serial-pci"])
            .args([
                "-device",
                "virtserialport,nr=1,chardev=output",
                "-device",
                "virtserialport,nr=2,chardev=errors",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        qemu
    }

    /// Waits for the emulator's end; `None` when the guest hung under KVM.
    fn wait(&self, child: &mut Child, accelerator: Accelerator) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        let limit = self.options.time_limit(self.interactive);
        loop {
            if let Some(status) = child.try_wait().context("cannot wait for qemu")? {
                return Ok(Some(status));
            }
            let started = || self.control.join("started").exists();
            let verdict = if INTERRUPTED.load(Ordering::Relaxed) {
                Err(anyhow!("interrupted"))
            } else if limit.is_some_and(|limit| start.elapsed() > limit) {
                let seconds = limit.unwrap_or_default().as_secs();
                Err(anyhow!("the guest was stopped after {seconds} s (--timeout){}", self.console()))
            } else if accelerator == Accelerator::Kvm && start.elapsed() > KVM_START_LIMIT && !started() {
                Ok(None)
            } else {
                thread::sleep(POLL_INTERVAL);
                continue;
            };
            // It may have ended by itself in the meantime.
            let _ = child.kill();
            child.wait().context("cannot wait for qemu")?;
            return verdict;
        }
    }

    fn console_log(&self) -> PathBuf {
        self.control.join("console.log")
    }

    /// What the guest's console says about its end, for an error message.
    fn console(&self) -> String {
        let text = fs::read(self.console_log()).unwrap_or_default();
        match decisive_lines(&String::from_utf8_lossy(&text)).as_slice() {
            [] => "; it left nothing on its console".to_owned(),
            lines => format!("; its console says:\n    {}", lines.join("\n    ")),
        }
    }
}

/// The lines from the kernel's first complaint on, or the last ones if it made none.
fn decisive_lines(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let complains = |line: &&str| ["BUG:", "Oops", "Kernel panic"].iter().any(|word| line.contains(word));
    let last = lines.len().saturating_sub(CONSOLE_LINES);
    let start = lines.iter().position(complains).unwrap_or(last).min(last);
    lines[start..].iter().take(2 * CONSOLE_LINES).copied().collect()
}

/// A path as a part of an option, which a comma would end; qemu wants it doubled.
fn in_option(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn share(tag: &str, folder: &Path, read_only: bool) -> [String; 2] {
    let access = if read_only { "on" } else { "off" };
    let path = in_option(folder);
    let rest = "security_model=none,multidevs=remap";
    ["-virtfs".to_owned(), format!("local,path={path},mount_tag={tag},readonly={access},{rest}")]
}

fn monitor(socket: &Path) -> [String; 2] {
    ["-monitor".to_owned(), format!("unix:{},server=on,wait=off", in_option(socket))]
}

fn shared_memory(file: &Path) -> [String; 4] {
    let path = in_option(file);
    [
        "-object".to_owned(),
        format!("memory-backend-file,id=shared,mem-path={path},size=1M,share=on"),
        "-device".to_owned(),
        "ivshmem-plain,memdev=shared".to_owned(),
    ]
}

/// Makes Ctrl-C and polite kills end the guest and remove its folder, instead of this process alone.
fn catch_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)) {
            host::progress(&format!(
                "signals cannot be caught ({error}); Ctrl-C will leave a temporary folder"
            ));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_shown_from_its_first_line() {
        let trace = "frame\n".repeat(40);
        let text =
            format!("booting\n\nBUG: unable to handle page fault\n{trace}Kernel panic - not syncing\n");
        assert_eq!(decisive_lines(&text).first(), Some(&"BUG: unable to handle page fault"));
    }

    #[test]
    fn without_a_panic_the_last_lines_are_shown() {
        let text: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let lines = decisive_lines(&text);
        assert_eq!((lines.len(), lines.last()), (CONSOLE_LINES, Some(&"line 99")));
    }
}
