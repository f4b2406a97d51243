//! Names of a container: a part of each document that names processes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Word;

/// Null: not known.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Default, Debug, PartialEq, Eq, Hash)]
pub struct ContainerNames {
    /// Name of the container, as its runtime has it.
    #[serde(default)]
    pub container_name: Option<String>,
    /// Image that it was made of.
    #[serde(default)]
    pub image: Option<String>,
    /// docker, podman, containerd, cri-o, nspawn, lxc, runc, crun; null where the path of the cgroup does not say which.
    #[serde(default)]
    pub runtime: Option<Word>,
    /// Of Kubernetes: namespace/name.
    #[serde(default)]
    pub pod: Option<String>,
    /// Name of the container in the pod.
    #[serde(default)]
    pub pod_container: Option<String>,
    /// Deployment, StatefulSet, DaemonSet or Job of the pod, by the pod's name; null where that does not say it.
    #[serde(default)]
    pub workload: Option<String>,
}

impl ContainerNames {
    /// These, and what they leave open from `other`.
    pub fn or(self, other: &Self) -> Self {
        Self {
            container_name: self.container_name.or_else(|| other.container_name.clone()),
            image: self.image.or_else(|| other.image.clone()),
            runtime: self.runtime.or_else(|| other.runtime.clone()),
            pod: self.pod.or_else(|| other.pod.clone()),
            pod_container: self.pod_container.or_else(|| other.pod_container.clone()),
            workload: self.workload.or_else(|| other.workload.clone()),
        }
    }
}
