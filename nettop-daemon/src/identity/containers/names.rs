//! What runtimes' files say of a container's names. All are escaped.

use nettop_model::ContainerNames;
use serde::Deserialize;

use crate::sys::escape::escape;

/// By a name that the kubelet gave: `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`. That of the sandbox is no container.
fn of_kubelet(name: &str) -> Option<ContainerNames> {
    let mut parts = name.strip_prefix("k8s_")?.split('_');
    let [container, pod, namespace] = [parts.next()?, parts.next()?, parts.next()?];
    let container = shown(container).filter(|name| name != "POD");
    Some(ContainerNames {
        container_name: container.clone(),
        pod: pod_name(namespace, pod),
        pod_container: container,
        ..ContainerNames::default()
    })
}

fn named(name: &str, image: Option<&str>) -> ContainerNames {
    let name = name.strip_prefix('/').unwrap_or(name);
    let plain = || ContainerNames { container_name: shown(name), ..ContainerNames::default() };
    ContainerNames { image: image.and_then(shown), ..of_kubelet(name).unwrap_or_else(plain) }
}

/// No runtime has longer names.
const MAX_NAME_BYTES: usize = 512;

/// Escaped, if it is a name.
pub fn shown(name: &str) -> Option<String> {
    (!name.is_empty() && name.len() <= MAX_NAME_BYTES).then(|| escape(name.as_bytes()))
}

/// As reports have it.
pub fn pod_name(namespace: &str, pod: &str) -> Option<String> {
    Some(format!("{}/{}", shown(namespace)?, shown(pod)?))
}

/// docker's `config.v2.json`.
pub fn of_docker(json: &[u8]) -> Option<ContainerNames> {
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "Name")]
        name: String,
        #[serde(rename = "Config", default)]
        config: Config,
    }
    #[derive(Deserialize, Default)]
    struct Config {
        #[serde(rename = "Image")]
        image: Option<String>,
    }
    let file: File = serde_json::from_slice(json).ok()?;
    Some(named(&file.name, file.config.image.as_deref()))
}

/// The bundle of containerd and of cri-o: what a CRI and nerdctl note beside the specification of the OCI.
pub fn of_bundle(json: &[u8]) -> Option<ContainerNames> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        annotations: Annotations,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Annotations {
        #[serde(rename = "io.kubernetes.cri.container-name")]
        cri_container: Option<String>,
        #[serde(rename = "io.kubernetes.cri.sandbox-name")]
        cri_pod: Option<String>,
        #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
        cri_namespace: Option<String>,
        #[serde(rename = "io.kubernetes.cri.image-name")]
        cri_image: Option<String>,
        #[serde(rename = "io.kubernetes.container.name")]
        crio_container: Option<String>,
        #[serde(rename = "io.kubernetes.pod.name")]
        crio_pod: Option<String>,
        #[serde(rename = "io.kubernetes.pod.namespace")]
        crio_namespace: Option<String>,
        #[serde(rename = "io.kubernetes.cri-o.ImageName")]
        crio_image: Option<String>,
        #[serde(rename = "nerdctl/name")]
        nerdctl: Option<String>,
    }
    let annotations = serde_json::from_slice::<File>(json).ok()?.annotations;
    let name = |name: Option<String>| name.as_deref().and_then(shown);
    let pod_container = name(annotations.cri_container.or(annotations.crio_container)).filter(|name| name != "POD");
    let names = ContainerNames {
        container_name: name(annotations.nerdctl).or_else(|| pod_container.clone()),
        image: name(annotations.cri_image.or(annotations.crio_image)),
        pod: annotations
            .cri_namespace
            .or(annotations.crio_namespace)
            .zip(annotations.cri_pod.or(annotations.crio_pod))
            .and_then(|(namespace, pod)| pod_name(&namespace, &pod)),
        pod_container,
        ..ContainerNames::default()
    };
    (names != ContainerNames::default()).then_some(names)
}

/// `containers.json` of podman and cri-o: all containers of a storage, by id.
pub fn of_storage(json: &[u8]) -> Vec<(String, ContainerNames)> {
    #[derive(Deserialize)]
    struct Entry {
        id: String,
        #[serde(default)]
        names: Vec<String>,
        /// JSON again.
        #[serde(default)]
        metadata: String,
    }
    #[derive(Deserialize, Default)]
    struct Metadata {
        #[serde(rename = "image-name")]
        image: Option<String>,
    }
    let entries: Vec<Entry> = serde_json::from_slice(json).unwrap_or_default();
    let named = entries.into_iter().filter_map(|entry| {
        let metadata: Metadata = serde_json::from_str(&entry.metadata).unwrap_or_default();
        Some((entry.id, named(entry.names.first()?, metadata.image.as_deref())))
    });
    named.collect()
}
