//! This machine: its folders, its programs, and how to run them.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, bail};

/// The root folder of the workspace.
pub fn workspace() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The folder in which everything that is built or downloaded once is kept:
/// `$XDG_CACHE_HOME/overlay-trace`, by default `~/.cache/overlay-trace`.
///
/// # Errors
///
/// Neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => match env::var_os("HOME").filter(|value| !value.is_empty()) {
            Some(home) => PathBuf::from(home).join(".cache"),
            None => bail!("there is no place for downloads: set HOME or XDG_CACHE_HOME"),
        },
    };
    Ok(base.join("overlay-trace"))
}

/// Tells a person what is being done.
pub fn progress(what: &str) {
    eprintln!("xtask: {what}");
}

/// True when this process may install packages and use namespaces.
pub fn is_root() -> bool {
    let uid = Command::new("id").arg("-u").output();
    uid.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The full path of a program, looked for in PATH and in the folders of the administrator's programs.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let folders = env::split_paths(&path).chain(system);
    which::which_in(name, env::join_paths(folders).ok(), "/").ok()
}

/// A command without the variables that `cargo run` sets for this program alone, and by which a build in
/// the child would take itself for this one.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    const PREFIXES: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    const NAMES: [&str; 4] = ["CARGO", "CARGO_PRIMARY_PACKAGE", "LD_LIBRARY_PATH", "RUST_RECURSION_COUNT"];
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if NAMES.contains(&&*text) || PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Builds the workspace's programs for development; gives their folder. The kernel programs must be built.
///
/// # Errors
///
/// They do not compile.
pub fn build_binaries() -> Result<PathBuf> {
    let mut cargo = command("cargo");
    cargo.args(["build", "--workspace", "--exclude", "xtask", "--bins"]).current_dir(workspace());
    run(&mut cargo)?;
    Ok(target().join("debug"))
}

/// Builds the `overlay-trace` program as it is released, and gives its path. The kernel programs must be built.
///
/// # Errors
///
/// It does not compile.
pub fn build_release() -> Result<PathBuf> {
    let mut cargo = command("cargo");
    run(cargo.args(["build", "--release", "--package", "overlay-trace", "--bins"]).current_dir(workspace()))?;
    Ok(target().join("release/overlay-trace"))
}

/// The folder of everything that is built.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a command with this process's own input and output.
///
/// # Errors
///
/// It cannot be started, or it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a command and gives what it wrote to its standard output, without the final line break.
///
/// # Errors
///
/// It cannot be started, or it fails; its error output is part of the message.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shown(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Runs a command with this process's own error output, passes on its standard output as it comes, and
/// also gives it in the end.
///
/// # Errors
///
/// It cannot be started.
pub fn watch(command: &mut Command) -> Result<(ExitStatus, String)> {
    let mut start = || -> io::Result<(ExitStatus, String)> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().map(|pipe| pass_on(pipe, io::stdout()));
        Ok((child.wait()?, output.map(passed_on).unwrap_or_default()))
    };
    start().with_context(|| format!("cannot run `{}`", shown(command)))
}

/// Passes on what a pipe brings as it comes, until it ends. Lines stay whole, for others may write too.
pub fn pass_on(
    mut pipe: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut kept, mut passed, mut part) = (Vec::new(), 0, [0; 8192]);
        while let Ok(length @ 1..) = pipe.read(&mut part) {
            kept.extend_from_slice(&part[..length]);
            let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
            if let Some(end) = kept[passed..].iter().rposition(is_end) {
                // Nobody may be reading any more; the command goes on all the same.
                let _ = to.write_all(&kept[passed..=passed + end]).and_then(|()| to.flush());
                passed += end + 1;
            }
        }
        let _ = to.write_all(&kept[passed..]).and_then(|()| to.flush());
        kept
    })
}

/// All that [`pass_on`] has passed on.
pub fn passed_on(thread: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
}

/// Copies a file unless the target has the same content already, so that nothing that depends on the
/// target is built again without need. True when it was written.
///
/// # Errors
///
/// The source cannot be read or the target cannot be written.
pub fn copy_if_changed(source: &Path, target: &Path) -> Result<bool> {
    let content = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    write_if_changed(target, &content)
}

/// Writes a file, in one step, unless it has this content already. True when it was written.
///
/// # Errors
///
/// The file cannot be read or written.
pub fn write_if_changed(target: &Path, content: &[u8]) -> Result<bool> {
    match fs::read(target) {
        Ok(old) if old == content => return Ok(false),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot read {}", target.display()));
        }
        _ => {}
    }
    let folder = target.parent().context("a file needs a folder")?;
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let readable = fs::Permissions::from_mode(0o644);
        let mut file = tempfile::Builder::new().permissions(readable).tempfile_in(folder)?;
        file.write_all(content)?;
        file.persist(target)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", target.display()))?;
    Ok(true)
}
