//! speedscope's own format: a sampled profile whose weights are ns, one sample for each row of the report.

use std::{collections::HashMap, io::Write};

use anyhow::Result;
use overlay_trace_analysis::{breakdown::Analysis, report::frames::stack};
use serde::Serialize;

use crate::Exported;

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

#[derive(Serialize)]
struct File {
    #[serde(rename = "$schema")]
    schema: &'static str,
    name: String,
    exporter: String,
    shared: Shared,
    profiles: [Profile; 1],
}

#[derive(Serialize)]
struct Shared {
    frames: Vec<Frame>,
}

#[derive(Serialize)]
struct Frame {
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u128,
    /// Numbers of frames, the outermost first.
    samples: Vec<Vec<usize>>,
    weights: Vec<u128>,
}

pub fn write(analysis: &Analysis, mut out: impl Write) -> Result<Exported> {
    let (mut frames, mut numbers) = (Vec::new(), HashMap::new());
    let root = format!("node {}", analysis.header.node);
    let mut number = |name: String| {
        *numbers.entry(name.clone()).or_insert_with(|| {
            frames.push(Frame { name });
            frames.len() - 1
        })
    };
    let samples: Vec<Vec<usize>> = analysis
        .rows
        .iter()
        .map(|row| stack(&root, &row.key).into_iter().map(|(_, name)| number(name)).collect())
        .collect();
    let weights: Vec<u128> = analysis.rows.iter().map(|row| row.raw.sum()).collect();
    let profile = Profile {
        kind: "sampled",
        name: "time of all packets".into(),
        unit: "nanoseconds",
        start_value: 0,
        end_value: weights.iter().sum(),
        samples,
        weights,
    };
    let exporter = format!("overlay-trace {}", env!("CARGO_PKG_VERSION"));
    let file = File {
        schema: SCHEMA,
        name: analysis.file.clone(),
        exporter,
        shared: Shared { frames },
        profiles: [profile],
    };
    serde_json::to_writer(&mut out, &file)?;
    out.write_all(b"\n")?;
    Ok(Exported { items: analysis.rows.len() as u64, left_out: 0 })
}
