//! A profile of pprof: a sample for each row of the report, with the packets that were there and their time.

mod messages;

use std::{collections::HashMap, io::Write};

use anyhow::Result;
use flate2::{Compression, write::GzEncoder};
use overlay_trace_analysis::{
    breakdown::{Analysis, Key},
    report::frames::stack,
};
use prost::Message;

use crate::Exported;
pub use messages::{Function, Label, Line, Location, Profile, Sample, ValueType};

/// Texts and frames by number. The text of number 0 is empty; numbers of frames begin with 1.
struct Builder {
    profile: Profile,
    texts: HashMap<String, i64>,
    frames: HashMap<String, u64>,
}

impl Builder {
    fn new() -> Builder {
        let mut builder =
            Builder { profile: Profile::default(), texts: HashMap::new(), frames: HashMap::new() };
        builder.text("");
        builder
    }

    fn text(&mut self, text: &str) -> i64 {
        if let Some(&number) = self.texts.get(text) {
            return number;
        }
        let number = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.into());
        self.texts.insert(text.into(), number);
        number
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.text(kind), unit: self.text(unit) }
    }

    /// A frame is a function at a location of its own.
    fn frame(&mut self, name: &str) -> u64 {
        if let Some(&id) = self.frames.get(name) {
            return id;
        }
        let id = self.frames.len() as u64 + 1;
        let name_number = self.text(name);
        self.profile.function.push(Function { id, name: name_number, ..Function::default() });
        self.profile.location.push(Location { id, line: vec![Line { function_id: id, line: 0 }] });
        self.frames.insert(name.into(), id);
        id
    }

    fn labels(&mut self, key: &Key) -> Vec<Label> {
        let direction = key.direction.map(|direction| direction.name().to_owned());
        // A number of 0 is none to pprof.
        let level = key.level.map(|level| level.to_string());
        let texts = [
            ("layer", &key.layer),
            ("level", &level),
            ("direction", &direction),
            ("netns", &key.netns),
            ("device", &key.device),
            ("kind", &Some(key.kind.to_owned())),
        ];
        let mut labels = Vec::new();
        for (name, text) in texts {
            if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
                labels.push(Label { key: self.text(name), str: self.text(text) });
            }
        }
        labels
    }
}

/// pprof's numbers are signed.
fn signed(number: u128) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub fn write(analysis: &Analysis, out: impl Write) -> Result<Exported> {
    let mut builder = Builder::new();
    builder.profile.sample_type =
        vec![builder.value_type("packets", "count"), builder.value_type("time", "nanoseconds")];
    builder.profile.default_sample_type = builder.text("time");
    builder.profile.time_nanos = signed(analysis.header.start_wall_ns.into());
    builder.profile.duration_nanos = signed(analysis.last.duration_ns.into());
    let root = format!("node {}", analysis.header.node);
    for row in &analysis.rows {
        let stack = stack(&root, &row.key);
        // The leaf comes first.
        let location_id = stack.iter().rev().map(|(_, name)| builder.frame(name)).collect();
        let value = vec![signed(row.raw.count().into()), signed(row.raw.sum())];
        let label = builder.labels(&row.key);
        builder.profile.sample.push(Sample { location_id, value, label });
    }
    let mut out = GzEncoder::new(out, Compression::fast());
    out.write_all(&builder.profile.encode_to_vec())?;
    out.finish()?;
    Ok(Exported { items: analysis.rows.len() as u64, left_out: 0 })
}

#[cfg(test)]
pub mod tests {
    use std::io::Read;

    use super::*;

    /// What pprof reads.
    pub fn read(bytes: &[u8]) -> Profile {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        Profile::decode(&plain[..]).unwrap()
    }
}
