//! Every drop reason of the kernels of the matrix has a row in the table of drops. A check of the matrix asks the same of
//! the running kernel.

use overlay_trace_analysis::tail::{Known, drop_row, drop_rows};
use overlay_trace_probe::{drop_reasons, is_given, sys::kernel::Kernel, wanted_functions};
use overlay_trace_test_support::kernels;

#[test]
fn every_reason_of_the_kernels_has_a_row() {
    let mut all = 0;
    for version in kernels::VERSIONS {
        let kernel = Kernel::from_files(&kernels::root(version), &wanted_functions()).unwrap();
        let reasons = drop_reasons(&kernel);
        let given: Vec<&String> = reasons.values().filter(|name| is_given(name)).collect();
        let without: Vec<&&String> = given.iter().filter(|name| drop_row(name, "").is_none()).collect();
        assert!(without.is_empty(), "{version} has reasons without a row: {without:?}");
        assert_eq!(given.is_empty(), !kernel.at_least((5, 17)), "{version}");
        all += given.len();
    }
    assert!(all > 200, "only {all} reasons were looked at");
}

#[test]
fn no_row_is_of_a_reason_that_no_kernel_has() {
    let mut known: Vec<String> = Vec::new();
    for version in kernels::VERSIONS {
        let kernel = Kernel::from_files(&kernels::root(version), &wanted_functions()).unwrap();
        known.extend(drop_reasons(&kernel).into_values());
    }
    // Of kernels between those of the matrix.
    let between =
        ["QDISC_OVERLIMIT", "QDISC_CONGESTED", "CAKE_FLOOD", "DUALPI2_STEP_DROP", "VXLAN_NO_REMOTE"];
    for row in drop_rows().filter(|row| row.known == Known::Reason) {
        for name in row.names {
            let is_known = known.iter().any(|known| known == name) || between.contains(name);
            assert!(is_known, "{name}");
        }
    }
}
