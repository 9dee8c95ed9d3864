//! Passages on disk: a recording has more of them than memory has room for.

use std::{
    fs::File,
    io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::{Context, Result};
use overlay_trace_common::record::Flow;

use crate::edge::{Device, Passage};

/// Words of a passage on disk.
const WORDS: usize = 12;
const BYTES: usize = WORDS * 8;
/// What is written at once.
const BUFFER: usize = 16 << 10;
const IS_TAP: u64 = 1 << 32;
const IS_EMPTY: u64 = 1 << 33;
const IS_EXIT: u64 = 1 << 34;
/// In place of the time when a packet was freed.
const NOT_FREED: u64 = u64::MAX;

/// Files without names, one for each part.
pub struct Spill {
    files: Vec<BufWriter<File>>,
}

/// Exits and entries.
pub type Passages = (Vec<Passage>, Vec<Passage>);

impl Spill {
    /// So many parts, in this folder.
    ///
    /// # Errors
    ///
    /// Files cannot be created there.
    pub fn new(parts: usize, folder: &Path) -> Result<Spill> {
        let file = || -> Result<BufWriter<File>> {
            let file = tempfile::tempfile_in(folder)
                .with_context(|| format!("cannot create a temporary file in {}", folder.display()))?;
            Ok(BufWriter::with_capacity(BUFFER, file))
        };
        Ok(Spill { files: (0..parts).map(|_| file()).collect::<Result<_>>()? })
    }

    /// The number of parts.
    pub fn parts(&self) -> usize {
        self.files.len()
    }

    /// Appends a passage to a part.
    ///
    /// # Errors
    ///
    /// The disk is full.
    pub fn push(&mut self, part: usize, passage: &Passage, is_exit: bool) -> Result<()> {
        let words = encode(passage, is_exit).map(u64::to_le_bytes);
        self.files[part].write_all(words.as_flattened()).context("cannot write a temporary file")
    }

    /// Takes all of a part out, in the order in which it came.
    ///
    /// # Errors
    ///
    /// The disk is full, or cannot be read.
    pub fn take(&mut self, part: usize) -> Result<Passages> {
        let (mut exits, mut entries) = (Vec::new(), Vec::new());
        let mut read = || -> std::io::Result<()> {
            self.files[part].flush()?;
            let file = self.files[part].get_mut();
            file.seek(SeekFrom::Start(0))?;
            let mut input = BufReader::new(&mut *file);
            let mut bytes = [0; BYTES];
            loop {
                match input.read_exact(&mut bytes) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(error),
                }
                let (passage, is_exit) = decode(&bytes);
                if is_exit { exits.push(passage) } else { entries.push(passage) }
            }
            // Its place on the disk is free again.
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0)).map(drop)
        };
        read().context("cannot read a temporary file back")?;
        Ok((exits, entries))
    }
}

fn encode(passage: &Passage, is_exit: bool) -> [u64; WORDS] {
    let Passage { device, ns, began_ns, freed_ns, flow, witness, bytes, is_empty, record } = *passage;
    let address = |bytes: [u8; 16], half: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8 * half..8 * half + 8]);
        u64::from_le_bytes(word)
    };
    let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
    [
        ns,
        began_ns,
        freed_ns.unwrap_or(NOT_FREED),
        witness,
        address(flow.source, 0),
        address(flow.source, 1),
        address(flow.destination, 0),
        address(flow.destination, 1),
        u64::from(flow.sequence) << 32 | u64::from(flow.source_port) << 16 | u64::from(flow.destination_port),
        flag(device.is_tap, IS_TAP)
            | flag(is_empty, IS_EMPTY)
            | flag(is_exit, IS_EXIT)
            | u64::from(flow.ip_id) << 16
            | u64::from(flow.protocol) << 8
            | u64::from(flow.version),
        u64::from(bytes) << 32 | u64::from(record),
        u64::from(device.machine) << 16 | u64::from(device.hop),
    ]
}

fn decode(bytes: &[u8; BYTES]) -> (Passage, bool) {
    let word = |number: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8 * number..8 * number + 8]);
        u64::from_le_bytes(word)
    };
    let address = |first: usize| {
        let mut address = [0; 16];
        address.copy_from_slice(&bytes[8 * first..8 * first + 16]);
        address
    };
    let (ports, rest, sizes, place) = (word(8), word(9), word(10), word(11));
    let flow = Flow {
        source: address(4),
        destination: address(6),
        source_port: (ports >> 16) as u16,
        destination_port: ports as u16,
        protocol: (rest >> 8) as u8,
        version: rest as u8,
        ip_id: (rest >> 16) as u16,
        sequence: (ports >> 32) as u32,
    };
    let passage = Passage {
        device: Device { machine: (place >> 16) as u16, hop: place as u16, is_tap: rest & IS_TAP != 0 },
        ns: word(0),
        began_ns: word(1),
        freed_ns: Some(word(2)).filter(|ns| *ns != NOT_FREED),
        flow,
        witness: word(3),
        bytes: (sizes >> 32) as u32,
        is_empty: rest & IS_EMPTY != 0,
        record: sizes as u32,
    };
    (passage, rest & IS_EXIT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_away_comes_back() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut spill = Spill::new(2, folder.path())?;
        let flow = Flow {
            source: [1; 16],
            destination: std::array::from_fn(|at| at as u8),
            source_port: 65_535,
            destination_port: 80,
            protocol: 17,
            version: 6,
            ip_id: 4_711,
            sequence: u32::MAX - 3,
        };
        let device = Device { machine: 3, hop: 65_000, is_tap: true };
        let passage = Passage {
            device,
            ns: u64::MAX - 1,
            began_ns: 7,
            freed_ns: Some(9),
            flow,
            witness: 1 << 63,
            bytes: 70_000,
            is_empty: true,
            record: 123_456_789,
        };
        let other = Passage { freed_ns: None, is_empty: false, ..Passage::default() };
        for _ in 0..2 {
            spill.push(1, &passage, true)?;
            spill.push(1, &other, false)?;
            assert_eq!(spill.take(0)?, (vec![], vec![]));
            assert_eq!(spill.take(1)?, (vec![passage], vec![other]));
        }
        Ok(())
    }
}
