//! Stored results, and whether new ones are worse.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{AFTER, BEFORE, Figures};

/// A ratio that grew by more than this part is worse: some times what differs from run to run.
const TOLERANCE: f64 = 0.03;

/// The results of an earlier benchmark.
#[derive(Serialize, Deserialize)]
pub struct Baseline {
    /// What `uname -r` said in the guest.
    pub kernel: String,
    /// Instructions per packet, untraced.
    untraced: f64,
    /// Instructions per packet over the untraced ones, by case.
    ratios: BTreeMap<String, f64>,
}

impl Baseline {
    /// The results as they are stored.
    pub fn of(kernel: &str, figures: &[Figures]) -> Self {
        let round = |value: f64, digits: f64| (value * digits).round() / digits;
        let traced = figures.iter().filter(|figures| ![BEFORE, AFTER].contains(&figures.case.name));
        let untraced = figures.first().map_or(0.0, |figures| figures.instructions / figures.ratio);
        Self {
            kernel: kernel.to_owned(),
            untraced: round(untraced, 1.0),
            ratios: traced
                .map(|figures| (figures.case.name.to_owned(), round(figures.ratio, 1000.0)))
                .collect(),
        }
    }

    /// Reads a file that [`Self::write`] wrote.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is something else.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} does not hold results of `cargo xtask bench`", file.display()))
    }

    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// The stored ratio of a case.
    pub fn ratio(&self, case: &str) -> Option<f64> {
        self.ratios.get(case).copied()
    }

    /// A sentence if the case has become worse.
    pub fn judge(&self, figures: &Figures) -> Option<String> {
        let (old, new) = (self.ratio(figures.case.name)?, figures.ratio);
        (new > old * (1.0 + TOLERANCE)).then(|| {
            let (name, part) = (figures.case.name, 100.0 * TOLERANCE);
            format!(
                "{name} costs {new:.3} times untraced, more than {part:.0} % above the baseline's {old:.3}"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{CASES, lost::Lost},
        *,
    };

    fn figures(ratio: f64) -> Option<Figures> {
        let case = CASES.iter().find(|case| case.name == "light")?;
        Some(Figures {
            case,
            limit: None,
            instructions: 100.0 * ratio,
            ratio,
            hits: None,
            tcp: 1.0,
            lost: Lost::default(),
            all_counted: true,
        })
    }

    #[test]
    fn only_what_has_grown_beyond_the_tolerance_is_worse() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        Baseline::of("6.12", figures(1.2).as_slice()).write(file.path())?;
        let baseline = Baseline::read(file.path())?;
        assert_eq!(baseline.ratio("light"), Some(1.2));
        let worse = |ratio| figures(ratio).is_some_and(|figures| baseline.judge(&figures).is_some());
        assert!(!worse(1.0) && !worse(1.23) && worse(1.24));
        Ok(())
    }
}
