//! The columns of a row group.

use std::{collections::HashMap, io::Write};

use anyhow::{Context, Result};
use parquet::{
    data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type},
    file::writer::{SerializedFileWriter, SerializedRowGroupWriter},
};

/// Texts that are kept once: most are the same in many rows.
#[derive(Default)]
pub struct Texts(HashMap<String, ByteArray>);

/// So many texts are kept at most: addresses may be many.
const TEXTS_MAX: usize = 1 << 16;

impl Texts {
    pub fn get(&mut self, text: &str) -> ByteArray {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        if self.0.len() >= TEXTS_MAX {
            self.0.clear();
        }
        let bytes = ByteArray::from(text);
        self.0.insert(text.into(), bytes.clone());
        bytes
    }
}

#[derive(Default)]
pub struct Columns {
    pub node: Vec<ByteArray>,
    pub id: Vec<i64>,
    pub parent: Vec<Option<i64>>,
    pub start: Vec<i64>,
    pub start_ns: Vec<i64>,
    pub ns: Vec<i64>,
    pub protocol: Vec<Option<ByteArray>>,
    pub source: Vec<Option<ByteArray>>,
    pub source_port: Vec<i32>,
    pub destination: Vec<Option<ByteArray>>,
    pub destination_port: Vec<i32>,
    pub bytes: Vec<i64>,
    pub segments: Vec<i32>,
    pub outcome: Vec<ByteArray>,
    pub drop_reason: Vec<ByteArray>,
    pub drop_location: Vec<ByteArray>,
    pub cpu: Vec<i32>,
    pub weight: Vec<i64>,
    pub stage: Vec<ByteArray>,
    pub layer: Vec<ByteArray>,
    pub kind: Vec<ByteArray>,
    pub level: Vec<i32>,
    pub direction: Vec<ByteArray>,
    pub netns: Vec<ByteArray>,
    pub device: Vec<ByteArray>,
    pub span_cpu: Vec<Option<i32>>,
    pub span_ns: Vec<i64>,
    /// Of the list of spans: 1 where there is one, and 0 in its first entry. A list without spans has an entry too.
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl Columns {
    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    pub fn spans(&self) -> usize {
        self.definition.len()
    }

    /// Begins a packet's list of so many spans.
    pub fn begin_spans(&mut self, spans: usize) {
        self.definition.push(i16::from(spans > 0));
        self.repetition.push(0);
        for _ in 1..spans {
            self.definition.push(1);
            self.repetition.push(1);
        }
    }

    /// Writes them as a row group, in the schema's order.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write<W: Write + Send>(self, writer: &mut SerializedFileWriter<W>) -> Result<()> {
        let lists = Lists { definition: &self.definition, repetition: &self.repetition };
        let mut group = writer.next_row_group()?;
        required::<ByteArrayType, W>(&mut group, &self.node)?;
        required::<Int64Type, W>(&mut group, &self.id)?;
        optional::<Int64Type, W>(&mut group, &self.parent)?;
        required::<Int64Type, W>(&mut group, &self.start)?;
        required::<Int64Type, W>(&mut group, &self.start_ns)?;
        required::<Int64Type, W>(&mut group, &self.ns)?;
        optional::<ByteArrayType, W>(&mut group, &self.protocol)?;
        optional::<ByteArrayType, W>(&mut group, &self.source)?;
        required::<Int32Type, W>(&mut group, &self.source_port)?;
        optional::<ByteArrayType, W>(&mut group, &self.destination)?;
        required::<Int32Type, W>(&mut group, &self.destination_port)?;
        required::<Int64Type, W>(&mut group, &self.bytes)?;
        required::<Int32Type, W>(&mut group, &self.segments)?;
        required::<ByteArrayType, W>(&mut group, &self.outcome)?;
        required::<ByteArrayType, W>(&mut group, &self.drop_reason)?;
        required::<ByteArrayType, W>(&mut group, &self.drop_location)?;
        required::<Int32Type, W>(&mut group, &self.cpu)?;
        required::<Int64Type, W>(&mut group, &self.weight)?;
        lists.column::<ByteArrayType, W>(&mut group, &self.stage)?;
        lists.column::<ByteArrayType, W>(&mut group, &self.layer)?;
        lists.column::<ByteArrayType, W>(&mut group, &self.kind)?;
        lists.column::<Int32Type, W>(&mut group, &self.level)?;
        lists.column::<ByteArrayType, W>(&mut group, &self.direction)?;
        lists.column::<ByteArrayType, W>(&mut group, &self.netns)?;
        lists.column::<ByteArrayType, W>(&mut group, &self.device)?;
        lists.optional_column::<Int32Type, W>(&mut group, &self.span_cpu)?;
        lists.column::<Int64Type, W>(&mut group, &self.span_ns)?;
        group.close()?;
        Ok(())
    }
}

type Group<'a, W> = SerializedRowGroupWriter<'a, W>;

fn column<T: DataType, W: Write + Send>(
    group: &mut Group<'_, W>,
    values: &[T::T],
    definition: Option<&[i16]>,
    repetition: Option<&[i16]>,
) -> Result<()> {
    let mut column = group.next_column()?.context("the schema has fewer columns than are written")?;
    column.typed::<T>().write_batch(values, definition, repetition)?;
    column.close()?;
    Ok(())
}

fn required<T: DataType, W: Write + Send>(group: &mut Group<'_, W>, values: &[T::T]) -> Result<()> {
    column::<T, W>(group, values, None, None)
}

fn optional<T: DataType, W: Write + Send>(group: &mut Group<'_, W>, values: &[Option<T::T>]) -> Result<()> {
    let definition: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.iter().flatten().cloned().collect();
    column::<T, W>(group, &values, Some(&definition), None)
}

/// The lists of spans.
struct Lists<'a> {
    definition: &'a [i16],
    repetition: &'a [i16],
}

impl Lists<'_> {
    fn column<T: DataType, W: Write + Send>(&self, group: &mut Group<'_, W>, values: &[T::T]) -> Result<()> {
        column::<T, W>(group, values, Some(self.definition), Some(self.repetition))
    }

    fn optional_column<T: DataType, W: Write + Send>(
        &self,
        group: &mut Group<'_, W>,
        values: &[Option<T::T>],
    ) -> Result<()> {
        let mut next = values.iter();
        // A span is defined at 1, its value at 2.
        let level = |&list: &i16| match list {
            0 => 0,
            _ => 1 + i16::from(next.next().is_some_and(Option::is_some)),
        };
        let definition: Vec<i16> = self.definition.iter().map(level).collect();
        let values: Vec<T::T> = values.iter().flatten().cloned().collect();
        column::<T, W>(group, &values, Some(&definition), Some(self.repetition))
    }
}
