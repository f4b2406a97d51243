//! The document `nettop.check/1`: what this kernel offers, what is used of it, and whether it counts right.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Word;

/// Name and major version of the document.
pub const SCHEMA: &str = "nettop.check/1";

/// What `nettopd check` found.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct Document {
    /// Always `nettop.check/1`.
    pub schema: Word,
    /// Version of nettopd.
    pub version: Word,
    /// Release of the kernel.
    pub kernel: String,
    /// Why nettopd cannot run here; null if it can.
    pub refusal: Option<String>,
    pub missing_capabilities: Vec<Word>,
    /// Whether the kernel describes its types.
    pub btf: bool,
    /// Where the whole hierarchy is mounted.
    pub cgroup2: Option<String>,
    /// Where only a branch of it is, in a cgroup namespace.
    pub cgroup2_branch: Option<String>,
    pub purposes: Vec<Purpose>,
    pub prototypes: Vec<Prototype>,
    /// Members of kernel structs that were found in BTF.
    pub offsets: usize,
    /// Those that were not.
    pub absent: Vec<String>,
    pub proof: Vec<Proof>,
    pub container_names: Vec<ContainerNames>,
    /// What reports will not have.
    pub lacking: Vec<Word>,
    /// How long it took to load and attach all programs; null if that was not done.
    pub load_ms: Option<u64>,
    pub programs: Vec<Program>,
}

/// What hooks are for, and which are used for it.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct Purpose {
    pub purpose: Word,
    pub attached: bool,
    /// Kinds and targets of the hooks.
    pub kind: String,
    pub backend: Option<Word>,
    /// Back ends that are not used.
    pub others: Vec<Other>,
}

/// A back end that is not used.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct Other {
    pub backend: String,
    pub reason: String,
}

/// The kernel's version of a hook's target.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct Prototype {
    /// Program type, as in the names of sections.
    pub kind: Word,
    pub target: Word,
    /// Null where the kernel has no such target.
    pub found: Option<String>,
    /// Whether the hook was written for it.
    pub is_known: bool,
}

/// A figure of the proof.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct Proof {
    pub what: Word,
    pub holds: bool,
    pub found: String,
}

/// A loaded program.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct Program {
    pub program: String,
    /// Instructions that the verifier went through.
    pub verified_instructions: u32,
}

/// A folder in which a runtime, or the kubelet, has names of containers.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone)]
pub struct ContainerNames {
    pub folder: String,
    /// Whether this process may read it.
    pub readable: bool,
    /// Whether the daemon that runs was refused.
    pub closed_to_daemon: bool,
}
