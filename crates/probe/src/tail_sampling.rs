//! Tail sampling: which packets keep their whole path in the recording.

use overlay_trace_common::latency_histogram::ONE_IN_MAX;
use overlay_trace_format::{Sampling, Threshold};

/// Packets above a latency threshold are all recorded, and 1 in `one_in` of the rest.
#[derive(Clone, Copy, Debug)]
pub struct TailSampling {
    pub threshold: Threshold,
    /// At least 1; each sample is weighted by it.
    pub one_in: u32,
}

/// Options of commands that record.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct TailSamplingOptions {
    /// Record only the packets above a latency threshold, dropped packets, and 1 in --one-in of the rest. The
    /// threshold is a time, or a percentile, which follows the load (1ms, p99.9)
    #[arg(long = "tail-above", value_name = "PERCENTILE|TIME")]
    threshold: Option<Threshold>,
    /// With --tail-above: sample 1 in N of the rest; each sample is weighted by N
    #[arg(long, value_name = "N", requires = "threshold", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(ONE_IN_MAX)))]
    one_in: u32,
}

impl TailSamplingOptions {
    /// How to sample; `None` if every packet is recorded.
    pub fn sampling(self) -> Option<TailSampling> {
        self.threshold.map(|threshold| TailSampling { threshold, one_in: self.one_in })
    }
}

impl From<TailSampling> for Sampling {
    fn from(sampling: TailSampling) -> Sampling {
        Sampling { above: sampling.threshold.to_string(), one_in: sampling.one_in }
    }
}
