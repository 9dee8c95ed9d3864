//! The kernel's type information (BTF), its modules' included.
//!
//! The crates for this either cannot read a module's BTF, which builds on the kernel's, or have a licence
//! that a statically linked tool of ours cannot carry. Only what the attach plan needs is read. The
//! format is described in the kernel's `Documentation/bpf/btf.rst`.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use anyhow::{Context, Result, bail};

const MAGIC: u16 = 0xeb9f;

/// The kinds of types that are told apart here, by their numbers in BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pointer,
    Struct,
    Union,
    Enum,
    Typedef,
    /// `const`, `volatile`, `restrict` and type tags: what they qualify is the type behind them.
    Qualifier,
    Function,
    Prototype,
    Other,
}

/// The types of the kernel, or of a module on top of them.
pub struct Btf {
    words: Vec<u32>,
    strings: Vec<u8>,
    /// Where each type begins in `words`; the first is that of number `first`.
    begins: Vec<u32>,
    first: u32,
    first_string: u32,
    /// The named types, and their numbers.
    names: HashMap<Box<str>, Vec<u32>>,
    base: Option<Arc<Btf>>,
}

/// A member of a struct or union.
pub struct Member<'a> {
    pub name: &'a str,
    pub type_id: u32,
    /// From the beginning of the struct, in bits.
    pub bits: u32,
}

impl Btf {
    /// Reads a file of `/sys/kernel/btf`; for a module's, `base` is the kernel's own.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not BTF of this machine's byte order.
    pub fn read(path: impl AsRef<Path>, base: Option<Arc<Btf>>) -> Result<Btf> {
        let path = path.as_ref();
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Btf::parse(&bytes, base).with_context(|| format!("{} is not BTF", path.display()))
    }

    fn parse(bytes: &[u8], base: Option<Arc<Btf>>) -> Result<Btf> {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
        };
        let header = |number: usize| word(4 * number).context("its header is cut off");
        if header(0)? as u16 != MAGIC {
            bail!("its first bytes are not those of BTF in this machine's byte order");
        }
        let (length, types, types_bytes) = (header(1)?, header(2)?, header(3)?);
        let (strings, strings_bytes) = (header(4)?, header(5)?);
        let part = |offset: u32, bytes_of: u32| {
            let begin = length as usize + offset as usize;
            bytes.get(begin..begin + bytes_of as usize).context("it is cut off")
        };
        let words = part(types, types_bytes)?
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        let mut btf = Btf {
            words,
            strings: part(strings, strings_bytes)?.to_vec(),
            begins: Vec::new(),
            first: base.as_ref().map_or(1, |base| base.first + base.begins.len() as u32),
            first_string: base.as_ref().map_or(0, |base| base.strings.len() as u32),
            names: HashMap::new(),
            base,
        };
        btf.index()?;
        Ok(btf)
    }

    fn index(&mut self) -> Result<()> {
        let mut at = 0;
        while at < self.words.len() {
            let [Some(name), Some(info)] = [self.words.get(at), self.words.get(at + 1)] else { break };
            let number = self.first + self.begins.len() as u32;
            let name = self.string(*name);
            if !name.is_empty() {
                let name = name.into();
                self.names.entry(name).or_default().push(number);
            }
            self.begins.push(at as u32);
            at += 3 + words_after(*info)?;
        }
        Ok(())
    }

    fn string(&self, offset: u32) -> &str {
        if offset < self.first_string {
            return self.base.as_ref().map_or("", |base| base.string(offset));
        }
        let rest = self.strings.get((offset - self.first_string) as usize..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        std::str::from_utf8(&rest[..end]).unwrap_or_default()
    }

    /// The type's words from its header on, and the BTF that it is in.
    fn type_words(&self, id: u32) -> Option<(&Btf, &[u32])> {
        if id < self.first {
            return self.base.as_ref()?.type_words(id);
        }
        let begin = *self.begins.get((id - self.first) as usize)? as usize;
        Some((self, self.words.get(begin..)?))
    }

    /// The number of the first type that this BTF itself has: 1, or for a module's (split BTF) the next one after its
    /// base.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// A type as the format has it: `struct btf_type`, and what follows it.
    pub fn raw(&self, id: u32) -> Option<&[u32]> {
        let (_, words) = self.type_words(id)?;
        let following = words_after(*words.get(1)?).ok()?;
        words.get(..3 + following)
    }

    /// The string at an offset, which may lie in the base.
    pub fn text(&self, offset: u32) -> &str {
        self.string(offset)
    }

    /// The number of the type of this name and kind that this BTF itself adds.
    pub fn find(&self, name: &str, kind: Kind) -> Option<u32> {
        self.names.get(name)?.iter().copied().find(|id| self.kind(*id) == kind)
    }

    /// The kind of a type; `Other` also for numbers that there are not.
    pub fn kind(&self, id: u32) -> Kind {
        let Some((_, [_, info, ..])) = self.type_words(id) else { return Kind::Other };
        match info >> 24 & 31 {
            2 => Kind::Pointer,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum,
            8 => Kind::Typedef,
            9..=11 | 18 => Kind::Qualifier,
            12 => Kind::Function,
            13 => Kind::Prototype,
            _ => Kind::Other,
        }
    }

    /// A type's name; empty if it has none.
    pub fn name(&self, id: u32) -> &str {
        self.type_words(id).map_or("", |(btf, words)| btf.string(words[0]))
    }

    /// The type behind a pointer, a typedef, a qualifier, or the prototype of a function.
    pub fn behind(&self, id: u32) -> u32 {
        self.type_words(id).and_then(|(_, words)| words.get(2).copied()).unwrap_or(0)
    }

    /// Bytes of a struct or union.
    pub fn size(&self, id: u32) -> Option<u32> {
        matches!(self.kind(id), Kind::Struct | Kind::Union).then(|| self.behind(id))
    }

    /// The type behind qualifiers and typedefs.
    pub fn unqualified(&self, mut id: u32) -> u32 {
        while matches!(self.kind(id), Kind::Qualifier | Kind::Typedef) {
            id = self.behind(id);
        }
        id
    }

    /// The members of a struct or union.
    pub fn members(&self, id: u32) -> impl Iterator<Item = Member<'_>> {
        self.entries(id, 3).map(|(btf, flag, entry)| Member {
            name: btf.string(entry[0]),
            type_id: entry[1],
            bits: if flag { entry[2] & 0xff_ffff } else { entry[2] },
        })
    }

    /// The types of a prototype's parameters.
    pub fn parameters(&self, id: u32) -> impl Iterator<Item = u32> + '_ {
        self.entries(id, 2).map(|(_, _, entry)| entry[1])
    }

    /// The names and values of an enumeration.
    pub fn values(&self, id: u32) -> impl Iterator<Item = (&str, u32)> {
        self.entries(id, 2).map(|(btf, _, entry)| (btf.string(entry[0]), entry[1]))
    }

    fn entries(&self, id: u32, width: usize) -> impl Iterator<Item = (&Btf, bool, &[u32])> {
        self.type_words(id).into_iter().flat_map(move |(btf, words)| {
            let info = words.get(1).copied().unwrap_or(0);
            let count = (info & 0xffff) as usize;
            let all = words.get(3..3 + count * width).unwrap_or_default();
            all.chunks_exact(width).map(move |entry| (btf, info >> 31 == 1, entry))
        })
    }
}

/// How many words follow a type's three common ones.
fn words_after(info: u32) -> Result<usize> {
    let count = (info & 0xffff) as usize;
    Ok(match info >> 24 & 31 {
        1 | 14 | 17 => 1,
        3 => 3,
        4 | 5 | 15 | 19 => 3 * count,
        6 | 13 => 2 * count,
        2 | 7..=12 | 16 | 18 => 0,
        kind => bail!("it has a type of the unknown kind {kind}"),
    })
}

#[cfg(test)]
mod tests;
