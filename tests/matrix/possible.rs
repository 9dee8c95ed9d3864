//! Paths that cannot be: where two packets are taken for one, or the end of one was missed, the path goes on at a place
//! that the place before does not lead to.

use anyhow::ensure;
use overlay_trace_format::{RecordView, Recording};

use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

/// For recordings of labs in which pods and nodes are joined by pairs of veth devices.
pub const POSSIBLE: &[Check] = &[check("possible-paths", possible_paths)];

/// Layers of the stages behind which a packet can be in another network namespace.
const LEADS_ELSEWHERE: &[&str] = &["veth", "macvlan", "ipvlan", "tc"];

/// Every path leads from one namespace to the next by a device that joins them, and never back.
fn possible_paths(seen: &Seen, _: &[Seen]) -> Outcome {
    let (mut paths, mut wrong) = (0u64, Vec::new());
    seen.recording.for_each_record(|record| {
        if seen.is_own(&record) {
            paths += 1;
            wrong.extend(impossible(&seen.recording, &record));
        }
    })?;
    ensure!(paths > 0, "no packet of the lab was recorded");
    ensure!(wrong.is_empty(), "{} of {paths} paths cannot be; one {}", wrong.len(), wrong[0]);
    Ok(Verdict::With(format!("{paths} paths")))
}

/// What about the packet's path cannot be.
fn impossible(recording: &Recording, record: &RecordView<'_>) -> Option<String> {
    let mut visited: Vec<&str> = Vec::new();
    let mut layer = "";
    for span in record.spans() {
        let netns = recording.hops.get(&span.hop).map_or("", |hop| hop.netns.as_str());
        if !netns.is_empty() && visited.last() != Some(&netns) {
            if visited.contains(&netns) {
                return Some(format!("comes back to {netns}, through {}", visited.join(", ")));
            }
            if !visited.is_empty() && !LEADS_ELSEWHERE.contains(&layer) {
                return Some(format!("goes from {} to {netns} in the layer {layer}", visited.join(", ")));
            }
            visited.push(netns);
        }
        let stage = recording.header.stages.get(usize::from(span.stage));
        // Waits for a CPU are in the middle of a stage.
        if let Some(stage) = stage.filter(|stage| stage.layer != "cpu") {
            layer = &stage.layer;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;

    /// A recording of today's that is known to be right.
    #[test]
    fn the_paths_of_a_sound_recording_are_possible() -> Result<()> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let recording = Recording::open(folder.join("recordings/flannel-vxlan-6.12.otr"))?;
        let mut wrong = Vec::new();
        recording.for_each_record(|record| wrong.extend(impossible(&recording, &record)))?;
        assert_eq!(wrong, Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn a_path_that_goes_on_as_another_packets_is_found() -> Result<()> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let recording = Recording::open(folder.join("recordings/flannel-vxlan-6.12.otr"))?;
        let mut paths: Vec<(_, Vec<u32>)> = Vec::new();
        recording.for_each_record(|record| paths.push((record.header, record.path.to_vec())))?;
        // Two packets that are glued together.
        let glued = [paths[0].1.as_slice(), &paths[0].1].concat();
        let record = RecordView { header: paths[0].0, path: &glued };
        assert!(impossible(&recording, &record).is_some());
        Ok(())
    }
}
