//! Finds the kernel programs that `cargo xtask build-ebpf` has built, to be embedded in the binary.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=OVERLAY_TRACE_EBPF");
    let object = env::var_os("OVERLAY_TRACE_EBPF").map(PathBuf::from).unwrap_or_else(|| {
        // Asked for when it runs: the compiled script may have been copied from another working tree.
        let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
        package.join("../target/ebpf/overlay-trace.o")
    });
    let of_labs = object.with_file_name("lab.o");
    for (object, variable) in [(&object, "OVERLAY_TRACE_EBPF_OBJECT"), (&of_labs, "OVERLAY_TRACE_LAB_OBJECT")]
    {
        println!("cargo::rerun-if-changed={}", object.display());
        if !object.is_file() {
            println!(
                "cargo::error=the kernel programs are not built yet ({} is missing): run `cargo xtask build-ebpf` first",
                object.display()
            );
            return;
        }
        println!("cargo::rustc-env={variable}={}", object.display());
    }
    println!("cargo::rustc-check-cfg=cfg(kernel_programs)");
    // An empty file stands for programs that were not built; tests of the programs are then reported as ignored.
    if object.metadata().is_ok_and(|file| file.len() > 0) {
        println!("cargo::rustc-cfg=kernel_programs");
    }
}
