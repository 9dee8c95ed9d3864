//! Where the kernel's functions are.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, Result};

/// The addresses of all functions of the kernel and its modules, some 10 MB. The kernel takes a tenth of a second of
/// a CPU to write them down, so that they are read when nothing is measured yet.
#[derive(Default)]
pub struct Addresses {
    /// Where a function begins, and where its name does in `names`; sorted.
    starts: Vec<(u64, u32)>,
    /// One behind the other, each with a line's end.
    names: String,
}

impl Addresses {
    /// Reads `/proc/kallsyms`. `tell` is told of each function: its name, and the module that it is in.
    ///
    /// # Errors
    ///
    /// If the kernel has no such list.
    pub fn read(tell: impl FnMut(&str, Option<&str>)) -> Result<Addresses> {
        Addresses::read_list(Path::new("/proc/kallsyms"), tell)
    }

    /// The same of any file in the format of `/proc/kallsyms`.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    pub fn read_list(list: &Path, mut tell: impl FnMut(&str, Option<&str>)) -> Result<Addresses> {
        let cannot_read = || format!("cannot read {}", list.display());
        let file = fs::File::open(list)
            .with_context(|| format!("{}: the kernel must be built with CONFIG_KALLSYMS=y", cannot_read()))?;
        let mut addresses = Addresses::default();
        for line in BufReader::with_capacity(1 << 18, file).lines() {
            let line = line.with_context(cannot_read)?;
            let mut fields = line.split_ascii_whitespace();
            if let (Some(address), Some("t" | "T"), Some(name)) =
                (fields.next(), fields.next(), fields.next())
            {
                tell(name, fields.next().map(|module| module.trim_matches(['[', ']'])));
                addresses.add(u64::from_str_radix(address, 16).unwrap_or(0), name);
            }
        }
        addresses.starts.sort_unstable();
        Ok(addresses)
    }

    fn add(&mut self, address: u64, name: &str) {
        self.starts.push((address, self.names.len() as u32));
        self.names.push_str(name);
        self.names.push('\n');
    }

    /// The names of places: the function that each lies in and the distance from its start. Those that no function
    /// is before, or whose addresses the kernel hides, have none.
    pub fn names(&self, places: &[u64]) -> HashMap<u64, String> {
        places.iter().filter_map(|place| Some((*place, self.name(*place)?))).collect()
    }

    fn name(&self, place: u64) -> Option<String> {
        let after = self.starts.partition_point(|(start, _)| *start <= place);
        let (start, at) = *self.starts.get(after.checked_sub(1)?)?;
        let name = self.names.get(at as usize..)?.lines().next()?;
        (start != 0).then(|| format!("{name}+0x{:x}", place - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_after_the_function_that_it_lies_in() {
        let mut addresses = Addresses::default();
        addresses.add(0x100, "first");
        addresses.add(0x200, "second");
        let names = addresses.names(&[0x50, 0x100, 0x1ff, 0x210]);
        assert_eq!(names.len(), 3);
        assert_eq!(names[&0x100], "first+0x0");
        assert_eq!(names[&0x1ff], "first+0xff");
        assert_eq!(names[&0x210], "second+0x10");
    }

    #[test]
    fn hidden_addresses_name_nothing() {
        let mut addresses = Addresses::default();
        addresses.add(0, "hidden");
        assert!(addresses.names(&[0x210]).is_empty());
    }
}
