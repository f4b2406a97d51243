//! Whose network an address is in: a part of each document that names remote addresses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// As the databases have it that nettopd was given. Null: they do not.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Default, Debug, PartialEq, Eq)]
pub struct Asn {
    /// Number of the autonomous system.
    pub number: Option<u32>,
    /// Who runs it, escaped.
    pub organization: Option<String>,
    /// ISO 3166-1 code of the country.
    pub country: Option<String>,
}
