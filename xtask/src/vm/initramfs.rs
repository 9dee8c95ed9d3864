//! The first file system of a guest: busybox and the few modules that reach the real one.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Seek, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use crate::host;

/// What the root file system and the output ports are reached through.
const MODULES: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console"];
const INIT: &str = include_str!("initramfs.sh");

/// Builds a kernel's initramfs in `folder`; gives its path.
///
/// # Errors
///
/// A module is missing, or a file cannot be written.
pub fn build(kernel: &Kernel, folder: &Path) -> Result<PathBuf> {
    let tree = folder.join("initramfs");
    let archive = folder.join("initramfs.cpio");
    let busybox = host::find_program("busybox").context("busybox is missing")?;
    let fill = || -> Result<()> {
        for place in ["bin", "proc", "sys", "dev", "mnt", "modules"] {
            fs::create_dir_all(tree.join(place))?;
        }
        fs::copy(busybox, tree.join("bin/busybox"))?;
        let mut order = String::new();
        for (position, module) in load_order(kernel)?.iter().enumerate() {
            let name = format!("{position:02}.ko");
            fs::write(tree.join("modules").join(&name), read_module(module)?)?;
            order.push_str(&format!("/modules/{name}\n"));
        }
        fs::write(tree.join("modules/order"), order)?;
        host::write_if_changed(&tree.join("init"), INIT.as_bytes())?;
        host::output(Command::new("chmod").arg("755").arg(tree.join("init")))?;
        pack(&tree, &archive)
    };
    fill().with_context(|| format!("cannot build the initramfs of kernel {}", kernel.release))?;
    Ok(archive)
}

/// The files of [`MODULES`] and of what they depend on, in the order in which they are to be loaded.
fn load_order(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let folder = kernel.modules();
    let table = fs::read_to_string(folder.join("modules.dep")).context("the kernel has no modules.dep")?;
    let builtin = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
    let builtin: Vec<String> = builtin.lines().map(module_name).collect();
    let depends: HashMap<String, (&str, &str)> = table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(module, depends)| (module_name(module), (module, depends)))
        .collect();
    let mut order: Vec<PathBuf> = Vec::new();
    for wanted in MODULES {
        let Some((module, needs)) = depends.get(*wanted) else {
            if builtin.iter().any(|name| name == wanted) {
                continue;
            }
            bail!("kernel {} has no module {wanted}", kernel.release);
        };
        // modules.dep names the deepest dependency last.
        for path in needs.split_whitespace().rev().chain([*module]) {
            let path = folder.join(path);
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// `kernel/fs/9p/9p.ko.xz` is the module `9p`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let unpacked = Command::new("xz").arg("-dc").arg(path).output().context("cannot start xz")?;
    if !unpacked.status.success() {
        bail!("cannot unpack {}: {}", path.display(), String::from_utf8_lossy(&unpacked.stderr).trim());
    }
    Ok(unpacked.stdout)
}

fn pack(tree: &Path, archive: &Path) -> Result<()> {
    let mut names = tempfile::tempfile()?;
    names.write_all(b".\ninit\nbin\nbin/busybox\nproc\nsys\ndev\nmnt\nmodules\nmodules/order\n")?;
    for entry in fs::read_dir(tree.join("modules"))?.flatten() {
        let name = entry.file_name();
        if name != "order" {
            writeln!(names, "modules/{}", name.to_string_lossy())?;
        }
    }
    names.rewind()?;
    host::run(
        Command::new("cpio")
            .args(["--quiet", "--create", "--format=newc"])
            .current_dir(tree)
            .stdin(names)
            .stdout(File::create(archive)?),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_do_not_depend_on_compression_or_dashes() {
        assert_eq!(module_name("kernel/fs/9p/9p.ko.xz"), "9p");
        assert_eq!(module_name("kernel/net/sched/sch-netem.ko"), "sch_netem");
    }
}
