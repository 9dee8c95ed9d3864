//! `docs/src/drivers.md`: whether recordings have all packets of the NICs, by driver, direction and probe set, as the
//! kernel matrix found it.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::by_kernel::{Document, Found, Notes, results};

const DOCUMENT: Document = Document {
    file: "docs/src/drivers.md",
    heading: "\
# Drivers

Whether a recording has every packet of a NIC, in both directions and with each probe set: *all* where the driver's own
counters were those of the recording in every network that was tried, up to 0.1 % and 64 packets at each end. In the other
cells, the networks in which they were not. The NICs are those that QEMU emulates; two of a kind are joined by a bridge.
`cargo xtask test --all --part nic` finds it and fails when it differs; with `--bless` it writes it.

",
    rows: "NIC",
    note: "kernel: networks tried",
    notes: Notes::Stay,
};

/// The columns: a direction and a probe set.
const COLUMNS: [&str; 6] =
    ["received, full", "received, light", "received, device", "sent, full", "sent, light", "sent, device"];

/// Compares what the matrices said on machines with these NICs with the file, or with `bless` puts it there.
///
/// # Errors
///
/// The file says something else, or cannot be written.
pub fn check(outputs: &[(&str, &str)], bless: bool) -> Result<()> {
    let mut found = Found::default();
    outputs.iter().for_each(|(nic, output)| add(&mut found, nic, output));
    DOCUMENT.check(found, &COLUMNS, bless)
}

/// From the tests `nic/NETWORK/SET/received-by-driver` and `…/sent-by-driver`.
fn add(found: &mut Found, nic: &str, output: &str) {
    let row = found.row_of(nic);
    let mut networks = BTreeSet::new();
    for (kernel, test, result) in results(&[output.to_owned()]) {
        let words: Vec<&str> = test.split('/').collect();
        let ["nic", network, set, check] = words[..] else { continue };
        let Some(direction) = check.strip_suffix("-by-driver") else { continue };
        networks.insert(network);
        row.note = format!("{kernel}: {}", Vec::from_iter(networks.iter().copied()).join(", "));
        let cell = row.by_kernel.entry(format!("{direction}, {set}")).or_insert_with(|| "all".to_owned());
        if !result.starts_with("passed") {
            *cell = if cell == "all" { format!("not {network}") } else { format!("{cell}, {network}") };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;

    #[test]
    fn the_file_is_as_it_would_be_written() {
        let text = std::fs::read_to_string(host::workspace().join(DOCUMENT.file)).unwrap();
        assert_eq!(DOCUMENT.text(&Found::of_table(&text), &COLUMNS), text);
    }

    #[test]
    fn a_cell_names_the_networks_that_lack_packets() {
        let mut found = Found::default();
        let output = "\
            6.12  nic/host/light/received-by-driver  passed (node1: 9 by the driver)\n\
            6.12  nic/gre/light/received-by-driver  FAILED: node1: 9 by the driver, 1 record\n\
            6.12  nic/vlan/light/received-by-driver  FAILED: node1: 9 by the driver, 1 record\n\
            6.12  nic/vlan/light/sent-by-driver  passed (node1: 9 by the driver)\n";
        add(&mut found, "virtio", output);
        assert_eq!(found.0[0].note, "6.12: gre, host, vlan");
        assert_eq!(found.0[0].by_kernel["received, light"], "not gre, vlan");
        assert_eq!(found.0[0].by_kernel["sent, light"], "all");
    }
}
