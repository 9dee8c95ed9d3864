//! Sampling: which packets are followed, and of which of them the recording keeps the whole path.

use std::{num::ParseIntError, str::FromStr};

use overlay_trace_common::{latency_histogram::ONE_IN_MAX, packet_sampling::SAMPLE_MAX};
use overlay_trace_format::{Sampling, Threshold};

/// Packets above a latency threshold are all recorded, and 1 in `one_in` of the rest.
#[derive(Clone, Copy, Debug)]
pub struct TailSampling {
    pub threshold: Threshold,
    /// At least 1; each sample is weighted by it.
    pub one_in: u32,
}

/// Sampling by packet: 1 in so many packets is followed, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketSampling(pub u32);

impl FromStr for PacketSampling {
    type Err = String;

    fn from_str(text: &str) -> Result<PacketSampling, String> {
        let number = text.strip_prefix("1/").unwrap_or(text);
        number
            .parse()
            .map_err(|error: ParseIntError| error.to_string())
            .and_then(|one_in| match one_in {
                1..=SAMPLE_MAX => Ok(PacketSampling(one_in)),
                _ => Err(format!("1/1 to 1/{SAMPLE_MAX} can be sampled")),
            })
            .map_err(|why| format!("{why}: a share has the form 1/64"))
    }
}

/// Options of commands that record.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct SamplingOptions {
    /// Follow one in N packets only, as cheaply as possible; each is weighted by N. Every machine chooses the same packets,
    /// so that `merge` can join their recordings
    #[arg(long, value_name = "1/N")]
    sample: Option<PacketSampling>,
    /// Record only the packets above a latency threshold, dropped packets, and 1 in --one-in of the rest. The
    /// threshold is a time, or a percentile, which follows the load (1ms, p99.9)
    #[arg(long = "tail-above", value_name = "PERCENTILE|TIME")]
    threshold: Option<Threshold>,
    /// With --tail-above: sample 1 in N of the rest; each sample is weighted by N
    #[arg(long, value_name = "N", requires = "threshold", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(ONE_IN_MAX)))]
    one_in: u32,
}

impl SamplingOptions {
    /// Of which packets the whole path is kept; `None` if of every one.
    pub fn tail(self) -> Option<TailSampling> {
        self.threshold.map(|threshold| TailSampling { threshold, one_in: self.one_in })
    }

    /// Which packets are followed; `None` if all are.
    pub fn by_packet(self) -> Option<PacketSampling> {
        self.sample.filter(|sample| sample.0 > 1)
    }
}

impl From<TailSampling> for Sampling {
    fn from(sampling: TailSampling) -> Sampling {
        Sampling { above: sampling.threshold.to_string(), one_in: sampling.one_in }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_two_forms() {
        assert_eq!(("1/64".parse(), "8".parse()), (Ok(PacketSampling(64)), Ok(PacketSampling(8))));
        for wrong in ["0", "1/0", "1/100000", "64/1", "1/", "-1", "0.5"] {
            let error = wrong.parse::<PacketSampling>().unwrap_err();
            assert!(error.ends_with("a share has the form 1/64"), "{wrong}: {error}");
        }
    }
}
