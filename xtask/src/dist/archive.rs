//! A `.tar.gz` whose bytes depend on its content alone: sorted, owned by root, with one time for all.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// A file of an archive.
pub struct Entry {
    /// Its path below the archive's one folder.
    path: String,
    mode: u32,
    content: Vec<u8>,
}

impl Entry {
    pub fn file(path: &str, content: Vec<u8>) -> Entry {
        Entry { path: path.to_owned(), mode: 0o644, content }
    }

    /// A file that can be run.
    pub fn program(path: &str, content: Vec<u8>) -> Entry {
        Entry { mode: 0o755, ..Entry::file(path, content) }
    }
}

/// Packs the entries into one folder; `time` is in seconds since 1970.
///
/// # Errors
///
/// A path is too long for the format.
pub fn pack(folder: &str, entries: &[Entry], time: u64) -> Result<Vec<u8>> {
    // Neither a time nor a name: the fields of gzip's own header stay empty.
    let gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    let mut builder = Builder::new(gzip);
    for parent in folders(folder, entries) {
        append(&mut builder, &format!("{parent}/"), EntryType::Directory, 0o755, time, &[])?;
    }
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|one, other| one.path.cmp(&other.path));
    for Entry { path, mode, content } in sorted {
        append(&mut builder, &format!("{folder}/{path}"), EntryType::Regular, *mode, time, content)?;
    }
    let gzip = builder.into_inner().context("cannot end the archive")?;
    gzip.finish().context("cannot compress the archive")
}

/// The folders of all entries, parents first.
fn folders(folder: &str, entries: &[Entry]) -> BTreeSet<String> {
    let mut folders = BTreeSet::from([folder.to_owned()]);
    for entry in entries {
        for (at, _) in entry.path.match_indices('/') {
            folders.insert(format!("{folder}/{}", &entry.path[..at]));
        }
    }
    folders
}

fn append(
    builder: &mut Builder<impl std::io::Write>,
    path: &str,
    kind: EntryType,
    mode: u32,
    time: u64,
    content: &[u8],
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, path, content).with_context(|| format!("cannot pack {path}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn entries() -> Vec<Entry> {
        vec![
            Entry::program("tool", b"\x7fELF".to_vec()),
            Entry::file("man/man1/tool.1", b".TH".to_vec()),
            Entry::file("README.md", b"# tool".to_vec()),
        ]
    }

    #[test]
    fn the_order_of_the_entries_makes_no_difference() {
        let mut reversed = entries();
        reversed.reverse();
        assert_eq!(pack("tool-1", &entries(), 7).unwrap(), pack("tool-1", &reversed, 7).unwrap());
        assert_ne!(pack("tool-1", &entries(), 7).unwrap(), pack("tool-1", &entries(), 8).unwrap());
    }

    #[test]
    fn what_is_packed_is_read_back() {
        let packed = pack("tool-1", &entries(), 1_700_000_000).unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(&packed[..]));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            let path = entry.path().unwrap().display().to_string();
            let header = entry.header().clone();
            assert_eq!((header.uid().unwrap(), header.mtime().unwrap()), (0, 1_700_000_000));
            entry.read_to_string(&mut content).unwrap();
            found.push((path, header.mode().unwrap(), content));
        }
        let expected = [
            ("tool-1/", 0o755, ""),
            ("tool-1/man/", 0o755, ""),
            ("tool-1/man/man1/", 0o755, ""),
            ("tool-1/README.md", 0o644, "# tool"),
            ("tool-1/man/man1/tool.1", 0o644, ".TH"),
            ("tool-1/tool", 0o755, "\x7fELF"),
        ];
        assert_eq!(found, expected.map(|(path, mode, content)| (path.to_owned(), mode, content.to_owned())));
    }
}
