//! Which number a name has, of the names that are used: by hash.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
};

use rusqlite::Connection;

/// A kind with more entries forgets those that were not used since it last had so many, which are as many again at most. A
/// forgotten one gets a new number: readers group by identity. So many fit into a hash table of 16,384 places.
pub(super) const MAX_USED_NAMES: usize = 14_336;

/// What was used since unused entries were last forgotten, and what was used before that alone. Keys are hashes: the
/// texts of many programs and processes take megabytes. That two of 28,672 have the same is as likely as 1 in 10^30.
pub struct Table<V = i64> {
    pub(super) used: HashMap<u128, V>,
    pub(super) unused: HashMap<u128, V>,
    hashers: [RandomState; 2],
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        let hashers = [RandomState::new(), RandomState::new()];
        Self { used: HashMap::new(), unused: HashMap::new(), hashers }
    }
}

impl<V> Table<V> {
    fn hash(&self, key: &impl Hash) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(key)));
        high << 64 | low
    }

    fn get(&mut self, key: u128) -> Option<&V> {
        if let Some(value) = self.unused.remove(&key) {
            self.used.insert(key, value);
        }
        self.used.get(&key)
    }

    /// To be called after a write.
    pub fn forget_unused(&mut self) {
        if self.used.len() >= MAX_USED_NAMES {
            self.unused = std::mem::take(&mut self.used);
        }
    }
}

impl Table {
    /// The newest entries of a query for numbers and names, with one parameter for the boot or none.
    ///
    /// # Errors
    ///
    /// If SQLite cannot read the file, as when it is damaged.
    pub fn read<K: Hash>(
        connection: &Connection,
        query: &str,
        boot: i64,
        entry: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<(K, i64)>,
    ) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare(&format!("{query} ORDER BY id DESC LIMIT {MAX_USED_NAMES}"))?;
        let given = if statement.parameter_count() == 0 { &[][..] } else { &[boot][..] };
        let numbers = statement.query_map(rusqlite::params_from_iter(given), |row| entry(row))?;
        let mut table = Self::default();
        for entry in numbers {
            let (key, number) = entry?;
            table.used.insert(table.hash(&key), number);
        }
        Ok(table)
    }

    /// The number of a name; a new one is inserted.
    ///
    /// # Errors
    ///
    /// Those of `insert`; nothing is remembered then.
    pub fn number(&mut self, key: &impl Hash, insert: impl FnOnce() -> rusqlite::Result<i64>) -> rusqlite::Result<i64> {
        let key = self.hash(key);
        if let Some(number) = self.get(key) {
            return Ok(*number);
        }
        let number = insert()?;
        self.used.insert(key, number);
        Ok(number)
    }
}

impl Table<u128> {
    /// Whether this was noted last.
    pub fn has(&mut self, key: &impl Hash, noted: &impl Hash) -> bool {
        let (key, noted) = (self.hash(key), self.hash(noted));
        self.get(key) == Some(&noted)
    }

    /// Remembers what was noted of a key.
    pub fn note(&mut self, key: &impl Hash, noted: &impl Hash) {
        let (key, noted) = (self.hash(key), self.hash(noted));
        self.used.insert(key, noted);
    }
}
