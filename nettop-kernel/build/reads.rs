//! Which read-only globals each eBPF program reads, itself or in a function that it calls, from the object's
//! relocations. So an absent member costs only the programs that read it, and no list of them can go stale.

use std::collections::{BTreeMap, BTreeSet};

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

/// Size of an instruction.
const INSTRUCTION_BYTES: u64 = 8;
/// `BPF_JMP | BPF_CALL`, and `BPF_PSEUDO_CALL` for another function of the object.
const CALL: u8 = 0x85;
const PSEUDO_CALL: u8 = 1;

/// Section, and place in it.
type Place = (usize, u64);

struct Function<'a> {
    name: &'a str,
    section: usize,
    begin: u64,
    end: u64,
    is_program: bool,
}

/// The globals that each program reads.
///
/// # Errors
///
/// If the bytes are no ELF file, or a section or the symbol of a relocation cannot be read.
pub fn globals_read(elf: &[u8]) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let file = object::File::parse(elf).map_err(|error| format!("cannot read the eBPF object: {error}"))?;
    let text = file.section_by_name(".text").map(|section| section.index().0);
    let functions: Vec<Function<'_>> = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
        .filter_map(|symbol| {
            let section = symbol.section_index()?.0;
            let (begin, end) = (symbol.address(), symbol.address() + symbol.size());
            Some(Function { name: symbol.name().ok()?, section, begin, end, is_program: Some(section) != text })
        })
        .collect();
    let at = |place: Place| {
        functions
            .iter()
            .position(|function| function.section == place.0 && (function.begin..function.end).contains(&place.1))
    };
    let mut globals = vec![BTreeSet::new(); functions.len()];
    let mut calls = vec![BTreeSet::new(); functions.len()];
    for section in file.sections() {
        let index = section.index().0;
        let code = section.data().map_err(|error| error.to_string())?;
        let word = |place: u64| {
            let bytes = code.get(usize::try_from(place).ok()? + 4..)?.get(..4)?;
            Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?)))
        };
        let mut relocated = BTreeSet::new();
        for (place, relocation) in section.relocations() {
            let Some(from) = at((index, place)) else { continue };
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let symbol = file.symbol_by_index(symbol).map_err(|error| error.to_string())?;
            relocated.insert(place);
            if matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Section) {
                // To a section: the offset is in the instruction.
                let offset =
                    if symbol.kind() == SymbolKind::Section { word(place).map_or(0, |word| (word + 1) * 8) } else { 0 };
                let to =
                    symbol.section_index().map(|section| (section.0, symbol.address().wrapping_add_signed(offset)));
                calls[from].extend(to.and_then(at));
            } else {
                globals[from].extend(symbol.name().ok().map(str::to_owned));
            }
        }
        // Calls within a section have no relocation.
        for (number, instruction) in code.chunks_exact(INSTRUCTION_BYTES as usize).enumerate() {
            let place = number as u64 * INSTRUCTION_BYTES;
            if instruction[0] == CALL && instruction[1] >> 4 == PSEUDO_CALL && !relocated.contains(&place) {
                let to = word(place).map(|words| place.wrapping_add_signed((words + 1) * 8));
                if let (Some(from), Some(to)) = (at((index, place)), to.and_then(|to| at((index, to)))) {
                    calls[from].insert(to);
                }
            }
        }
    }
    let programs = functions.iter().enumerate().filter(|(_, function)| function.is_program);
    Ok(programs
        .map(|(number, function)| {
            let mut reached = BTreeSet::from([number]);
            let mut rest = vec![number];
            while let Some(number) = rest.pop() {
                rest.extend(calls[number].iter().copied().filter(|to| reached.insert(*to)));
            }
            (function.name.to_owned(), reached.into_iter().flat_map(|number| globals[number].clone()).collect())
        })
        .collect())
}
