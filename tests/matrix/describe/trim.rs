//! The part of a BTF that is needed, as BTF of its own. The format is described in the kernel's
//! `Documentation/bpf/btf.rst`.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use overlay_trace_probe::sys::btf::{Btf, Kind};

const MAGIC: u32 = 0xeb9f | 1 << 16;
const HEADER_BYTES: u32 = 24;

/// What is to be kept.
#[derive(Default)]
pub struct Wanted<'a> {
    pub functions: Vec<&'a str>,
    pub tracepoints: Vec<&'a str>,
    pub structs: &'a [&'a str],
    pub enumerations: &'a [&'a str],
}

/// A reference to a type.
#[derive(Clone, Copy)]
enum Type {
    Void,
    /// Of the base, by its number there from 1 on.
    Base(u32),
    /// Of the same BTF, by its position from 0 on.
    Own(u32),
}

enum Word {
    Plain(u32),
    Name(String),
    Type(Type),
}

/// Collects the types that are needed of a BTF, and of the base below it.
pub struct Trimmer<'a, 'b> {
    btf: &'a Btf,
    base: Option<&'b mut Trimmer<'a, 'a>>,
    /// The structs whose members are kept. Of all others the names are.
    structs: &'a [&'a str],
    types: Vec<Vec<Word>>,
    /// What has been collected, by its number in `btf`.
    numbers: HashMap<u32, Type>,
}

/// The types of a BTF that are kept.
pub struct Trimmed(Vec<Vec<Word>>);

impl<'a> Trimmer<'a, '_> {
    /// Collects types of the kernel itself.
    pub fn new(btf: &'a Btf, structs: &'a [&'a str]) -> Self {
        Trimmer { btf, base: None, structs, types: Vec::new(), numbers: HashMap::new() }
    }
}

impl<'a, 'b> Trimmer<'a, 'b> {
    /// Collects types of a module, and what they need of the kernel's.
    pub fn on(base: &'b mut Trimmer<'a, 'a>, btf: &'a Btf, structs: &'a [&'a str]) -> Self {
        Trimmer { btf, base: Some(base), structs, types: Vec::new(), numbers: HashMap::new() }
    }

    /// Collects what is wanted of this BTF; what it does not have is left out.
    pub fn add(&mut self, wanted: Wanted) -> Result<()> {
        let callbacks: Vec<String> =
            wanted.tracepoints.iter().map(|name| format!("btf_trace_{name}")).collect();
        let roots = wanted
            .structs
            .iter()
            .map(|name| (*name, Kind::Struct))
            .chain(wanted.enumerations.iter().map(|name| (*name, Kind::Enum)))
            .chain(wanted.functions.iter().map(|name| (*name, Kind::Function)))
            .chain(callbacks.iter().map(|name| (name.as_str(), Kind::Typedef)));
        for (name, kind) in roots {
            if let Some(id) = self.btf.find(name, kind) {
                self.take(id).with_context(|| format!("{name} cannot be taken over"))?;
            }
        }
        Ok(())
    }

    /// Ends the collection.
    pub fn finish(self) -> Trimmed {
        Trimmed(self.types)
    }

    /// Collects a type and what it refers to.
    fn take(&mut self, id: u32) -> Result<Type> {
        if id == 0 {
            return Ok(Type::Void);
        }
        if id < self.btf.first() {
            let base = self.base.as_mut().context("there is no base")?;
            return Ok(match base.take(id)? {
                Type::Own(position) => Type::Base(position + 1),
                other => other,
            });
        }
        if let Some(known) = self.numbers.get(&id) {
            return Ok(*known);
        }
        let words = self.words(id)?;
        let number = Type::Own(self.types.len() as u32);
        self.types.push(words);
        self.numbers.insert(id, number);
        Ok(number)
    }

    fn words(&mut self, id: u32) -> Result<Vec<Word>> {
        let btf = self.btf;
        let raw = btf.raw(id).context("it has no such type")?;
        let name = |offset: u32| Word::Name(btf.text(offset).to_owned());
        let mut words = vec![name(raw[0]), Word::Plain(raw[1])];
        let rest = &raw[3..];
        match raw[1] >> 24 & 31 {
            // A pointer, a typedef, a qualifier, a function.
            2 | 8..=12 | 18 => words.push(Word::Type(self.take(raw[2])?)),
            // An integer, a forward declaration, a floating-point number, an enumeration.
            1 | 7 | 16 => words.extend(raw[2..].iter().copied().map(Word::Plain)),
            6 => {
                words.push(Word::Plain(raw[2]));
                words.extend(rest.chunks(2).flat_map(|value| [name(value[0]), Word::Plain(value[1])]));
            }
            3 => {
                words.push(Word::Plain(raw[2]));
                let (element, index) = (self.take(rest[0])?, self.take(rest[1])?);
                words.extend([Word::Type(element), Word::Type(index), Word::Plain(rest[2])]);
            }
            13 => {
                words.push(Word::Type(self.take(raw[2])?));
                for parameter in rest.chunks(2) {
                    words.extend([name(parameter[0]), Word::Type(self.take(parameter[1])?)]);
                }
            }
            4 | 5 => {
                let is_kept = self.has_members(id);
                if !is_kept {
                    // No members.
                    words[1] = Word::Plain(raw[1] & !0xffff);
                }
                words.push(Word::Plain(raw[2]));
                for member in rest.chunks(3).filter(|_| is_kept) {
                    // Of a member that is no struct with members of its own only the place is needed.
                    let is_struct = self.has_members(member[1]);
                    let behind = if is_struct { self.take(member[1])? } else { Type::Void };
                    words.extend([name(member[0]), Word::Type(behind), Word::Plain(member[2])]);
                }
            }
            19 => {
                words.push(Word::Plain(raw[2]));
                for value in rest.chunks(3) {
                    words.extend([name(value[0]), Word::Plain(value[1]), Word::Plain(value[2])]);
                }
            }
            kind => bail!("it has a type of the kind {kind}"),
        }
        Ok(words)
    }

    /// Whether it is a struct whose members are kept: one of those wanted, under a name of its own or by a typedef, or a
    /// part of one.
    fn has_members(&self, id: u32) -> bool {
        let name = self.btf.name(id);
        match self.btf.kind(id) {
            Kind::Struct | Kind::Union => name.is_empty() || self.structs.contains(&name),
            Kind::Typedef => self.structs.contains(&name),
            _ => false,
        }
    }
}

/// The strings of a BTF, each once.
#[derive(Default)]
struct Strings {
    bytes: Vec<u8>,
    offsets: HashMap<String, u32>,
}

impl Trimmed {
    /// As a file has it; of a module, with the base that it was collected on.
    pub fn bytes(&self, base: Option<&Trimmed>) -> Vec<u8> {
        let base_strings = base.map(|base| Strings::of(base, None));
        let strings = Strings::of(self, base_strings.as_ref());
        let first = base.map_or(1, |base| base.0.len() as u32 + 1);
        let number = |word: &Word| match word {
            Word::Plain(number) => *number,
            Word::Name(name) => strings.offset(name, base_strings.as_ref()),
            Word::Type(Type::Void) => 0,
            Word::Type(Type::Base(number)) => *number,
            Word::Type(Type::Own(position)) => first + position,
        };
        let types: Vec<u8> = self.0.iter().flatten().map(number).flat_map(u32::to_ne_bytes).collect();
        let (type_bytes, string_bytes) = (types.len() as u32, strings.bytes.len() as u32);
        let header = [MAGIC, HEADER_BYTES, 0, type_bytes, type_bytes, string_bytes];
        let mut bytes: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend(types);
        bytes.extend(strings.bytes);
        bytes
    }
}

impl Strings {
    /// The strings that are not in the base.
    fn of(types: &Trimmed, base: Option<&Strings>) -> Strings {
        let mut strings = Strings::default();
        if base.is_none() {
            strings.add("");
        }
        for word in types.0.iter().flatten() {
            if let Word::Name(name) = word
                && base.is_none_or(|base| !base.offsets.contains_key(name))
            {
                strings.add(name);
            }
        }
        strings
    }

    fn add(&mut self, text: &str) {
        if !self.offsets.contains_key(text) {
            self.offsets.insert(text.to_owned(), self.bytes.len() as u32);
            self.bytes.extend(text.as_bytes());
            self.bytes.push(0);
        }
    }

    /// Where a string begins, counted from the base's first on.
    fn offset(&self, text: &str, base: Option<&Strings>) -> u32 {
        let in_base = base.and_then(|base| base.offsets.get(text).copied());
        let behind = base.map_or(0, |base| base.bytes.len() as u32);
        in_base.or_else(|| Some(behind + self.offsets.get(text)?)).unwrap_or(0)
    }
}
