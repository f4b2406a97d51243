//! Removes DWARF from the eBPF object: bpf-linker makes BTF of it, and the kernel needs only BTF.

use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// The object without its `.debug_*` sections, most of its size, and references to them.
///
/// # Errors
///
/// If it is no ELF file, or cannot be written as one.
pub fn removed_from(elf: &[u8]) -> Result<Vec<u8>, String> {
    let mut builder = Builder::read(elf).map_err(|error| format!("cannot read the eBPF object: {error}"))?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    // LLVM has one table for names of sections and symbols, the builder has two.
    let names = builder.sections.add();
    (names.name, names.sh_type, names.sh_addralign) = (".shstrtab".into(), SHT_STRTAB, 1);
    names.data = SectionData::SectionString;
    let mut object = Vec::new();
    builder.write(&mut object).map_err(|error| format!("cannot write the eBPF object: {error}"))?;
    Ok(object)
}
