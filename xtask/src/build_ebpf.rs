//! `cargo xtask build-ebpf`: compiles the kernel programs with whichever tool chain this machine has.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{host, packages, tool::Tool};

/// The LLVM that [`LINKER`] reads; a compiler with another one writes what it cannot link.
const LLVM_MAJOR: u32 = 22;
/// Later versions of bpf-linker want a later LLVM.
const LINKER: Tool = Tool { name: "bpf-linker", version: "0.10", features: None };
/// The target of the kernel programs.
pub const TARGET: &str = "bpfel-unknown-none";
/// Debug information and BTF are what the loader and the verifier's messages live on; BPF's third
/// instruction set has jumps and arithmetic on 32 bits. The atomic operations that came with 5.12 the
/// programs must not use: 5.10 does not take them.
const FLAGS: &[&str] = &["-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"];
/// The objects: the tracer's kernel side, and the programs that labs are made of.
const NAME: &str = "overlay-trace";
const OF_LABS: &str = "lab";

/// A compiler that can build the kernel programs.
struct Compiler {
    name: String,
    rustc: PathBuf,
    cargo: PathBuf,
}

/// The options of `cargo xtask build-ebpf`.
#[derive(clap::Args)]
pub struct BuildEbpf {
    /// Let the programs tell oddities, which `record --kernel-log` prints; not for measuring
    #[arg(long)]
    kernel_log: bool,
}

impl BuildEbpf {
    /// Builds the kernel programs.
    ///
    /// # Errors
    ///
    /// As [`build`].
    pub fn run(&self) -> Result<PathBuf> {
        build_with(if self.kernel_log { &["--features", "kernel-log"] } else { &[] })
    }
}

/// Builds the kernel programs and puts the object where the `overlay-trace` package's build looks for it;
/// gives the object's path.
///
/// # Errors
///
/// A part of the tool chain is missing and cannot be installed, or the programs do not compile.
pub fn build() -> Result<PathBuf> {
    build_with(&[])
}

fn build_with(features: &[&str]) -> Result<PathBuf> {
    let source = host::workspace().join("overlay-trace-ebpf");
    if !source.join("Cargo.toml").is_file() {
        bail!("{} has no Cargo.toml: the kernel programs' source is missing", source.display());
    }
    let compiler = find_compiler()?;
    let linker = LINKER.find()?;
    let llvm = llvm_folder()?;
    host::progress(&format!("building the kernel programs with {}", compiler.name));
    let path = env::var_os("PATH").unwrap_or_default();
    let linker_folder = linker.parent().unwrap_or(Path::new("/")).to_path_buf();
    let search = [linker_folder].into_iter().chain(env::split_paths(&path));
    let built = source.join("target");
    host::run(
        host::command(&compiler.cargo)
            .args(["build", "--release", "-Z", "build-std=core", "--target", TARGET])
            .args(features)
            .current_dir(&source)
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .env("RUSTC", &compiler.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
            .env("CARGO_TARGET_DIR", &built)
            .env("LD_LIBRARY_PATH", llvm)
            .env("PATH", env::join_paths(search).context("PATH cannot be extended")?),
    )
    .context("the kernel programs were not built")?;
    put(&built, OF_LABS)?;
    put(&built, NAME)
}

/// Puts an object where the `overlay-trace` package's build looks for it.
fn put(built: &Path, name: &str) -> Result<PathBuf> {
    let object = host::workspace().join("target/ebpf").join(format!("{name}.o"));
    let changed = host::copy_if_changed(&built.join(TARGET).join("release").join(name), &object)?;
    let state = if changed { "written" } else { "unchanged" };
    host::progress(&format!("{} {state}", object.display()));
    Ok(object)
}

/// A rustup tool chain with the core library's source, nightly first; else the distribution's compiler,
/// installed if need be.
fn find_compiler() -> Result<Compiler> {
    if let Some(compiler) = rustup_sysroots().iter().find_map(|sysroot| rustup_compiler(sysroot)) {
        return Ok(compiler);
    }
    let missing = |error: anyhow::Error| {
        error.context(format!(
            "no Rust compiler for the kernel programs was found: run `rustup component add rust-src` for a tool \
             chain with LLVM {LLVM_MAJOR}, or on Debian install the distribution's"
        ))
    };
    packages::require(packages::EBPF_COMPILER).map_err(missing)?;
    let (rustc, cargo) = (PathBuf::from("/usr/bin/rustc"), PathBuf::from("/usr/bin/cargo"));
    let (version, llvm) = versions(&rustc)?;
    if llvm != LLVM_MAJOR {
        bail!(
            "the distribution's {version} uses LLVM {llvm}, and bpf-linker {} reads LLVM {LLVM_MAJOR}: run `rustup \
             component add rust-src` for a tool chain with LLVM {LLVM_MAJOR}",
            LINKER.version
        );
    }
    Ok(Compiler { name: format!("the distribution's {version}"), rustc, cargo })
}

fn rustup_compiler(sysroot: &Path) -> Option<Compiler> {
    let (rustc, cargo) = (sysroot.join("bin/rustc"), sysroot.join("bin/cargo"));
    let usable = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file() && cargo.is_file();
    let (version, llvm) = versions(&rustc).ok().filter(|_| usable)?;
    (llvm == LLVM_MAJOR).then(|| Compiler { name: format!("rustup's {version}"), rustc, cargo })
}

/// The folders of rustup's tool chains, nightly ones first.
fn rustup_sysroots() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup")));
    let entries = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok());
    let mut found: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let is_nightly =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("nightly"));
    found.sort_by_key(|path| (!is_nightly(path), path.clone()));
    found
}

/// A compiler's version line and the major version of its LLVM.
fn versions(rustc: &Path) -> Result<(String, u32)> {
    let text = host::output(host::command(rustc).arg("-vV"))?;
    let version = text.lines().next().unwrap_or_default().to_owned();
    let llvm = text.lines().find_map(|line| line.strip_prefix("LLVM version: ")).and_then(major);
    Ok((version, llvm.with_context(|| format!("`{} -vV` names no LLVM version", rustc.display()))?))
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// A folder with nothing but the LLVM library that bpf-linker is to load. It takes the first libLLVM that it
/// meets in LD_LIBRARY_PATH or beside PATH, of whatever version, so it must not meet another.
fn llvm_folder() -> Result<PathBuf> {
    let candidates = rustup_sysroots().into_iter().map(|sysroot| sysroot.join("lib"));
    let system = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let library = candidates
        .chain(system.map(PathBuf::from))
        .find_map(|folder| llvm_library(&folder))
        .with_context(|| {
            format!(
                "bpf-linker needs LLVM {LLVM_MAJOR}'s library: install a rustup tool chain that has it (1.95)"
            )
        })?;
    let folder = host::cache()?.join("tools/llvm");
    let link = folder.join("libLLVM.so");
    if fs::read_link(&link).ok().as_deref() != Some(&library) {
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        // A link that is not there need not be removed.
        let _ = fs::remove_file(&link);
        symlink(&library, &link).with_context(|| format!("cannot create {}", link.display()))?;
    }
    Ok(folder)
}

/// `libLLVM.so.22.1`, perhaps with an addition, is the library itself; other names are linker scripts or links.
fn llvm_library(folder: &Path) -> Option<PathBuf> {
    let prefix = format!("libLLVM.so.{LLVM_MAJOR}.");
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.into_iter().next()
}
