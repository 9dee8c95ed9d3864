//! Records by their number: those that are read together are near each other in a recording.

use std::{collections::VecDeque, rc::Rc};

use anyhow::Result;
use overlay_trace_common::{
    path::{Span, spans},
    record::RecordHeader,
};

use crate::machine::Machine;

/// So many chunks of a recording are kept.
const CHUNKS: usize = 8;

/// A recording's records.
pub struct Fetch<'a> {
    machine: &'a Machine,
    /// The last used first, by their numbers.
    chunks: VecDeque<(usize, Rc<Chunk>)>,
}

/// A chunk's records.
#[derive(Default)]
struct Chunk {
    /// Header, and where the path begins and ends in `words`.
    records: Vec<(RecordHeader, usize, usize)>,
    words: Vec<u32>,
}

impl<'a> Fetch<'a> {
    /// Of this machine.
    pub fn new(machine: &'a Machine) -> Fetch<'a> {
        Fetch { machine, chunks: VecDeque::new() }
    }

    /// A record, and the spans of its path.
    ///
    /// # Errors
    ///
    /// The recording cannot be read any more.
    pub fn record(&mut self, record: u32) -> Result<(RecordHeader, Vec<Span>)> {
        let (chunk, at) = self.find(record)?;
        let (header, from, to) = chunk.records.get(at).copied().unwrap_or_default();
        Ok((header, spans(&chunk.words[from..to]).collect()))
    }

    /// A record's header.
    ///
    /// # Errors
    ///
    /// As for [`record`](Fetch::record).
    pub fn header(&mut self, record: u32) -> Result<RecordHeader> {
        let (chunk, at) = self.find(record)?;
        Ok(chunk.records.get(at).map(|(header, ..)| *header).unwrap_or_default())
    }

    /// The chunk that has a record, and where in it.
    fn find(&mut self, record: u32) -> Result<(Rc<Chunk>, usize)> {
        let number = self.machine.chunks.partition_point(|first| *first <= record).saturating_sub(1);
        let at = (record - self.machine.chunks[number]) as usize;
        if let Some(known) = self.chunks.iter().position(|(known, _)| *known == number) {
            if known > 0
                && let Some(chunk) = self.chunks.remove(known)
            {
                self.chunks.push_front(chunk);
            }
            return Ok((Rc::clone(&self.chunks[0].1), at));
        }
        let mut chunk = Chunk::default();
        self.machine.recording.for_each_record_of(number..number + 1, |record| {
            let from = chunk.words.len();
            chunk.words.extend_from_slice(record.path);
            chunk.records.push((record.header, from, chunk.words.len()));
        })?;
        let chunk = Rc::new(chunk);
        self.chunks.push_front((number, Rc::clone(&chunk)));
        self.chunks.truncate(CHUNKS);
        Ok((chunk, at))
    }
}
