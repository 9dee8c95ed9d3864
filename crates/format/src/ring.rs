//! A recording that never ends: its last part, in segments that are recordings of their own.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::{Header, HopName, Names, OutputFile, Readers, SeenLater, Translation, check_folder};

/// The smallest ring, in bytes.
pub const RING_MIN: u64 = 8 << 20;
/// A ring has about this many segments.
const SEGMENTS: u64 = 16;
const SUFFIX: &str = ".segment.otr";
/// Held by who writes the ring.
const LOCK: &str = "lock";
/// A list of translated clients is cut to the last ones: those of a month would not end.
const TRANSLATIONS_MAX: usize = 4096;

/// A folder for the segments of one recorder. While this is there, nobody else writes to it.
#[derive(Debug)]
pub struct RingFolder {
    path: PathBuf,
    /// The most bytes of all segments together.
    keep: u64,
    _lock: Flock<File>,
}

impl RingFolder {
    /// Takes the folder, which is created if it is not there, and removes the segments of a recorder that has ended.
    /// `keep` is the most bytes of all segments together, at least [`RING_MIN`].
    ///
    /// # Errors
    ///
    /// One sentence: the folder cannot be created, or is another recorder's.
    pub fn take(path: &Path, keep: u64) -> Result<RingFolder> {
        let shown = path.display();
        if keep < RING_MIN {
            bail!("{keep} bytes are too few for the last packets: give at least {} MiB", RING_MIN >> 20);
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot create the folder {shown}"))?;
        check_folder(path).with_context(|| format!("the folder {shown} cannot be used"))?;
        let lock = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(path.join(LOCK))
            .with_context(|| format!("cannot write to the folder {shown}"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| {
            anyhow!("another monitor keeps its packets in {shown}: give this one another --ring")
        })?;
        for (_, segment) in segments(path) {
            fs::remove_file(&segment).with_context(|| format!("cannot remove {}", segment.display()))?;
        }
        Ok(RingFolder { path: path.into(), keep, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The segments in a folder with their numbers, the oldest first.
pub fn segments(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut segments: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_suffix(SUFFIX)?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    segments.sort();
    segments
}

/// What a new segment begins with, and which segments there are.
#[derive(Debug)]
pub(crate) struct Ring {
    folder: RingFolder,
    number: u64,
    /// The earlier segments, and their bytes.
    earlier: VecDeque<(PathBuf, u64)>,
    header: Header,
    hops: BTreeMap<u16, HopName>,
    names: Names,
    later: Vec<SeenLater>,
    translations: VecDeque<Translation>,
    /// Records that could not be written, which no checkpoint has told of yet; and all of them.
    pub unwritten: u64,
}

/// The parts of a recording that say what its records mean.
pub(crate) struct Beginning<'a> {
    pub header: &'a Header,
    pub hops: Vec<(u16, HopName)>,
    pub names: &'a Names,
    pub later: &'a [SeenLater],
    pub translations: Vec<Translation>,
}

impl Ring {
    pub fn new(folder: RingFolder, header: &Header) -> Ring {
        Ring {
            folder,
            number: 0,
            earlier: VecDeque::new(),
            header: header.clone(),
            hops: BTreeMap::new(),
            names: Names::default(),
            later: Vec::new(),
            translations: VecDeque::new(),
            unwritten: 0,
        }
    }

    /// Creates the next segment's file.
    pub fn create(&mut self) -> io::Result<(OutputFile, PathBuf)> {
        self.number += 1;
        let path = self.folder.path.join(format!("{:012}{SUFFIX}", self.number));
        Ok((OutputFile::create(&path, true, Readers::Owner)?, path))
    }

    pub fn beginning(&self) -> Beginning<'_> {
        Beginning {
            header: &self.header,
            hops: self.hops.iter().map(|(number, name)| (*number, name.clone())).collect(),
            names: &self.names,
            later: &self.later,
            translations: self.translations.iter().cloned().collect(),
        }
    }

    /// Whether a segment of so many bytes is to be followed by another one.
    pub fn is_full(&self, bytes: u64) -> bool {
        bytes >= self.folder.keep / SEGMENTS
    }

    /// Takes up a segment that has ended, and removes the oldest ones, so that there is room for another one.
    pub fn ended(&mut self, path: PathBuf, bytes: u64) {
        self.earlier.push_back((path, bytes));
        let segment = self.folder.keep / SEGMENTS;
        while self.bytes() + segment > self.folder.keep && self.remove_oldest() {}
    }

    /// Removes the oldest segment but the current one.
    pub fn remove_oldest(&mut self) -> bool {
        let Some((path, _)) = self.earlier.pop_front() else { return false };
        let _ = fs::remove_file(path);
        true
    }

    /// Bytes of the earlier segments.
    pub fn bytes(&self) -> u64 {
        self.earlier.iter().map(|(_, bytes)| bytes).sum()
    }

    pub fn hops(&mut self, hops: &[(u16, HopName)]) {
        self.hops.extend(hops.iter().cloned());
    }

    pub fn names(&mut self, names: &Names) {
        self.names.drop_reasons.extend(names.drop_reasons.clone());
        self.names.symbols.extend(names.symbols.clone());
    }

    pub fn later(&mut self, stages: &[SeenLater]) {
        self.later.extend(stages.iter().cloned());
    }

    pub fn translations(&mut self, translations: &[Translation]) {
        self.translations.extend(translations.iter().cloned());
        while self.translations.len() > TRANSLATIONS_MAX {
            self.translations.pop_front();
        }
    }
}
