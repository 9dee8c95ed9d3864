//! Finds the kernel programs of the labs that `cargo xtask build-ebpf` has built, to be embedded in the binary.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=OVERLAY_TRACE_EBPF");
    let given = env::var_os("OVERLAY_TRACE_EBPF").map(|object| PathBuf::from(object).with_file_name("lab.o"));
    let object = given.unwrap_or_else(|| {
        // Asked for when it runs: the compiled script may have been copied from another working tree.
        let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
        package.join("../../target/ebpf/lab.o")
    });
    println!("cargo::rerun-if-changed={}", object.display());
    if object.is_file() {
        println!("cargo::rustc-env=OVERLAY_TRACE_LAB_OBJECT={}", object.display());
    } else {
        println!(
            "cargo::error=the kernel programs are not built yet ({} is missing): run `cargo xtask build-ebpf` first",
            object.display()
        );
    }
}
