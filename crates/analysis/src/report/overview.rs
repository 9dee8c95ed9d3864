//! What one look at a recording must tell: the answer in a sentence, the path device by device, time by layer, the largest
//! stages, and what was dropped. Text and page lay it out.

use std::collections::HashMap;

use super::units::{count, percent, time};
use crate::{
    breakdown::{Analysis, Drop, Key, Row},
    tail::{Effect, drop_row},
};
use overlay_trace_format::ProbeKind;

/// The sentence names so many stages.
const NAMED: usize = 3;
/// Stages with a smaller part of the time are not named.
const NAMED_SHARE_MIN: f64 = 0.02;

/// The answer in one sentence.
pub(super) fn sentence(analysis: &Analysis) -> String {
    let dist = &analysis.end_to_end;
    if dist.count() == 0 {
        return "No packet finished its path during the recording.".into();
    }
    let percentiles = [(0.5, "p50"), (0.99, "p99"), (0.9999, "p99.99")].into_iter();
    let percentiles: Vec<String> = percentiles
        .filter_map(|(quantile, name)| Some(format!("{name} {}", time(dist.supported(quantile)? as f64))))
        .collect();
    let percentiles =
        if percentiles.is_empty() { String::new() } else { format!(" ({})", percentiles.join(", ")) };
    let mut parts = Vec::new();
    let share = |matches: &dyn Fn(&Key) -> bool| -> f64 {
        analysis.rows.iter().filter(|row| matches(&row.key)).map(|row| row.share).sum()
    };
    let overlay = share(&|key| key.level.is_some_and(|level| level > 0));
    if overlay > 0.0 {
        parts.push(format!("{} inside an overlay", percent(overlay)));
    }
    let waiting = share(&|key| key.kind == "wait");
    if waiting > 0.0 && !is_undivided(analysis) {
        parts.push(format!("{} waiting", percent(waiting)));
    }
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    let packets = if dist.count() == 1 { "packet" } else { "packets" };
    format!(
        "{} {packets} took {} on average{percentiles}{parts}{}.",
        count(dist.count()),
        time(dist.mean()),
        largest(analysis, if parts.is_empty() { ": " } else { "; " })
    )
}

/// Whether working and waiting are not told apart, as between TC hooks.
pub(super) fn is_undivided(analysis: &Analysis) -> bool {
    analysis.header.stages.iter().any(|row| row.probe == Some(ProbeKind::Tc))
}

/// `; most in socket-wait 18.3%, iptables 12.7%`.
fn largest(analysis: &Analysis, start: &str) -> String {
    let mut stages = analysis.shares(|key| stage_name(key).or_else(|| key.layer.clone()).unwrap_or_default());
    stages.retain(|(name, share)| !name.is_empty() && *share >= NAMED_SHARE_MIN);
    stages.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named: Vec<String> =
        stages.iter().take(NAMED).map(|(name, share)| format!("{name} {}", percent(*share))).collect();
    if named.is_empty() { String::new() } else { format!("{start}most in {}", named.join(", ")) }
}

/// A stage's name, marked where a stage of work had to wait; `None` where the analysis does not tell stages apart.
pub(super) fn stage_name(key: &Key) -> Option<String> {
    let stage = key.stage.as_ref()?;
    let is_marked = key.kind == "wait" && !stage.ends_with("-wait");
    Some(if is_marked { format!("{stage} (waiting)") } else { stage.clone() })
}

/// A device of the path, at one level.
pub(super) struct Hop {
    pub netns: String,
    /// Empty where no device was passed yet.
    pub device: String,
    pub level: u8,
    /// Over all packets.
    pub mean_ns: f64,
    /// Of the end-to-end sum, 0 to 1.
    pub share: f64,
    /// The part of `share` that is waiting.
    pub waiting: f64,
    /// The stage with the most time here.
    pub largest: String,
}

/// The path hop by hop, in its order. What happens before the first device of a namespace counts to that device. Names of
/// namespaces are without the prefix that all of them have.
pub(super) fn path(analysis: &Analysis) -> Vec<Hop> {
    let prefix = analysis.netns_prefix();
    let mut hops: Vec<(Hop, f64)> = Vec::new();
    let mut index: HashMap<(&str, &str, u8), usize> = HashMap::new();
    for (at, row) in analysis.rows.iter().enumerate().filter(|(_, row)| row.raw.sum() > 0) {
        let (netns, level) = (row.key.netns.as_deref().unwrap_or_default(), row.key.level.unwrap_or(0));
        let device = device(&analysis.rows[at..], &row.key);
        let number = *index.entry((netns, device, level)).or_insert_with(|| {
            let hop = Hop {
                netns: netns.strip_prefix(&*prefix).unwrap_or(netns).into(),
                device: device.into(),
                level,
                mean_ns: 0.0,
                share: 0.0,
                waiting: 0.0,
                largest: String::new(),
            };
            hops.push((hop, 0.0));
            hops.len() - 1
        });
        let (hop, most) = &mut hops[number];
        hop.share += row.share;
        hop.mean_ns += row.share * analysis.end_to_end.mean();
        if row.key.kind == "wait" {
            hop.waiting += row.share;
        }
        if row.share > *most {
            *most = row.share;
            hop.largest = stage_name(&row.key).unwrap_or_default();
        }
    }
    hops.into_iter().map(|(hop, _)| hop).collect()
}

/// The device of the first of these rows, or the next one of its part of the path.
fn device<'a>(rows: &'a [Row], key: &'a Key) -> &'a str {
    let part = rows.iter().take_while(|row| row.key.same_part(key));
    let mut devices = part.filter_map(|row| row.key.device.as_deref());
    devices.find(|device| !device.is_empty()).unwrap_or_default()
}

/// A layer's part of the time.
pub(super) struct LayerTime {
    pub layer: String,
    /// Of the end-to-end sum, 0 to 1; and the same by level, and of what is waiting.
    pub share: f64,
    pub by_level: Vec<f64>,
    pub waiting: f64,
}

/// The levels of a recording, in order.
pub(super) fn levels(analysis: &Analysis) -> Vec<u8> {
    let mut levels: Vec<u8> = analysis.rows.iter().filter_map(|row| row.key.level).collect();
    levels.sort_unstable();
    levels.dedup();
    levels
}

/// Time by layer, the largest first; last the sum of all, without a name.
pub(super) fn layers(analysis: &Analysis) -> Vec<LayerTime> {
    let levels = levels(analysis);
    let mut layers = analysis.shares(|key| key.layer.clone().unwrap_or_default());
    layers.retain(|(_, share)| *share > 0.0);
    layers.sort_by(|a, b| b.1.total_cmp(&a.1));
    let share = |matches: &dyn Fn(&Row) -> bool| -> f64 {
        analysis.rows.iter().filter(|row| matches(row)).map(|row| row.share).sum()
    };
    let time = |layer: String, share_of: f64, is_layer: &dyn Fn(&Row) -> bool| LayerTime {
        layer,
        share: share_of,
        by_level: levels
            .iter()
            .map(|&level| share(&|row| is_layer(row) && row.key.level == Some(level)))
            .collect(),
        waiting: share(&|row| is_layer(row) && row.key.kind == "wait"),
    };
    let mut times: Vec<LayerTime> = layers
        .into_iter()
        .map(|(layer, share)| {
            let name = layer.clone();
            time(layer, share, &|row| row.key.layer.as_deref() == Some(&name))
        })
        .collect();
    times.push(time(String::new(), 1.0, &|_| true));
    times
}

/// Drops of packets that somebody waited for, and the others: duplicates, and what nobody waited for, as when a socket with
/// unread data is closed (QUEUE_PURGE).
pub(super) fn drops(analysis: &Analysis) -> (Vec<&Drop>, Vec<&Drop>) {
    let (harmless, lost) = analysis.drops.iter().partition(|drop| is_harmless(drop));
    (lost, harmless)
}

fn is_harmless(drop: &Drop) -> bool {
    let effect = drop_row(&drop.reason, &drop.location).map(|row| row.effect);
    matches!(effect, Some(Effect::Refused | Effect::Unwanted))
}

/// The drops that cost nobody anything, in a sentence; `None` without any.
pub(super) fn harmless(drops: &[&Drop]) -> Option<String> {
    let mut reasons: Vec<(&str, u64)> = Vec::new();
    for drop in drops {
        let name = if drop.reason.is_empty() { &drop.location } else { &drop.reason };
        match reasons.iter_mut().find(|(known, _)| known == name) {
            Some((_, packets)) => *packets += drop.packets,
            None => reasons.push((name, drop.packets)),
        }
    }
    let all: u64 = reasons.iter().map(|(_, packets)| packets).sum();
    let named: Vec<String> =
        reasons.iter().map(|(name, packets)| format!("{name} {}", count(*packets))).collect();
    (all > 0).then(|| {
        format!(
            "{} that nobody waited for, as at a connection's close, or that were duplicates: {}",
            count(all),
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop(packets: u64, reason: &str, location: &str) -> Drop {
        Drop {
            packets,
            bytes: 0,
            reason: reason.into(),
            location: location.into(),
            key: Key { stage: Some("receive".into()), ..Key::default() },
        }
    }

    #[test]
    fn what_nobody_waited_for_stands_apart() {
        let purged = [drop(3, "QUEUE_PURGE", "skb_queue_purge+1"), drop(2, "QUEUE_PURGE", "tcp_close+1")];
        let sentence = harmless(&purged.iter().collect::<Vec<_>>()).unwrap();
        assert!(sentence.starts_with("5 ") && sentence.ends_with("QUEUE_PURGE 5"), "{sentence}");
        assert_eq!(harmless(&[]), None);
        assert!(is_harmless(&purged[0]) && !is_harmless(&drop(1, "NETFILTER_DROP", "nf_hook_slow+1")));
        assert!(!is_harmless(&drop(1, "", "")));
    }

    #[test]
    fn waiting_of_a_stage_of_work_is_marked() {
        let key = |stage: &str, kind| Key { stage: Some(stage.into()), kind, ..Key::default() };
        assert_eq!(stage_name(&key("receive", "wait")).unwrap(), "receive (waiting)");
        assert_eq!(stage_name(&key("socket-wait", "wait")).unwrap(), "socket-wait");
        assert_eq!(stage_name(&Key::default()), None);
    }
}
