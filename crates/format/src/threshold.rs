//! The threshold above which a packet is slow.

use std::{fmt, str::FromStr};

use anyhow::{Error, Result, bail};

/// What is slow: more than a percentile, or more than a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// The part of all that is not slow, 0 to 1.
    Quantile(f64),
    /// In ns.
    Time(u64),
}

impl Default for Threshold {
    fn default() -> Threshold {
        Threshold::Quantile(0.99)
    }
}

impl FromStr for Threshold {
    type Err = Error;

    /// `p99`, `p99.9`, or a time as `500us`, `2ms`.
    fn from_str(text: &str) -> Result<Threshold> {
        if let Some(percentile) = text.strip_prefix('p') {
            return match percentile.parse::<f64>() {
                Ok(percentile) if (0.0..100.0).contains(&percentile) => {
                    Ok(Threshold::Quantile(percentile / 100.0))
                }
                _ => bail!("'{text}' is no percentile: write p50, p99 or p99.9, below p100"),
            };
        }
        if let Ok(number) = text.parse::<f64>() {
            let is_percentile = (50.0..100.0).contains(&number);
            let meant = if is_percentile { format!("p{text}") } else { format!("{text}us or {text}ms") };
            bail!("'{text}' has no unit: write a percentile (p99, p99.9) or a time; did you mean {meant}?");
        }
        match humantime::parse_duration(text).map(|time| u64::try_from(time.as_nanos())) {
            Ok(Ok(ns)) => Ok(Threshold::Time(ns)),
            _ => bail!("'{text}' is neither a percentile (p99, p99.9) nor a time (500us, 2ms)"),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What a percentage's floating point has added is cut off.
            Threshold::Quantile(part) => write!(out, "p{}", (part * 1e8).round() / 1e6),
            Threshold::Time(ns) => write!(out, "{}ns", ns),
        }
    }
}
