//! `/proc/kallsyms`: the addresses of the kernel's functions, and of a few variables.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, Result};

/// The addresses of all functions of the kernel and its modules, some 10 MB. The kernel needs a tenth of a second of CPU
/// time to print them, so they are read before anything is measured.
#[derive(Default)]
pub struct Kallsyms {
    /// The address of each function, and the offset of its name in `names`; sorted.
    starts: Vec<(u64, u32)>,
    /// The names, each with a line break.
    names: String,
    /// The addresses of [`VARIABLES`], as far as they are listed.
    variables: HashMap<&'static str, u64>,
}

/// Variables whose addresses are wanted. A kernel lists variables only with CONFIG_KALLSYMS_ALL.
const VARIABLES: [&str; 2] = ["vmemmap_base", "page_offset_base"];

impl Kallsyms {
    /// Reads a file in the format of `/proc/kallsyms`, and calls `visit` with the name and the module of each function.
    ///
    /// # Errors
    ///
    /// There is no such file: the kernel has no such list.
    pub fn read_list(list: &Path, visit: impl FnMut(&str, Option<&str>)) -> Result<Kallsyms> {
        let cannot_read = || format!("cannot read {}", list.display());
        let file = File::open(list)
            .with_context(|| format!("{}: the kernel must be built with CONFIG_KALLSYMS=y", cannot_read()))?;
        Kallsyms::read_open(file, visit).with_context(cannot_read)
    }

    /// The same for a file that is open. The kernel shows addresses in it if it did when it was opened, to whoever reads
    /// it.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn read_open(file: File, mut visit: impl FnMut(&str, Option<&str>)) -> Result<Kallsyms> {
        let mut kallsyms = Kallsyms::default();
        for line in BufReader::with_capacity(1 << 18, file).lines() {
            let line = line?;
            let mut fields = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if let "t" | "T" = kind {
                visit(name, fields.next().map(|module| module.trim_matches(['[', ']'])));
                kallsyms.add(number(address), name);
            } else if let Some(variable) = VARIABLES.into_iter().find(|variable| *variable == name) {
                kallsyms.variables.insert(variable, number(address));
            }
        }
        kallsyms.starts.sort_unstable();
        Ok(kallsyms)
    }

    /// The address of one of a few variables; `None` where the kernel does not list it, or hides its address.
    pub fn variable(&self, name: &str) -> Option<u64> {
        self.variables.get(name).copied().filter(|address| *address != 0)
    }

    fn add(&mut self, address: u64, name: &str) {
        self.starts.push((address, self.names.len() as u32));
        self.names.push_str(name);
        self.names.push('\n');
    }

    /// The names of addresses, as `function+offset`. An address before the first function has none, and none has one
    /// where the kernel hides addresses (`kptr_restrict`).
    pub fn names(&self, addresses: &[u64]) -> HashMap<u64, String> {
        addresses.iter().filter_map(|address| Some((*address, self.name(*address)?))).collect()
    }

    fn name(&self, address: u64) -> Option<String> {
        let after = self.starts.partition_point(|(start, _)| *start <= address);
        let (start, offset) = *self.starts.get(after.checked_sub(1)?)?;
        let name = self.names.get(offset as usize..)?.lines().next()?;
        (start != 0).then(|| format!("{name}+0x{:x}", address - start))
    }
}

/// An address as it is listed.
fn number(address: &str) -> u64 {
    u64::from_str_radix(address, 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_named_after_the_function_that_it_lies_in() {
        let mut kallsyms = Kallsyms::default();
        kallsyms.add(0x100, "first");
        kallsyms.add(0x200, "second");
        let names = kallsyms.names(&[0x50, 0x100, 0x1ff, 0x210]);
        assert_eq!(names.len(), 3);
        assert_eq!(names[&0x100], "first+0x0");
        assert_eq!(names[&0x1ff], "first+0xff");
        assert_eq!(names[&0x210], "second+0x10");
    }

    #[test]
    fn hidden_addresses_name_nothing() {
        let mut kallsyms = Kallsyms::default();
        kallsyms.add(0, "hidden");
        assert!(kallsyms.names(&[0x210]).is_empty());
    }
}
