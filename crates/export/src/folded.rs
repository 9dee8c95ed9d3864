//! Folded stacks: those of the report.

use std::io::Write;

use anyhow::Result;
use overlay_trace_analysis::{
    breakdown::Analysis,
    report::{self, Sort},
};

use crate::Exported;

pub fn write(analysis: &mut Analysis, mut out: impl Write) -> Result<Exported> {
    out.write_all(&report::report(analysis, report::Format::Folded, Sort::Path)?)?;
    Ok(Exported { items: analysis.rows.len() as u64, left_out: 0 })
}
