//! For build scripts: finds the kernel objects that `cargo xtask build-ebpf` puts into `target/ebpf`.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// Another folder for the objects than `target/ebpf`.
const FOLDER: &str = "OVERLAY_TRACE_EBPF_DIR";

/// Gives the crate that is being built the path of a kernel object, in an environment variable.
///
/// Where the object is missing it is the path of an empty file, so that `cargo check`, `doc`, `clippy`, rust-analyzer
/// and the tests that need no kernel work in a fresh clone. A release build fails instead.
///
/// # Panics
///
/// Outside of a build script, or if the script's output folder cannot be written to.
pub fn embed(name: &str, variable: &str) {
    println!("cargo::rerun-if-env-changed={FOLDER}");
    let folder = env::var_os(FOLDER).map_or_else(default_folder, PathBuf::from);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let found = find(name, &folder, &out, is_release).expect("OUT_DIR can be written to");
    println!("cargo::rerun-if-changed={}", found.watch.display());
    // Tests of the programs are reported as ignored where there are none.
    println!("cargo::rustc-check-cfg=cfg(kernel_programs)");
    if found.object.as_ref().is_some_and(|object| object.starts_with(&folder)) {
        println!("cargo::rustc-cfg=kernel_programs");
    }
    match found.object {
        Some(object) => println!("cargo::rustc-env={variable}={}", object.display()),
        None => {
            println!("cargo::error={} is missing: run `cargo xtask build-ebpf` first", found.watch.display())
        }
    }
}

/// `target/ebpf` of the workspace, which is the folder that holds the kernel side's source.
fn default_folder() -> PathBuf {
    // Asked for when it runs: the compiled script may have been copied from another working tree.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().find(|folder| folder.join("overlay-trace-ebpf").is_dir());
    workspace.unwrap_or(&package).join("target/ebpf")
}

#[derive(Debug, PartialEq)]
struct Found {
    /// None if it is missing and must not be.
    object: Option<PathBuf>,
    /// When this changes, the object has to be looked for again.
    watch: PathBuf,
}

fn find(name: &str, folder: &Path, out: &Path, is_release: bool) -> io::Result<Found> {
    let object = folder.join(format!("{name}.o"));
    if object.is_file() {
        return Ok(Found { object: Some(object.clone()), watch: object });
    }
    if is_release {
        return Ok(Found { object: None, watch: object });
    }
    // The folder is watched for the object to come. Cargo takes a missing file for a changed one: the crate would be
    // compiled again each time. That is what happens where the folder cannot be created.
    let _ = fs::create_dir_all(folder);
    let empty = out.join(format!("{name}.o"));
    fs::write(&empty, [])?;
    Ok(Found { object: Some(empty), watch: folder.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_object_it_is_empty_and_its_folder_is_watched() {
        let (place, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = place.path().join("ebpf");
        let found = find("lab", &folder, out.path(), false).unwrap();
        assert_eq!(fs::read(found.object.unwrap()).unwrap(), b"");
        assert!(found.watch == folder && folder.is_dir());
    }

    #[test]
    fn a_release_build_insists_on_the_object() {
        let place = tempfile::tempdir().unwrap();
        let object = place.path().join("lab.o");
        let found = find("lab", place.path(), place.path(), true).unwrap();
        assert_eq!(found, Found { object: None, watch: object.clone() });
        fs::write(&object, "ELF").unwrap();
        for is_release in [true, false] {
            let found = find("lab", place.path(), place.path(), is_release).unwrap();
            assert_eq!(found, Found { object: Some(object.clone()), watch: object.clone() });
        }
        assert_eq!(fs::read(object).unwrap(), b"ELF");
    }
}
