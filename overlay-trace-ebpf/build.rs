//! Lists the classes of the probe specs of the stage map: `src/main.rs` has a program for each.

use std::{collections::BTreeSet, env, fmt::Write, fs, path::Path};

use overlay_trace_common::{probe_spec::ProbeSpec, stage::Sets, stage_map::STAGES};

fn main() {
    let mut classes = BTreeSet::new();
    for set in [Sets::FULL, Sets::LIGHT, Sets::DEVICE] {
        for (number, stage) in STAGES.iter().enumerate().filter(|(_, stage)| stage.sets.contains(set)) {
            for point in stage.points {
                classes.insert(ProbeSpec::of(number as u8, stage, point, set).class());
            }
        }
    }
    let mut list = String::from("class_programs! {\n");
    for class in classes {
        let name = format!("class_{class:x}");
        writeln!(
            list,
            "{class:#x}u64 typed_{name} \"fentry/typed_{name}\" kprobe_{name} \"kprobe/kprobe_{name}\";"
        )
        .expect("a String can be written to");
    }
    list += "}\n";
    let folder = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&folder).join("classes.rs"), list).expect("the build folder can be written to");
    println!("cargo:rerun-if-changed=build.rs");
}
