//! An aggregation as metrics: classic and native histograms, in Prometheus' formats.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use overlay_trace_format::Counters;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, MetricEncoder, NativeHistogram, NativeHistogramBuckets,
        NoLabelSet, prometheus_protobuf, prometheus_text, text,
    },
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::{Aggregation, Histogram, histogram::SCHEMA};

/// What a monitor knows, from which metrics are made.
#[derive(Debug)]
pub struct State {
    pub aggregation: Aggregation,
    /// The recorder's counters since the beginning.
    pub counters: Counters,
    /// Of the recorder.
    pub info: Info,
    pub own: Own,
}

/// What does not change.
#[derive(Clone, Debug, Default)]
pub struct Info {
    pub version: String,
    pub probe_set: String,
    pub kernel: String,
    pub node: String,
}

/// What the monitor itself does.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// CPU time of this process, in s.
    pub cpu_s: f64,
    /// Bytes of the packets that are kept.
    pub kept_bytes: u64,
    /// How often they were written out, and could not be.
    pub dumps: u64,
    pub failed_dumps: u64,
    /// Segments that were removed before they were read.
    pub missed_segments: u64,
    /// Parts that could not be read.
    pub read_errors: u64,
    /// Whether the recorder works.
    pub is_healthy: bool,
}

/// A state that several threads see.
pub type Shared = Arc<Mutex<State>>;

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// The only one with native histograms.
    Protobuf,
    OpenMetrics,
    Text,
}

impl Exposition {
    /// The format that a request prefers, by its header `Accept`.
    pub fn accepted(accept: &str) -> Exposition {
        // In the order of preference, as Prometheus sends them.
        let formats = accept.split(',').map(str::trim);
        let known = formats.filter_map(|format| {
            if format.starts_with("application/vnd.google.protobuf") {
                Some(Exposition::Protobuf)
            } else if format.starts_with("application/openmetrics-text") {
                Some(Exposition::OpenMetrics)
            } else if format.starts_with("text/plain") {
                Some(Exposition::Text)
            } else {
                None
            }
        });
        known.into_iter().next().unwrap_or(Exposition::Text)
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::Protobuf => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes the metrics of a state.
///
/// # Errors
///
/// The encoder's.
pub fn encode(state: &Shared, exposition: Exposition) -> Result<Vec<u8>, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(Arc::clone(state))));
    let mut out = String::new();
    match exposition {
        Exposition::Protobuf => return prometheus_protobuf::encode_to_vec(&registry).map_err(|_| fmt::Error),
        Exposition::OpenMetrics => text::encode(&mut out, &registry)?,
        Exposition::Text => prometheus_text::encode(&mut out, &registry)?,
    }
    Ok(out.into_bytes())
}

#[derive(Debug)]
struct Metrics(Shared);

/// A family: name without unit, help, unit.
type Family = (&'static str, &'static str, Option<Unit>);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times(&state, &mut encoder)?;
        packets(&state, &mut encoder)?;
        losses(&state, &mut encoder)?;
        own(&state, &mut encoder)
    }
}

fn times(state: &State, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let aggregation = &state.aggregation;
    histograms(
        encoder,
        ("overlay_trace_stage", "Time of packets in a stage, per packet that was there", Some(Unit::Seconds)),
        aggregation.stages().map(|(labels, histogram)| (owned(&labels.named()), histogram)),
    )?;
    let none: Vec<(&'static str, String)> = Vec::new();
    histograms(
        encoder,
        (
            "overlay_trace_end_to_end",
            "Time of packets from first seen to delivered, sent or dropped; parts of a packet share its time",
            Some(Unit::Seconds),
        ),
        [(none.clone(), &aggregation.end_to_end)],
    )?;
    histograms(
        encoder,
        (
            "overlay_trace_latency",
            "Latency of packets, since the start of the packet that they were cut or cloned from",
            Some(Unit::Seconds),
        ),
        [(none, &aggregation.latency)],
    )
}

fn packets(state: &State, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let aggregation = &state.aggregation;
    let outcomes = &aggregation.outcomes;
    let ended = [
        ("delivered", outcomes.delivered),
        ("dropped", outcomes.dropped),
        ("forwarded", outcomes.forwarded),
        ("merged", outcomes.merged),
        ("split", outcomes.split),
    ];
    counters(
        encoder,
        ("overlay_trace_packets", "Packets by how their path ended", None),
        ended.map(|(outcome, packets)| ([("outcome", outcome)], packets)),
    )?;
    counters(
        encoder,
        ("overlay_trace_packet", "Bytes of packets whose path ended", Some(Unit::Bytes)),
        [(NONE, aggregation.bytes)],
    )?;
    let drops: Vec<_> = aggregation.drops().collect();
    counters(
        encoder,
        ("overlay_trace_dropped_packets", "Dropped packets by the kernel's reason and where they were", None),
        drops.iter().map(|(labels, count)| (labels.named(), count.packets)),
    )
}

fn losses(state: &State, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let seen = &state.counters;
    let own = &state.own;
    let others = [
        (own.missed_segments, "segments of kept packets not read in time"),
        (own.read_errors, "unreadable parts of kept packets"),
        (state.aggregation.orphans, "parts of packets without their parent"),
    ];
    counters(
        encoder,
        ("overlay_trace_lost", "What this monitor has lost or could not see, by kind", None),
        seen.losses().into_iter().chain(others).map(|(number, what)| ([("what", what)], number)),
    )?;
    let (series, folded) = state.aggregation.size();
    gauges(
        encoder,
        ("overlay_trace_series", "Series of times and drops, bounded by --max-series", None),
        [(NONE, series as f64)],
    )?;
    counters(
        encoder,
        (
            "overlay_trace_series_folded",
            "Times that something found no series of its own and was added to the one of \"other\"",
            None,
        ),
        [(NONE, folded)],
    )?;
    let retired = &state.aggregation.retired;
    counters(
        encoder,
        ("overlay_trace_series_retired", "Series that were forgotten after an hour without packets", None),
        [(NONE, retired.series)],
    )?;
    counters(
        encoder,
        ("overlay_trace_retired", "Sum of the times of series that were forgotten", Some(Unit::Seconds)),
        [(NONE, seconds(retired.sum_ns))],
    )
}

fn own(state: &State, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let Info { version, probe_set, kernel, node } = &state.info;
    let own = &state.own;
    gauges(
        encoder,
        ("overlay_trace_monitor_info", "This monitor", None),
        [(
            [("version", version.as_str()), ("probe_set", probe_set), ("kernel", kernel), ("node", node)],
            1.0,
        )],
    )?;
    gauges(
        encoder,
        ("overlay_trace_up", "Whether the recorder works", None),
        [(NONE, f64::from(u8::from(own.is_healthy)))],
    )?;
    counters(
        encoder,
        ("overlay_trace_monitor_cpu", "CPU time of this process", Some(Unit::Seconds)),
        [(NONE, own.cpu_s)],
    )?;
    counters(
        encoder,
        ("overlay_trace_probe_hits", "Hits of probes on followed packets", None),
        [(NONE, state.counters.hits)],
    )?;
    counters(
        encoder,
        (
            "overlay_trace_probe_overhead",
            "Time that probes took on the packets' paths, by what a hit was measured to cost",
            Some(Unit::Seconds),
        ),
        [(NONE, seconds(state.aggregation.overhead_ns))],
    )?;
    gauges(
        encoder,
        ("overlay_trace_kept", "Bytes of the last packets that are kept", Some(Unit::Bytes)),
        [(NONE, own.kept_bytes as f64)],
    )?;
    counters(
        encoder,
        (
            "overlay_trace_dumps",
            "Times that the last packets were written out because a packet was slow",
            None,
        ),
        [([("result", "written")], own.dumps), ([("result", "failed")], own.failed_dumps)],
    )
}

const NONE: [(&str, &str); 0] = [];

fn seconds(ns: u128) -> f64 {
    ns as f64 / 1e9
}

fn owned(labels: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn counters<N, L>(
    encoder: &mut DescriptorEncoder,
    (name, help, unit): Family,
    series: impl IntoIterator<Item = (L, N)>,
) -> fmt::Result
where
    N: prometheus_client::encoding::EncodeCounterValue,
    L: EncodeLabelSet,
{
    let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
    for (labels, value) in series {
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, N, f64>(&value, None)?;
    }
    Ok(())
}

fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder,
    (name, help, unit): Family,
    series: impl IntoIterator<Item = (L, f64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
    for (labels, value) in series {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

fn histograms<'a, L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder,
    (name, help, unit): Family,
    series: impl IntoIterator<Item = (L, &'a Histogram)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
    for (labels, histogram) in series {
        encode_histogram(&mut family.encode_family(&labels)?, histogram)?;
    }
    Ok(())
}

fn encode_histogram(encoder: &mut MetricEncoder, histogram: &Histogram) -> fmt::Result {
    let (spans, deltas) = histogram.native();
    let native = NativeHistogram {
        schema: SCHEMA,
        zero_threshold: f64::MIN_POSITIVE,
        zero_count: histogram.zeros(),
        negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
        positive: NativeHistogramBuckets { spans: &spans, deltas: &deltas },
        created: None,
    };
    let (sum, count) = (seconds(histogram.sum_ns()), histogram.count());
    encoder.encode_histogram_with_native::<NoLabelSet>(sum, count, &histogram.classic(), None, native)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use overlay_trace_analysis::breakdown::Dist;

    use super::*;
    use crate::{Devices, Labels};

    fn state() -> Shared {
        let mut aggregation = Aggregation::new(100, Devices::Classes);
        let mut times = Dist::default();
        [700, 1_900_000, 9_000_000_000].iter().for_each(|ns| times.add(*ns));
        let netns = "shop/\"web\\0\"".to_owned();
        let labels = Labels { stage: "ip-output".into(), kind: "work", netns, ..Labels::default() };
        aggregation.add_times(labels, &times, Duration::ZERO);
        let counters = Counters { lost_records: 3, hits: 5, ..Counters::default() };
        Arc::new(Mutex::new(State { aggregation, counters, info: Info::default(), own: Own::default() }))
    }

    fn text(exposition: Exposition) -> String {
        String::from_utf8(encode(&state(), exposition).unwrap()).unwrap()
    }

    #[test]
    fn text_has_classic_buckets_and_losses_and_escapes_labels() {
        for exposition in [Exposition::OpenMetrics, Exposition::Text] {
            let text = text(exposition);
            let line = |start: &str, label: &str, end: &str| {
                let is_it =
                    |line: &str| line.starts_with(start) && line.contains(label) && line.ends_with(end);
                assert!(text.lines().any(is_it), "{start} {label} {end}\n{text}");
            };
            line("overlay_trace_stage_seconds_bucket{", "le=\"0.001953125\"", " 2");
            line("overlay_trace_stage_seconds_bucket{", "le=\"+Inf\"", " 3");
            line("overlay_trace_stage_seconds_count{", "stage=\"ip-output\"", " 3");
            line("overlay_trace_lost_total{", "what=\"records\"", " 3");
            assert!(text.contains(r#"netns="shop/\"web\\0\"""#), "{text}");
        }
        assert!(text(Exposition::OpenMetrics).ends_with("# EOF\n"));
    }

    #[test]
    fn protobuf_has_native_buckets() {
        let registry = {
            let mut registry = Registry::default();
            registry.register_collector(Box::new(Metrics(state())));
            registry
        };
        let families = prometheus_protobuf::encode(&registry).unwrap();
        let stage = families.iter().find(|family| family.name == "overlay_trace_stage_seconds").unwrap();
        let histogram = stage.metric[0].histogram.as_ref().unwrap();
        assert_eq!((histogram.schema, histogram.sample_count), (SCHEMA, 3));
        assert_eq!(histogram.positive_delta, [1, 0, 0]);
        assert_eq!(histogram.positive_span.len(), 3);
    }

    #[test]
    fn the_format_is_the_first_that_is_known() {
        let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1";
        assert_eq!(Exposition::accepted(prometheus), Exposition::Protobuf);
        assert_eq!(
            Exposition::accepted("application/openmetrics-text; version=1.0.0"),
            Exposition::OpenMetrics
        );
        assert_eq!(Exposition::accepted("text/html, */*"), Exposition::Text);
    }
}
