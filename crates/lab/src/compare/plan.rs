//! Workload plans, as data. To add one: a row in [`PLANS`].

use std::time::Duration;

use anyhow::{Context, Result};

use super::machine_limits::Machine;
use crate::traffic::{Kind, Spec, parse_plan};

/// The traffic that is sent through each lab.
#[derive(Debug)]
pub struct Plan {
    pub name: &'static str,
    /// One sentence for people.
    pub about: &'static str,
    /// In this order; the lab is built again for each.
    pub settings: &'static [Setting],
    /// The largest share of the machine's maximum rate that the plan may offer, 0 to 1. If it offers more, all rates
    /// of the plan are reduced in proportion.
    pub headroom: f64,
    /// The maximum duration of each run while packets are recorded.
    pub recorded: Duration,
}

/// Parameters of the lab, and the traffic through it.
#[derive(Debug)]
pub struct Setting {
    /// The underlay's MTU, bytes.
    pub mtu: u32,
    /// In the syntax of `lab run --traffic`.
    pub runs: &'static [&'static str],
}

/// Rates are not reduced below this, per second, since too few packets would remain.
const LOW_RATE: f64 = 100.0;

/// All plans, the shortest first.
pub const PLANS: &[Plan] = &[
    Plan {
        name: "quick",
        about: "UDP and TCP requests at a constant rate, a stream of small UDP packets, bulk TCP.",
        settings: &[Setting {
            mtu: 1500,
            runs: &[
                "udp-rr:rate=1000,duration=2s",
                "tcp-rr:rate=1000,duration=2s",
                "udp-stream:rate=2000,size=100,duration=1s",
                "tcp-bulk:duration=3s",
            ],
        }],
        headroom: 0.5,
        recorded: Duration::from_secs(1),
    },
    Plan {
        name: "rr",
        about: "One request at a time, at a rate so low that each is answered long before the next.",
        settings: &[Setting {
            mtu: 1500,
            runs: &["udp-rr:rate=200,size=100,duration=10s", "tcp-rr:rate=200,size=100,duration=10s"],
        }],
        headroom: 0.05,
        recorded: Duration::from_secs(3),
    },
    Plan {
        name: "seed-iperf-udp",
        about: "UDP at 1, 10 and 100 Mbit/s, 1 and 3 Gbit/s offered: jitter and loss.",
        settings: &[Setting {
            mtu: 1500,
            runs: &[
                "udp-stream:size=1400,bitrate=1M,duration=5s",
                "udp-stream:size=1400,bitrate=10M,duration=5s",
                "udp-stream:size=1400,bitrate=100M,duration=5s",
                "udp-stream:size=1400,bitrate=1G,duration=5s",
                "udp-stream:size=1400,bitrate=3G,duration=5s",
            ],
        }],
        headroom: 1.0,
        recorded: Duration::from_secs(1),
    },
    Plan {
        name: "seed-http-rate",
        about: "150 000 and 250 000 requests per second with answers of 350 bytes and of 4 KB over 16 connections.",
        settings: &[Setting {
            mtu: 1500,
            runs: &[
                "tcp-rr:size=350B,rate=150000,connections=16,duration=20s",
                "tcp-rr:size=350B,rate=250000,connections=16,duration=20s",
                "tcp-rr:size=4KB,rate=150000,connections=16,duration=20s",
                "tcp-rr:size=4KB,rate=250000,connections=16,duration=20s",
            ],
        }],
        headroom: 0.5,
        recorded: Duration::from_secs(2),
    },
    Plan {
        name: "seed-bulk",
        about: "Bulk TCP with one, four and sixteen streams.",
        settings: &[Setting {
            mtu: 1500,
            runs: &[
                "tcp-bulk:duration=5s",
                "tcp-bulk:connections=4,duration=5s",
                "tcp-bulk:connections=16,duration=5s",
                "tcp-rr:rate=500,duration=5s",
            ],
        }],
        headroom: 0.5,
        recorded: Duration::from_secs(2),
    },
    Plan {
        name: "seed-mtu",
        about: "Bulk TCP and TCP requests at several MTUs of the underlay; the smallest is what IPv6 still allows.",
        settings: &[
            Setting { mtu: 1400, runs: MTU_RUNS },
            Setting { mtu: 1500, runs: MTU_RUNS },
            Setting { mtu: 3000, runs: MTU_RUNS },
            Setting { mtu: 6000, runs: MTU_RUNS },
            Setting { mtu: 9000, runs: MTU_RUNS },
        ],
        headroom: 0.5,
        recorded: Duration::from_secs(1),
    },
];

const MTU_RUNS: &[&str] = &["tcp-bulk:duration=3s", "tcp-rr:rate=500,size=4KB,duration=2s"];

impl Plan {
    /// The plan of this name.
    ///
    /// # Errors
    ///
    /// When there is none; the message lists the plans.
    pub fn find(name: &str) -> Result<&'static Plan> {
        PLANS.iter().find(|plan| plan.name == name).with_context(|| {
            let names: Vec<_> = PLANS.iter().map(|plan| plan.name).collect();
            format!("there is no plan '{name}': there are {}", names.join(", "))
        })
    }

    /// The runs of a setting, with rates that this machine reaches.
    ///
    /// # Errors
    ///
    /// When a run cannot be parsed.
    pub fn specs(&self, setting: &Setting, machine: &Machine) -> Result<Vec<Spec>> {
        let factor = self.factor(machine)?;
        let specs = setting.runs.iter().map(|text| parse_plan(text, Spec::new));
        specs
            .map(|spec| {
                let spec = spec?;
                let rate = spec.rate.min((spec.rate * factor).max(LOW_RATE));
                Ok(if spec.kind == Kind::Bulk { spec } else { Spec { rate, ..spec } })
            })
            .collect()
    }

    /// The factor by which all rates are reduced; 1 or more: not at all.
    ///
    /// # Errors
    ///
    /// When a run cannot be parsed.
    pub fn factor(&self, machine: &Machine) -> Result<f64> {
        let mut factor = 1.0_f64;
        for text in self.settings.iter().flat_map(|setting| setting.runs) {
            let spec = parse_plan(text, Spec::new)?;
            let most = match spec.kind {
                Kind::Bulk => continue,
                Kind::Stream => machine.packets_per_s,
                _ => machine.requests_per_s,
            };
            factor = factor.min(self.headroom * most / spec.rate);
        }
        Ok(factor.max(f64::MIN_POSITIVE))
    }

    /// The duration of the traffic through one lab, with and without a recording.
    pub fn traffic_time(&self) -> Duration {
        let specs = self
            .settings
            .iter()
            .flat_map(|setting| setting.runs)
            .filter_map(|text| parse_plan(text, Spec::new).ok());
        specs.map(|spec| spec.duration + spec.duration.min(self.recorded)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(per_s: f64) -> Machine {
        Machine { packets_per_s: per_s, requests_per_s: per_s }
    }

    #[test]
    fn every_plan_can_be_parsed_and_has_a_unique_name() {
        for plan in PLANS {
            assert_eq!(PLANS.iter().filter(|other| other.name == plan.name).count(), 1);
            for setting in plan.settings {
                let specs = plan.specs(setting, &machine(1e9)).unwrap();
                assert_eq!(specs.len(), setting.runs.len(), "{}", plan.name);
                assert!(specs.iter().all(|spec| spec.duration >= Duration::from_secs(1)), "{}", plan.name);
            }
        }
        assert!(Plan::find("no-such").unwrap_err().to_string().contains("quick"));
    }

    #[test]
    fn a_slow_machine_reduces_all_rates_in_proportion() {
        let plan = Plan::find("seed-http-rate").unwrap();
        let rates = |per_s| -> Vec<f64> {
            let specs = plan.specs(&plan.settings[0], &machine(per_s)).unwrap();
            specs.iter().map(|spec| spec.rate).collect()
        };
        assert_eq!(rates(1e9), [150e3, 250e3, 150e3, 250e3]);
        let reduced = rates(100e3);
        assert!((reduced[1] - 50e3).abs() < 1.0 && (reduced[0] - 30e3).abs() < 1.0, "{reduced:?}");
    }

    #[test]
    fn low_rates_are_not_reduced() {
        let plan = Plan::find("seed-iperf-udp").unwrap();
        let specs = plan.specs(&plan.settings[0], &machine(10e3)).unwrap();
        let configured = 1e6 / (8.0 * 1400.0);
        assert!((specs[0].rate - configured).abs() < 1e-6);
        assert!(specs.windows(2).all(|pair| pair[0].rate <= pair[1].rate));
        assert!((specs[4].rate - 10e3).abs() < 1.0);
    }
}
