//! Lists the classes of the probe specs of the stage map, and the hooks of the probe set `tc`: there is a program for
//! each (`src/main.rs`, `src/tc/programs.rs`).

use std::{collections::BTreeSet, env, fmt::Write, fs, path::Path};

use overlay_trace_common::{
    flags::ProbeFlags,
    probe_spec::{ProbeSpec, calibration},
    stage::{Action, Sets},
    stage_map::STAGES,
    tc,
};

fn main() {
    let mut classes: BTreeSet<u64> = calibration::STARTS.iter().map(|spec| spec.class()).collect();
    let mut exits = BTreeSet::new();
    for set in [Sets::FULL, Sets::LIGHT, Sets::DEVICE] {
        for (number, stage) in STAGES.iter().enumerate().filter(|(_, stage)| stage.sets.contains(set)) {
            for point in stage.points {
                let spec = ProbeSpec::of(number as u8, stage, point, set);
                classes.insert(spec.class());
                let is_seen_at_exit = matches!(point.action, Action::Note | Action::Copy | Action::Join);
                if spec.has(ProbeFlags::EXIT | ProbeFlags::IF_ZERO) || is_seen_at_exit {
                    exits.insert(spec.class());
                }
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
    list += "}\nexit_programs! {\n";
    for class in exits {
        let name = format!("typed_exit_class_{class:x}");
        writeln!(list, "{class:#x}u64 {name} \"fexit/{name}\";").expect("a String can be written to");
    }
    list += "}\n";
    let mut hooks = String::from("hook_programs! {\n");
    for hook in 0..tc::HOOKS_MAX {
        let name = format!("{}{hook}", tc::HOOK_NAME);
        writeln!(hooks, "{hook} {name} \"classifier/{name}\";").expect("a String can be written to");
    }
    hooks += "}\n";
    let folder = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    for (file, text) in [("classes.rs", list), ("hooks.rs", hooks)] {
        fs::write(Path::new(&folder).join(file), text).expect("the build folder can be written to");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
