//! Values by slot of a table. Those of free slots take no memory: a table that was full once stays long.

/// Slots that are kept or dropped together.
const CHUNK_SLOTS: usize = 256;

/// Every slot has a value, the default one unless it was set.
pub(super) struct Sparse<T>(Vec<Option<Chunk<T>>>);

struct Chunk<T> {
    values: Box<[T]>,
    /// Since [`Sparse::drop_unread`] was called last.
    is_read: bool,
}

impl<T: Copy + Default> Sparse<T> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of a slot.
    pub(super) fn at(&mut self, slot: usize) -> &mut T {
        let index = slot / CHUNK_SLOTS;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        let new = || Chunk { values: vec![T::default(); CHUNK_SLOTS].into(), is_read: true };
        let chunk = self.0[index].get_or_insert_with(new);
        chunk.is_read = true;
        &mut chunk.values[slot % CHUNK_SLOTS]
    }

    /// Sets the values to default where none of a chunk was read since the last call.
    pub(super) fn drop_unread(&mut self) {
        for chunk in &mut self.0 {
            if chunk.as_mut().is_some_and(|chunk| !std::mem::take(&mut chunk.is_read)) {
                *chunk = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_stays_and_what_is_not_read_takes_no_memory() {
        let mut values = Sparse::new();
        (*values.at(3), *values.at(70_000)) = (1, 2);
        values.drop_unread();
        assert_eq!(*values.at(3), 1);
        values.drop_unread();
        assert_eq!(values.0.iter().flatten().count(), 1);
        assert_eq!((*values.at(3), *values.at(70_000)), (1, 0));
    }
}
