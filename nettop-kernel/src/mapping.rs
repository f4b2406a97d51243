//! BPF arrays mapped into the daemon: read with no system call while the kernel writes them.

use std::{
    marker::PhantomData,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

use anyhow::{Context as _, anyhow, bail};
use aya::{Ebpf, maps::Map};
use bytemuck::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A mapped array map of `T`.
#[derive(Debug)]
pub struct Mapping<T> {
    base: NonNull<T>,
    len: usize,
    bytes: NonZeroUsize,
    _values: PhantomData<T>,
}

// SAFETY: the mapping is process-wide memory; all access goes through volatile or atomic operations.
unsafe impl<T: Send> Send for Mapping<T> {}
// SAFETY: the same.
unsafe impl<T: Sync> Sync for Mapping<T> {}

impl<T: Pod> Mapping<T> {
    /// Maps an array map of `len` values that was made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    ///
    /// If the map was made without `BPF_F_MMAPABLE` or with fewer values, or there is no address space left.
    pub fn new(map: impl AsFd, len: u32) -> anyhow::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8), "array maps round values up to 8 bytes") };
        let len = len as usize;
        let bytes = NonZeroUsize::new(len * size_of::<T>()).context("cannot map an empty map")?;
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let base =
            unsafe { mmap(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, map, 0) }
                .with_context(|| format!("mmap of {bytes} bytes of a BPF array failed"))?;
        Ok(Self { base: base.cast(), len, bytes, _values: PhantomData })
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    /// Copies a value; `None` past the end. Words are read one by one while the kernel may add to them.
    pub fn read(&self, index: usize) -> Option<T> {
        // SAFETY: in bounds, aligned, and any bit pattern is a value.
        (index < self.len).then(|| unsafe { self.base.add(index).read_volatile() })
    }

    /// Overwrites a value that no program uses any more.
    pub fn write(&self, index: usize, value: T) {
        if index < self.len {
            // SAFETY: in bounds and aligned.
            unsafe { self.base.add(index).write_volatile(value) }
        }
    }

    /// A word of a value, at a byte offset within it.
    pub fn word(&self, index: usize, offset: usize) -> Option<&AtomicU32> {
        let fits = index < self.len && offset + 4 <= size_of::<T>() && offset.is_multiple_of(4);
        // SAFETY: in bounds and aligned; atomics may be shared with the kernel.
        fits.then(|| unsafe { self.base.add(index).byte_add(offset).cast::<AtomicU32>().as_ref() })
    }

    /// A double word of a value, at a byte offset within it.
    pub fn double_word(&self, index: usize, offset: usize) -> Option<&AtomicU64> {
        let fits = index < self.len && offset + 8 <= size_of::<T>() && offset.is_multiple_of(8);
        // SAFETY: in bounds and aligned; atomics may be shared with the kernel.
        fits.then(|| unsafe { self.base.add(index).byte_add(offset).cast::<AtomicU64>().as_ref() })
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: ours, and no reference outlives `self`.
        let _ = unsafe { munmap(self.base.cast(), self.bytes.get()) };
    }
}

/// Takes a map out of the object.
pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Map> {
    ebpf.take_map(name).ok_or_else(|| anyhow!("the object has no map {name}"))
}

/// Maps an array, after comparing the value sizes of both sides.
pub(super) fn map<T: Pod>(ebpf: &mut Ebpf, name: &str, entries: u32) -> anyhow::Result<Mapping<T>> {
    mapped(take(ebpf, name)?, name, entries)
}

/// The same, for a map taken out.
pub(super) fn mapped<T: Pod>(map: Map, name: &str, entries: u32) -> anyhow::Result<Mapping<T>> {
    let Map::Array(data) = map else { bail!("map {name} is no array") };
    let value_size = data.info().with_context(|| format!("cannot query map {name}"))?.value_size() as usize;
    if value_size != size_of::<T>() {
        bail!("map {name} has values of {value_size} bytes, {} expected", size_of::<T>());
    }
    Mapping::new(data.fd(), entries)
}
