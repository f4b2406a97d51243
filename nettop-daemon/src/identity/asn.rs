//! Whose network an address is in, as a database of MaxMind's form has it. None is shipped.

use std::{
    fs::File,
    io::Read as _,
    net::IpAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use anyhow::{Context as _, bail};
use lru::LruCache;
use maxminddb::Reader;
use nettop_model::Asn;
use serde::Deserialize;

use crate::{
    defaults,
    sys::{escape::escape, lock::lock},
};

/// A larger file is not read: it is kept in memory.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Addresses of which it is known whether they have an entry.
const MAX_ANSWERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);

/// Those of the running command.
static OF_MACHINE: OnceLock<Networks> = OnceLock::new();

/// Databases, with what was found in them.
pub struct Networks {
    databases: Vec<Reader<Vec<u8>>>,
    answers: Mutex<LruCache<IpAddr, Option<Arc<Asn>>>>,
}

impl std::fmt::Debug for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Networks").field("databases", &self.databases.len()).finish_non_exhaustive()
    }
}

/// What entries of the usual databases have: GeoLite2 and GeoIP2 by MaxMind, DB-IP Lite, IPinfo Lite.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry<'a> {
    autonomous_system_number: Option<u32>,
    #[serde(borrow)]
    autonomous_system_organization: Option<&'a str>,
    #[serde(borrow)]
    country: Option<Country<'a>>,
    #[serde(borrow)]
    asn: Option<&'a str>,
    #[serde(borrow)]
    as_name: Option<&'a str>,
    #[serde(borrow)]
    country_code: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Country<'a> {
    Record {
        #[serde(borrow)]
        iso_code: Option<&'a str>,
    },
    /// Of IPinfo: the country's name.
    #[expect(dead_code, reason = "the code is beside it")]
    Name(&'a str),
}

impl Networks {
    /// Reads these files; where none is named, those in the usual folders. What cannot be read is logged, and left out.
    pub fn load(files: &[PathBuf]) -> &'static Self {
        OF_MACHINE.get_or_init(|| Self::read(files))
    }

    /// Those that were loaded.
    pub fn of_machine() -> Option<&'static Self> {
        OF_MACHINE.get()
    }

    fn read(files: &[PathBuf]) -> Self {
        let are_usual = files.iter().map(PathBuf::as_path).eq(defaults::ASN_FILES.iter().map(Path::new));
        let mut databases = Vec::new();
        for file in files.iter().filter(|file| !are_usual || file.exists()) {
            match read(file) {
                Ok(database) => databases.push(database),
                Err(error) => tracing::warn!("{}: no database of networks: {error:#}", file.display()),
            }
        }
        Self { databases, answers: Mutex::new(LruCache::new(MAX_ANSWERS)) }
    }

    /// The network of an address, if one of the databases has it.
    pub fn get(&self, address: IpAddr) -> Option<Arc<Asn>> {
        if self.databases.is_empty() {
            return None;
        }
        let address = address.to_canonical();
        lock(&self.answers).get_or_insert(address, || self.look_up(address).map(Arc::new)).clone()
    }

    fn look_up(&self, address: IpAddr) -> Option<Asn> {
        let mut found = Asn::default();
        for database in &self.databases {
            // A damaged file has no entry.
            let entry = database.lookup(address).ok().and_then(|entry| entry.decode::<Entry<'_>>().ok().flatten());
            let Some(entry) = entry else { continue };
            let number = || entry.asn?.strip_prefix("AS")?.parse().ok();
            let country = || match entry.country.as_ref()? {
                Country::Record { iso_code } => *iso_code,
                Country::Name(_) => None,
            };
            let text = |text: &str| escape(text.as_bytes());
            found.number = found.number.or(entry.autonomous_system_number).or_else(number);
            found.organization =
                found.organization.or_else(|| entry.autonomous_system_organization.or(entry.as_name).map(text));
            found.country = found.country.or_else(|| entry.country_code.or_else(country).map(text));
        }
        (found != Asn::default()).then_some(found)
    }
}

fn read(file: &Path) -> anyhow::Result<Reader<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("it has more than {} MiB", MAX_FILE_BYTES >> 20);
    }
    Reader::from_source(bytes).context("it is of another form")
}
