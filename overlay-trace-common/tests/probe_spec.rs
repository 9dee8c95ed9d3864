//! Probe specs keep what they are made of, and their flags are apart.

use overlay_trace_common::{
    flags::{ProbeFlags, RecordFlags},
    probe_spec::{ProbeSpec, SPEC_MARKER},
    stage::Sets,
    stage_map::STAGES,
};

#[test]
fn a_spec_keeps_what_it_is_made_of() {
    for set in [Sets::FULL, Sets::LIGHT, Sets::DEVICE] {
        for (number, stage) in STAGES.iter().enumerate().filter(|(_, stage)| stage.sets.contains(set)) {
            for point in stage.points {
                let spec = ProbeSpec::of(number as u8, stage, point, set);
                assert_eq!(usize::from(spec.stage()), number);
                assert_eq!(spec.outcome(), stage.outcome.map_or(0, |outcome| outcome as u8));
                let flags = spec.flags();
                assert_eq!(ProbeSpec::new(spec.stage(), spec.action(), spec.outcome(), flags), spec);
                assert_eq!(spec.class() | u64::from(spec.stage()), spec.0);
                assert!(
                    !flags.has(ProbeFlags::OF_KERNEL)
                        && spec.with(ProbeFlags::OF_KERNEL).has(ProbeFlags::INDIRECT)
                );
                assert_ne!(spec.0, SPEC_MARKER);
            }
        }
    }
}

#[test]
fn flags_can_be_joined_and_taken_apart() {
    let both = RecordFlags::CHILD | RecordFlags::SYN;
    assert!(both.has(RecordFlags::SYN) && both.has(RecordFlags::TCP) && !both.has(RecordFlags::PARENT));
    assert_eq!(both & RecordFlags::TCP, RecordFlags::SYN);
    assert_eq!(both.difference(RecordFlags::TCP), RecordFlags::CHILD);
    assert_eq!(RecordFlags::from_bits(both.bits()), both);
    assert!(RecordFlags::NONE.is_empty() && !RecordFlags::NONE.has(both));
    // Recordings keep these bits.
    assert_eq!((RecordFlags::UNKNOWN_START.bits(), RecordFlags::ZERO_WINDOW.bits()), (1, 128));
    assert_eq!(RecordFlags::TCP.bits(), 0xe0);
}
