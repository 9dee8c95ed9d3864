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
mod tests {
    use super::*;

    fn info(kind: u32, count: u32) -> u32 {
        kind << 24 | count
    }

    fn encode(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let length = types.len() as u32 * 4;
        let header = [MAGIC as u32 | 1 << 16, 24, 0, length, length, strings.len() as u32];
        let words = header.iter().chain(types).flat_map(|word| word.to_ne_bytes());
        words.chain(strings.iter().copied()).collect()
    }

    /// BTF of `struct a { int x; struct { int y; }; }` on top of nothing, and a function `f(struct a *)`.
    fn sample() -> Vec<u8> {
        let types = [
            &[1, info(1, 0), 4, 32][..],            // 1: int
            &[0, info(4, 1), 4, 9, 1, 0],           // 2: struct { int y; }
            &[5, info(4, 2), 8, 7, 1, 0, 0, 2, 32], // 3: struct a
            &[0, info(2, 0), 3],                    // 4: struct a *
            &[0, info(13, 1), 0, 0, 4],             // 5: void (struct a *)
            &[11, info(12, 0), 5],                  // 6: f
        ];
        encode(&types.concat(), b"\0int\0a\0x\0y\0f\0")
    }

    /// BTF of a module on top of it: `struct b { struct a *x; int z; }`, functions `f(struct b *)` and `g(struct a *)`.
    /// What lies in the base is referred to there: types before 7, strings before 13.
    fn module() -> Vec<u8> {
        let types = [
            &[13, info(4, 2), 12, 7, 4, 0, 15, 1, 64][..], // 7: struct b
            &[0, info(2, 0), 7],                           // 8: struct b *
            &[0, info(13, 1), 0, 0, 8],                    // 9: void (struct b *)
            &[11, info(12, 0), 9],                         // 10: f
            &[17, info(12, 0), 5],                         // 11: g
        ];
        encode(&types.concat(), b"b\0z\0g\0")
    }

    fn split() -> (Arc<Btf>, Btf) {
        let base = Arc::new(Btf::parse(&sample(), None).unwrap());
        let module = Btf::parse(&module(), Some(base.clone())).unwrap();
        (base, module)
    }

    #[test]
    fn a_modules_types_build_on_the_kernels() {
        let (_, module) = split();
        assert_eq!(module.first(), 7);
        let b = module.find("b", Kind::Struct).unwrap();
        let members: Vec<_> =
            module.members(b).map(|member| (member.name.to_owned(), member.type_id, member.bits)).collect();
        assert_eq!(members, [("x".to_owned(), 4, 0), ("z".to_owned(), 1, 64)]);
        assert_eq!(module.kind(4), Kind::Pointer);
        assert_eq!(module.name(module.behind(4)), "a");
        let g = module.find("g", Kind::Function).unwrap();
        let parameter = module.parameters(module.behind(g)).next().unwrap();
        assert_eq!(module.name(module.behind(parameter)), "a");
    }

    #[test]
    fn only_a_modules_own_types_are_found_in_it() {
        let (base, module) = split();
        assert_eq!(module.find("a", Kind::Struct), None);
        // Both have a function of this name.
        assert_eq!(base.find("f", Kind::Function), Some(6));
        assert_eq!(module.find("f", Kind::Function), Some(10));
        let parameter = module.parameters(module.behind(10)).next().unwrap();
        assert_eq!(module.name(module.behind(parameter)), "b");
    }

    #[test]
    fn types_beyond_the_end_are_none() {
        let (base, module) = split();
        assert_eq!(base.kind(7), Kind::Other);
        assert_eq!(module.kind(12), Kind::Other);
        assert_eq!(module.raw(12), None);
        assert_eq!(module.raw(10), Some(&[11, info(12, 0), 9][..]));
        assert_eq!(module.raw(3), base.raw(3));
        assert_eq!((module.text(12), module.text(13), module.text(400)), ("", "b", ""));
    }

    #[test]
    fn types_are_found_and_walked() {
        let btf = Btf::parse(&sample(), None).unwrap();
        let a = btf.find("a", Kind::Struct).unwrap();
        let members: Vec<_> = btf.members(a).map(|member| (member.name.to_owned(), member.bits)).collect();
        assert_eq!(members, [("x".to_owned(), 0), (String::new(), 32)]);
        let f = btf.find("f", Kind::Function).unwrap();
        let parameter = btf.parameters(btf.behind(f)).next().unwrap();
        assert_eq!(btf.kind(parameter), Kind::Pointer);
        assert_eq!(btf.name(btf.behind(parameter)), "a");
        assert_eq!(btf.find("a", Kind::Function), None);
    }

    #[test]
    fn what_is_cut_off_or_foreign_is_an_error_and_no_panic() {
        let whole = sample();
        for length in 0..whole.len() {
            assert!(Btf::parse(&whole[..length], None).is_err(), "{length} bytes were taken");
        }
        assert!(Btf::parse(&[0x7f; 64], None).is_err());
    }
}
