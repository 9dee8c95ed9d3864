//! Running the real tools.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where tools lie that an ordinary PATH leaves out.
const SYSTEM_PATHS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// The tool's file.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SYSTEM_PATHS.map(PathBuf::from));
    which::which_in(name, env::join_paths(folders).ok(), "/").ok()
}

/// A command of the tool, in a process group of its own: Ctrl-C shall not end it half-way.
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

/// Runs a command; what it prints is the error when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    feed(command, "").map_err(|error| {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        let program = PathBuf::from(command.get_program());
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        error.context(format!("`{name} {}` failed", arguments.join(" ")))
    })
}

/// Runs a command of the tool for each line, whose words are separated by spaces.
pub fn each(name: &str, lines: &str) -> Result<()> {
    lines.lines().try_for_each(|line| run(command(name)?.args(line.split(' '))))
}

/// Runs a command with this input. When it complains about a line of it, so does the error, with the
/// line's text.
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that stops reading at a faulty line says so below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let line = faulty_line(&complaint).and_then(|number| input.lines().nth(number.checked_sub(1)?));
    match line {
        Some(line) => bail!("`{}`: {complaint}", line.trim()),
        None if complaint.is_empty() => bail!("it ended with {}", output.status),
        None => bail!("{complaint}"),
    }
}

/// The number of the line that `ip -batch` ("Command failed -:3") or `iptables-restore` ("line 3 failed",
/// "Error occurred at line: 3") complains about, from 1.
pub fn faulty_line(complaint: &str) -> Option<usize> {
    let after = ["Command failed -:", "Error occurred at line: ", "line "]
        .iter()
        .find_map(|words| complaint.split(words).nth(1))?;
    let digits = after.find(|other: char| !other.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().ok()
}

/// Assigns kernel parameters in the namespace that the calling thread is in.
pub fn assign(lines: &str) -> Result<()> {
    for line in lines.lines() {
        let (name, value) =
            line.split_once('=').with_context(|| format!("`{line}` is not of the form NAME = VALUE"))?;
        // As in sysctl.conf, a slash stands for a dot in a device's name.
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
