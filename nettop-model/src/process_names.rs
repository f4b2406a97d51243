//! What a process is beside its name: a part of each document that names processes.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ContainerNames, Login, snapshot::Parent};

/// Null: not known, or no process's.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Default, Debug, PartialEq, Eq)]
pub struct ProcessNames {
    #[serde(default)]
    pub exe: Option<String>,
    /// What an interpreter runs, as its first argument that is no option; null also where arguments could not be read.
    #[serde(default)]
    pub script: Option<String>,
    /// Path in the cgroup2 hierarchy, or in the older one by which systemd manages units.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// systemd unit.
    #[serde(default)]
    pub unit: Option<String>,
    /// Id of the container, or its name where it has no other (nspawn, LXC).
    #[serde(default)]
    pub container: Option<String>,
    #[serde(flatten)]
    pub names: Arc<ContainerNames>,
    /// Those that started the process, the parent first. Up to eight.
    #[serde(default)]
    pub parents: Arc<[Parent]>,
    #[serde(flatten)]
    pub login: Arc<Login>,
    /// How the program was called. Only on request: it may hold secrets. The first 16, as far as they
    /// are whole in 255 bytes; `...` if there are more.
    #[serde(default, rename = "argv", skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Arc<[String]>>,
}
