//! Reads kernel type information (BTF) that aya's reader hides: offsets of members, enum values, and prototypes of
//! functions and tracepoints. Format: Documentation/bpf/btf.rst.

#[cfg(test)]
mod tests;

use std::{fs, path::Path};

use thiserror::Error;

/// Where the running kernel keeps its own BTF and its modules'.
pub const FOLDER: &str = "/sys/kernel/btf";
/// The kernel's own, with `CONFIG_DEBUG_INFO_BTF=y`.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why a BTF query failed.
#[derive(Debug, Error)]
pub enum BtfError {
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path} is not BTF: {what}")]
    Malformed { path: String, what: &'static str },
    #[error("this kernel's BTF has no {0}")]
    Missing(String),
}

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Type information, as it was read, and the position of each type. Nothing is copied out: a kernel has 100,000 types,
/// and nettopd needs a hundred.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    strings_len: u32,
    /// Length of the strings in another file.
    strings_before: u32,
    /// Ids start at 1.
    types: Vec<Type>,
    /// First type of each chain of types with the same name hash; 0 ends a chain.
    chains: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Type {
    /// Byte position.
    at: u32,
    /// Next in its chain, by increasing id.
    next: u32,
}

const MAGIC: u16 = 0xeb9f;
/// Of `struct btf_header`.
const HEADER_BYTES: u32 = 24;
/// Of types by the hash of their name.
const CHAIN_COUNT: usize = 1 << 15;

impl Btf {
    /// Reads a BTF file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not BTF of this machine's byte order.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let shown = path.display().to_string();
        let data = fs::read(path).map_err(|source| BtfError::Read { path: shown.clone(), source })?;
        Self::parse(data, 0).map_err(|what| BtfError::Malformed { path: shown, what })
    }

    /// Reads a module's BTF, whose strings follow the kernel's: of its types, only enumerators are usable without the
    /// kernel's.
    ///
    /// # Errors
    ///
    /// As for [`Btf::read`].
    pub fn read_module(path: &Path, kernel_strings_len: u32) -> Result<Self, BtfError> {
        let shown = path.display().to_string();
        let data = fs::read(path).map_err(|source| BtfError::Read { path: shown.clone(), source })?;
        Self::parse(data, kernel_strings_len).map_err(|what| BtfError::Malformed { path: shown, what })
    }

    fn parse(data: Vec<u8>, strings_before: u32) -> Result<Self, &'static str> {
        const TRUNCATED: &str = "truncated";
        let word = |at: usize| word_at(&data, at).ok_or(TRUNCATED);
        if data.len() < HEADER_BYTES as usize || u16::from_ne_bytes([data[0], data[1]]) != MAGIC {
            return Err("wrong magic number");
        }
        let header = word(4)? as usize;
        let (type_off, type_len) = (word(8)? as usize, word(12)? as usize);
        let strings = header + word(16)? as usize;
        let end = header + type_off + type_len;
        let mut types = vec![Type { at: 0, next: 0 }];
        let mut at = header + type_off;
        while at < end {
            types.push(Type { at: u32::try_from(at).map_err(|_| "too large")?, next: 0 });
            let info = word(at + 4)?;
            let n = (info & 0xffff) as usize;
            at += 12
                + match info >> 24 & 0x1f {
                    kind::INT | kind::VAR | kind::DECL_TAG => 4,
                    kind::ARRAY => 12,
                    kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * n,
                    kind::ENUM | kind::FUNC_PROTO => 8 * n,
                    _ => 0,
                };
        }
        let strings_len = word(20)?;
        let mut btf = Self { data, strings, strings_len, strings_before, types, chains: vec![0; CHAIN_COUNT] };
        btf.chain();
        Ok(btf)
    }

    /// Chains the types that are looked up by name. Backwards: the first of several with one name counts.
    fn chain(&mut self) {
        for id in (1..self.end()).rev() {
            if matches!(self.kind(id), kind::STRUCT | kind::ENUM | kind::TYPEDEF | kind::FUNC) {
                let chain = chain_of(self.name(self.field(id, 0)));
                self.types[id as usize].next = self.chains[chain];
                self.chains[chain] = id;
            }
        }
    }

    /// The last id plus one. There are fewer types than bytes, whose positions fit.
    const fn end(&self) -> u32 {
        self.types.len() as u32
    }

    /// Byte offset of a member, named by a dotted path, elements of arrays by number; anonymous structs and unions
    /// are searched.
    ///
    /// # Errors
    ///
    /// If the struct or the member does not exist, or is a bit field.
    pub fn offset(&self, of: &str, path: &str) -> Result<u32, BtfError> {
        let bit = self.bit(of, path)?;
        if bit % 8 == 0 { Ok(bit / 8) } else { Err(BtfError::Missing(format!("{of}.{path}"))) }
    }

    /// Bit number where a member begins, for bit fields.
    ///
    /// # Errors
    ///
    /// If the struct or the member does not exist.
    pub fn bit(&self, of: &str, path: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing(format!("{of}.{path}"));
        let mut id = self.find(kind::STRUCT, of).ok_or_else(missing)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (member, offset) = self.member(self.resolve(id), name.as_bytes()).ok_or_else(missing)?;
            bits += offset;
            id = member;
        }
        Ok(bits)
    }

    /// Value of an enumerator of a named 32-bit enum.
    ///
    /// # Errors
    ///
    /// If there is no such enumerator.
    pub fn enumerator(&self, of: &str, name: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing(format!("{name} in enum {of}"));
        let id = self.find(kind::ENUM, of).ok_or_else(missing)?;
        (0..self.len(id))
            .find(|i| self.name(self.field(id, 3 + 2 * i)) == name.as_bytes())
            .map(|i| self.field(id, 4 + 2 * i))
            .ok_or_else(missing)
    }

    /// Enum, name and value of all enumerators of the `wanted` 32-bit enums.
    pub fn enumerators(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, String, u32)> {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let enums = (1..self.end()).filter(|id| self.kind(*id) == kind::ENUM);
        let enums = enums.map(|id| (text(self.name(self.field(id, 0))), id)).filter(|(name, _)| wanted(name));
        enums
            .flat_map(|(of, id)| {
                (0..self.len(id))
                    .map(move |i| (of.clone(), text(self.name(self.field(id, 3 + 2 * i))), self.field(id, 4 + 2 * i)))
            })
            .collect()
    }

    pub const fn strings_len(&self) -> u32 {
        self.strings_len
    }

    /// Prototype of a function, as `int (socket *, msghdr *, size_t)`: type names only, without qualifiers.
    ///
    /// # Errors
    ///
    /// If the kernel has no such function, or it was inlined everywhere.
    pub fn function(&self, name: &str) -> Result<String, BtfError> {
        let missing = || BtfError::Missing(format!("function {name}"));
        let function = self.find(kind::FUNC, name).ok_or_else(missing)?;
        self.prototype(self.field(function, 2), 0).ok_or_else(missing)
    }

    /// Prototype of a raw tracepoint, without the tracer's own first parameter.
    ///
    /// # Errors
    ///
    /// If the kernel has no such tracepoint.
    pub fn tracepoint(&self, name: &str) -> Result<String, BtfError> {
        let missing = || BtfError::Missing(format!("tracepoint {name}"));
        let typedef = self.find(kind::TYPEDEF, &format!("btf_trace_{name}")).ok_or_else(missing)?;
        let pointer = self.field(typedef, 2);
        if self.kind(pointer) != kind::PTR {
            return Err(missing());
        }
        self.prototype(self.field(pointer, 2), 1).ok_or_else(missing)
    }

    /// A BTF file with only the functions and typedefs of these names, without the types they refer to, under their ids
    /// here.
    pub fn only(&self, names: impl Iterator<Item = String>) -> Vec<u8> {
        let mut types = vec![[0; 3]; self.types.len() - 1];
        let mut strings = vec![0];
        for name in names {
            for kind in [kind::FUNC, kind::TYPEDEF] {
                if let Some(id) = self.find(kind, &name) {
                    types[id as usize - 1] = [strings.len() as u32, kind << 24, 0];
                    strings.extend(name.bytes().chain([0]));
                }
            }
        }
        let types: &[u8] = bytemuck::cast_slice(types.as_flattened());
        let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
        let header = [HEADER_BYTES, 0, types_len, types_len, strings_len];
        [&MAGIC.to_ne_bytes(), &[1, 0], bytemuck::cast_slice(&header), types, &strings].concat()
    }

    fn prototype(&self, id: u32, skipped: usize) -> Option<String> {
        if self.kind(id) != kind::FUNC_PROTO {
            return None;
        }
        let parameters = (skipped..self.len(id)).map(|i| self.type_name(self.field(id, 4 + 2 * i)));
        let parameters = parameters.collect::<Vec<_>>().join(", ");
        Some(format!("{} ({parameters})", self.type_name(self.field(id, 2))))
    }

    fn type_name(&self, mut id: u32) -> String {
        let mut stars = String::new();
        loop {
            match self.kind(id) {
                kind::PTR => stars.push('*'),
                kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {}
                _ => break,
            }
            id = self.field(id, 2);
        }
        let name = if id == 0 { "void".into() } else { String::from_utf8_lossy(self.name(self.field(id, 0))) };
        if stars.is_empty() { name.into_owned() } else { format!("{name} {stars}") }
    }

    fn find(&self, kind: u32, name: &str) -> Option<u32> {
        let mut id = self.chains[chain_of(name.as_bytes())];
        while id != 0 && (self.kind(id) != kind || self.name(self.field(id, 0)) != name.as_bytes()) {
            id = self.types[id as usize].next;
        }
        (id != 0).then_some(id)
    }

    /// Type and bit offset of a member, searched through anonymous members.
    fn member(&self, id: u32, name: &[u8]) -> Option<(u32, u32)> {
        if self.kind(id) == kind::ARRAY {
            return self.element(id, name);
        }
        if !matches!(self.kind(id), kind::STRUCT | kind::UNION) {
            return None;
        }
        // With the flag set, the upper byte of an offset is a bit field's size.
        let mask = if self.field(id, 1) >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        (0..self.len(id)).find_map(|i| {
            let (member_name, member, offset) =
                (self.name(self.field(id, 3 + 3 * i)), self.field(id, 4 + 3 * i), self.field(id, 5 + 3 * i) & mask);
            if member_name == name {
                Some((member, offset))
            } else if member_name.is_empty() {
                let (inner, inner_offset) = self.member(self.resolve(member), name)?;
                Some((inner, offset + inner_offset))
            } else {
                None
            }
        })
    }

    /// Type and bit offset of an array's element, by its number.
    fn element(&self, id: u32, number: &[u8]) -> Option<(u32, u32)> {
        let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
        let (of, elements) = (self.field(id, 3), self.field(id, 5));
        let size_bytes = match self.kind(self.resolve(of)) {
            kind::STRUCT | kind::UNION | kind::INT => self.field(self.resolve(of), 2),
            _ => return None,
        };
        let at = number.checked_mul(size_bytes)?.checked_mul(8)?;
        (number < elements).then_some((of, at))
    }

    /// Skips typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> u32 {
        while matches!(self.kind(id), kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG) {
            id = self.field(id, 2);
        }
        id
    }

    fn kind(&self, id: u32) -> u32 {
        if id == 0 { 0 } else { self.field(id, 1) >> 24 & 0x1f }
    }

    fn len(&self, id: u32) -> usize {
        (self.field(id, 1) & 0xffff) as usize
    }

    /// The `n`th word of a type; 0 if a damaged file points nowhere.
    fn field(&self, id: u32, n: usize) -> u32 {
        self.types.get(id as usize).and_then(|of| word_at(&self.data, of.at as usize + 4 * n)).unwrap_or(0)
    }

    fn name(&self, offset: u32) -> &[u8] {
        let Some(offset) = offset.checked_sub(self.strings_before) else { return &[] };
        let rest = self.data.get(self.strings + offset as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// FNV-1a.
fn chain_of(name: &[u8]) -> usize {
    let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash ^ hash >> 16) as usize % CHAIN_COUNT
}

fn word_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?))
}
