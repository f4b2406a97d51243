//! What a process is beside its name: a part of documents of packets, calls and drops.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ContainerNames, Login,
    snapshot::{Parent, RowReport},
};

/// Null: not known, or no process's.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Default, Debug, PartialEq, Eq)]
pub struct ProcessNames {
    #[serde(default)]
    pub exe: Option<String>,
    /// What an interpreter runs.
    #[serde(default)]
    pub script: Option<String>,
    /// Path in the cgroup2 hierarchy, or in the older one by which systemd manages units.
    #[serde(default)]
    pub cgroup: Option<String>,
    #[serde(default)]
    pub unit: Option<String>,
    /// Id of the container, or its name where it has no other (nspawn, LXC).
    #[serde(default)]
    pub container: Option<String>,
    #[serde(flatten)]
    pub names: Arc<ContainerNames>,
    /// Those that started the process, the parent first.
    #[serde(default)]
    pub parents: Arc<[Parent]>,
    #[serde(flatten)]
    pub login: Arc<Login>,
    /// How the program was called. Only on request: it may hold secrets. The first 16, as far as they
    /// are whole in 255 bytes; `...` if there are more.
    #[serde(default, rename = "argv", skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Arc<[String]>>,
}

impl From<&RowReport> for ProcessNames {
    fn from(row: &RowReport) -> Self {
        Self {
            exe: row.exe.clone(),
            script: row.script.clone(),
            cgroup: row.cgroup.clone(),
            unit: row.unit.clone(),
            container: row.container.clone(),
            names: Arc::clone(&row.names),
            parents: Arc::clone(&row.parents),
            login: Arc::clone(&row.login),
            arguments: row.arguments.clone(),
        }
    }
}
