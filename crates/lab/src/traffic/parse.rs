//! Parsing of traffic descriptions on the command line and in plans.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use clap::ValueEnum;

use super::spec::{Kind, Protocol, Size, Spec};

impl FromStr for Size {
    type Err = Error;

    /// `350B`, `4KB`, `REQUEST/ANSWER` in bytes, or one number for both.
    fn from_str(text: &str) -> Result<Size> {
        match text {
            "350B" => return Ok(Size::B350),
            "4KB" => return Ok(Size::KB4),
            _ => {}
        }
        let (request, answer) = text.split_once('/').unwrap_or((text, text));
        match (request.parse(), answer.parse()) {
            (Ok(request), Ok(answer)) => Ok(Size { request, answer }),
            _ => bail!("'{text}' is not a size: write 350B, 4KB, BYTES or REQUEST/ANSWER in bytes"),
        }
    }
}

/// A duration as `500ms`, `10s`, `2m`.
///
/// # Errors
///
/// When the text is not of that form.
pub fn parse_duration(text: &str) -> Result<Duration> {
    humantime::parse_duration(text).with_context(|| match text.parse::<u32>() {
        Ok(_) => format!("'{text}' has no unit: did you mean {text}s?"),
        Err(_) => format!("'{text}' is not a duration: write 500ms, 10s or 2m"),
    })
}

/// Bits per second as `800k`, `10M`, `2.5G`.
///
/// # Errors
///
/// When the text is not of that form.
pub fn parse_bit_rate(text: &str) -> Result<f64> {
    let number = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let factor = match &text[number.len()..] {
        "" => 1.0,
        "k" | "K" => 1e3,
        "m" | "M" => 1e6,
        "g" | "G" => 1e9,
        _ => f64::NAN,
    };
    match number.parse::<f64>().map(|number| number * factor) {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => bail!("'{text}' is not a bit rate: write 800k, 10M or 2.5G"),
    }
}

/// A run of a plan: its name and, after a colon, the differences from the defaults, as
/// `udp-rr:rate=2000,size=4KB,duration=3s,connections=4`. `defaults` creates the run that these change.
///
/// # Errors
///
/// One sentence that names the part that is not valid.
pub fn parse_plan(text: &str, defaults: impl Fn(Kind, Protocol) -> Spec) -> Result<Spec> {
    let (name, changes) = text.split_once(':').unwrap_or((text, ""));
    let (kind, protocol) = parse_name(name)?;
    let mut spec = defaults(kind, protocol);
    for change in changes.split(',').filter(|change| !change.is_empty()) {
        let (key, value) = change
            .split_once('=')
            .with_context(|| format!("'{change}' in the traffic '{text}' is not of the form KEY=VALUE"))?;
        let number = || value.parse::<f64>().with_context(|| format!("'{value}' is not a number for {key}"));
        match key {
            "rate" => spec.rate = number()?,
            "bitrate" => spec.rate = parse_bit_rate(value)? / (8.0 * f64::from(spec.size.request.max(1))),
            "count" => spec.count = Some(number()? as u64),
            "connections" => spec.connections = number()? as u32,
            "size" => spec.size = value.parse()?,
            "duration" => spec.duration = parse_duration(value)?,
            "timeout" => spec.timeout = parse_duration(value)?,
            "gso" => spec.options.gso = number()? as u32,
            "gro" => spec.options.gro = value.parse().context("gro is neither true nor false")?,
            "group" => spec.options.group = Some(value.parse().context("group is not an IPv4 address")?),
            "reader-delay" => spec.options.reader_delay = parse_duration(value)?,
            _ => bail!(
                "unknown key '{key}' in the traffic '{text}': the keys are rate, bitrate, count, connections, size, duration, timeout, gso, gro, group and reader-delay"
            ),
        }
    }
    spec.check()?;
    Ok(spec)
}

fn parse_name(name: &str) -> Result<(Kind, Protocol)> {
    if name == "ping" {
        return Ok((Kind::Ping, Protocol::Icmp));
    }
    name.split_once('-')
        .and_then(|(protocol, kind)| {
            Some((Kind::from_str(kind, false).ok()?, Protocol::from_str(protocol, false).ok()?))
        })
        .with_context(|| {
            format!("there is no traffic '{name}': use udp-rr, tcp-rr, tcp-bulk, udp-stream or ping")
        })
}
