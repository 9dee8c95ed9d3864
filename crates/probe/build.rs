//! Finds the kernel programs that `cargo xtask build-ebpf` has built, to be embedded in the binary.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=OVERLAY_TRACE_EBPF");
    let given = env::var_os("OVERLAY_TRACE_EBPF")
        .map(|object| PathBuf::from(object).with_file_name("overlay-trace.o"));
    let object = given.unwrap_or_else(|| {
        // Asked for when it runs: the compiled script may have been copied from another working tree.
        let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
        package.join("../../target/ebpf/overlay-trace.o")
    });
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-check-cfg=cfg(kernel_programs)");
    // An empty file stands for programs that were not built; tests of the programs are then reported as ignored.
    if object.metadata().is_ok_and(|file| file.len() > 0) {
        println!("cargo::rustc-cfg=kernel_programs");
    }
    if object.is_file() {
        println!("cargo::rustc-env=OVERLAY_TRACE_EBPF_OBJECT={}", object.display());
    } else {
        println!(
            "cargo::error=the kernel programs are not built yet ({} is missing): run `cargo xtask build-ebpf` first",
            object.display()
        );
    }
}
