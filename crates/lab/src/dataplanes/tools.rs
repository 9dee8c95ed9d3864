//! Finding and running programs.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::Signal;

/// Directories of administration tools, which an unprivileged user's PATH often lacks.
const SYSTEM_PATHS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// The directories that are searched for programs: those of PATH, then the system's. Root runs them, so none depends on
/// the current directory, as an empty part of PATH does.
pub fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let named = env::split_paths(&path).filter(|directory| directory.is_absolute());
    named.chain(SYSTEM_PATHS.map(PathBuf::from)).collect()
}

/// The file of this name in the first of the directories that has one.
pub fn find_in(directories: &[PathBuf], name: &str) -> Option<PathBuf> {
    directories.iter().map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// The program's file.
pub fn find(name: &str) -> Option<PathBuf> {
    find_in(&search_path(), name)
}

/// A command that runs the tool in its own process group, so that Ctrl-C does not interrupt it half-way.
pub fn command(name: &str) -> Result<Command> {
    let package = match name {
        "ip" | "tc" | "bridge" => "iproute2",
        "modprobe" => "kmod",
        "ipset" | "ipvsadm" => name,
        "ovs-dpctl" => "openvswitch-switch",
        "wg" => "wireguard-tools",
        "bird" => "bird2",
        _ => "iptables",
    };
    let file = find(name)
        .with_context(|| format!("the command {name} is missing: install the package {package}"))?;
    let mut command = Command::new(file);
    command.process_group(0);
    Ok(command)
}

/// Runs a command; its standard error is the error message when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    feed(command, "").map_err(|error| {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        let program = PathBuf::from(command.get_program());
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        error.context(format!("`{name} {}` failed", arguments.join(" ")))
    })
}

/// Runs a command and gives what it writes to its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the tool once per line; spaces separate the arguments.
pub fn run_each(name: &str, lines: &str) -> Result<()> {
    lines.lines().try_for_each(|line| run(command(name)?.args(line.split(' '))))
}

/// Runs a command with this standard input. When its error message names a line of the input, the error quotes
/// that line.
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that stops reading at a faulty line reports it below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let line = faulty_line(&message).and_then(|number| input.lines().nth(number.checked_sub(1)?));
    match line {
        Some(line) => bail!("`{}`: {message}", line.trim()),
        None if message.is_empty() => bail!("it exited with {}", output.status),
        None => bail!("{message}"),
    }
}

/// The line number, from 1, in an error message of `ip -batch` ("Command failed -:3") or `iptables-restore`
/// ("line 3 failed", "Error occurred at line: 3").
pub fn faulty_line(message: &str) -> Option<usize> {
    let after = ["Command failed -:", "Error occurred at line: ", "line "]
        .iter()
        .find_map(|words| message.split(words).nth(1))?;
    let digits = after.find(|other: char| !other.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().ok()
}

/// Writes sysctls in the network namespace of the calling thread.
pub fn write_sysctls(lines: &str) -> Result<()> {
    for line in lines.lines() {
        let (name, value) =
            line.split_once('=').with_context(|| format!("`{line}` is not of the form NAME = VALUE"))?;
        // As in sysctl.conf, a slash in the name stands for a dot of a device name.
        let path = name.trim().chars().map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        });
        let file = format!("/proc/sys/{}", path.collect::<String>());
        fs::write(&file, value.trim()).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

/// Makes the kernel kill the command's process when the thread that spawns it ends, so that it does not outlive
/// this process. The spawning thread must therefore wait for the child.
pub fn kill_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let hook = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before prctl took effect.
        if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::Error::ESRCH.into()) }
    };
    // SAFETY: the hook runs between fork and exec. It makes only the system calls prctl and getppid, which are
    // async-signal-safe; it allocates no memory and takes no lock, also when it fails.
    unsafe { command.pre_exec(hook) };
}
