//! For build scripts: finds the kernel objects that `cargo xtask build-ebpf` puts into `target/ebpf`, to be embedded in
//! a crate by `include_bytes_aligned!(env!(…))`.

use std::{env, fs, path::PathBuf};

/// Gives the crate the path of a kernel object, in an environment variable. Where the object is missing it is the
/// path of an empty file, so that `cargo check`, `doc`, `clippy`, rust-analyzer and the tests that need no kernel
/// work in a fresh clone. A release build fails instead.
pub fn embed(name: &str, variable: &str) {
    println!("cargo::rerun-if-env-changed=OVERLAY_TRACE_EBPF_DIR");
    let folder = env::var_os("OVERLAY_TRACE_EBPF_DIR").map_or_else(default_folder, PathBuf::from);
    let mut object = folder.join(format!("{name}.o"));
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Tests of the programs are reported as ignored where there are none.
    println!("cargo::rustc-check-cfg=cfg(kernel_programs)");
    if object.is_file() {
        println!("cargo::rustc-cfg=kernel_programs");
    }
    if object.is_file() || is_release {
        println!("cargo::rerun-if-changed={}", object.display());
        if !object.is_file() {
            println!("cargo::error={} is missing: run `cargo xtask build-ebpf` first", object.display());
        }
    } else {
        // The folder is watched for the object to come: a missing file counts as changed each time, and the crate
        // would be compiled anew each time. Where the folder cannot be created, that is what happens.
        let _ = fs::create_dir_all(&folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(format!("{name}.o"));
        fs::write(&object, []).expect("OUT_DIR can be written to");
    }
    println!("cargo::rustc-env={variable}={}", object.display());
}

/// `target/ebpf` of the workspace, which is the folder that holds the kernel side's source.
fn default_folder() -> PathBuf {
    // Asked for when it runs: the compiled script may have been copied from another working tree.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().find(|folder| folder.join("overlay-trace-ebpf").is_dir());
    workspace.unwrap_or(&package).join("target/ebpf")
}
