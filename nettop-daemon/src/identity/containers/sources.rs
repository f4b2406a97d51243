//! Where runtimes leave names: their own folders, which are root's as a rule, and the kubelet's logs, which all may read.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use nettop_model::ContainerNames;
use nix::unistd::{Uid, User};

use super::{
    disk::{self, Stamp},
    names::{of_bundle, of_docker, of_storage, pod_name, shown},
    workload::workload,
};
use crate::{
    identity::{cgroup::Place, host::host_name},
    sys::{escape::escape, lock::lock},
};

const DOCKER: [&str; 2] = ["/var/lib/docker", "/var/snap/docker/common/var-lib-docker"];
const CONTAINERD: [&str; 3] = ["/run/containerd", "/run/k3s/containerd", "/var/snap/microk8s/common/run/containerd"];
/// Of podman and cri-o: for containers that stay, and for those that a reboot ends.
const STORAGE: [&str; 2] = ["/var/lib/containers/storage", "/run/containers/storage"];
const LOGS: &str = "/var/log";
/// In a home: docker's and podman's.
const DOCKER_OF_USER: &str = ".local/share/docker";
const STORAGE_OF_USER: &str = ".local/share/containers/storage";
/// Namespaces of containerd, where the folder may be entered and not listed.
const NAMESPACES: [&str; 3] = ["k8s.io", "default", "moby"];
/// By driver of the storage.
const STORAGES: [&str; 4] = ["overlay-containers", "vfs-containers", "btrfs-containers", "zfs-containers"];

/// A container's own file.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// That of all containers of a storage.
const MAX_STORAGE_BYTES: u64 = 32 << 20;
/// Entries of a folder that are read.
const MAX_ENTRIES: usize = 16_384;
/// Storages that are kept read.
const MAX_STORAGES: usize = 16;
/// Folders that are remembered as closed.
const MAX_CLOSED: usize = 64;

/// The folders, and what was read of them.
pub struct Sources {
    /// Of the file system; another in tests.
    root: PathBuf,
    storages: Mutex<HashMap<PathBuf, Storage>>,
    closed: Mutex<BTreeSet<String>>,
}

/// A file as it was, and the containers that it names, by id.
type Storage = (Stamp, HashMap<String, ContainerNames>);

impl Sources {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), storages: Mutex::default(), closed: Mutex::default() }
    }

    /// Folders with names that could not be read for lack of permission, escaped.
    pub fn closed(&self) -> Vec<String> {
        lock(&self.closed).iter().cloned().collect()
    }

    /// What is known of a container or pod by now.
    pub fn look_up(&self, place: &Place) -> ContainerNames {
        let mut names = ContainerNames::default();
        if let Some(uid) = &place.pod_uid {
            names = self.kubelet(uid, place.container.as_deref());
        }
        if let Some(id) = place.container.as_deref().filter(|_| place.has_id()) {
            names = names.or(&self.runtimes(place, id));
        }
        if let Some((_, pod)) = names.pod.as_deref().and_then(|pod| pod.split_once('/')) {
            names.workload = workload(pod, place.pod_uid.as_deref(), &host_name());
        }
        names
    }

    fn runtimes(&self, place: &Place, id: &str) -> ContainerNames {
        type Ask = fn(&Sources, &str, Option<&Path>) -> Option<ContainerNames>;
        const RUNTIMES: [(&str, Ask); 4] = [
            ("docker", Sources::docker),
            ("containerd", Sources::containerd),
            ("cri-o", Sources::crio),
            ("podman", Sources::podman),
        ];
        // Those of a user first: root may have started one from a user's session as well.
        let home = place.uid.and_then(home);
        for home in home.iter().map(|home| Some(home.as_path())).chain([None]) {
            for (runtime, ask) in RUNTIMES {
                if place.runtime.is_none_or(|known| known == runtime)
                    && let Some(names) = ask(self, id, home)
                {
                    return ContainerNames { runtime: Some(runtime.into()), ..names };
                }
            }
        }
        ContainerNames::default()
    }

    fn docker(&self, id: &str, home: Option<&Path>) -> Option<ContainerNames> {
        let file = Path::new("containers").join(id).join("config.v2.json");
        let roots = self.roots(home, DOCKER_OF_USER, &DOCKER);
        roots.iter().find_map(|(root, below)| of_docker(&self.read(root, &below.join(&file))?))
    }

    fn containerd(&self, id: &str, home: Option<&Path>) -> Option<ContainerNames> {
        if home.is_some() {
            return None;
        }
        CONTAINERD.iter().map(|root| self.at(root)).find_map(|root| {
            let tasks = Path::new("io.containerd.runtime.v2.task");
            let listed = self.list(&root.join(tasks));
            let namespaces = listed.iter().map(String::as_str).chain(NAMESPACES);
            namespaces.take(MAX_CLOSED).find_map(|namespace| {
                of_bundle(&self.read(&root, &tasks.join(namespace).join(id).join("config.json"))?)
            })
        })
    }

    fn crio(&self, id: &str, home: Option<&Path>) -> Option<ContainerNames> {
        if home.is_some() {
            return None;
        }
        STORAGE.iter().map(|root| self.at(root)).find_map(|root| {
            STORAGES.iter().find_map(|storage| {
                of_bundle(&self.read(&root, &Path::new(storage).join(id).join("userdata/config.json"))?)
            })
        })
    }

    fn podman(&self, id: &str, home: Option<&Path>) -> Option<ContainerNames> {
        self.roots(home, STORAGE_OF_USER, &STORAGE).iter().find_map(|(root, below)| {
            STORAGES.iter().find_map(|storage| {
                ["containers.json", "volatile-containers.json"]
                    .iter()
                    .find_map(|file| self.in_storage(root, &below.join(storage).join(file), id))
            })
        })
    }

    /// Read once while it stays as it is.
    fn in_storage(&self, root: &Path, file: &Path, id: &str) -> Option<ContainerNames> {
        let found = self.find(root, file, MAX_STORAGE_BYTES)?;
        let path = root.join(file);
        let mut storages = lock(&self.storages);
        if storages.get(&path).is_none_or(|(stamp, _)| *stamp != found.stamp) {
            if storages.len() >= MAX_STORAGES {
                storages.clear();
            }
            let stamp = found.stamp;
            storages.insert(path.clone(), (stamp, of_storage(&found.read().ok()?).into_iter().collect()));
        }
        storages.get(&path)?.1.get(id).cloned()
    }

    /// By `pods/NAMESPACE_POD_UID/CONTAINER` and `containers/POD_NAMESPACE_CONTAINER-ID.log`.
    fn kubelet(&self, uid: &str, id: Option<&str>) -> ContainerNames {
        let logs = self.at(LOGS);
        let folder = self.list(&logs.join("pods")).into_iter().find_map(|name| {
            let of_pod = name.strip_suffix(uid)?.strip_suffix('_')?;
            Some((name.clone(), of_pod.split_once('_').and_then(|(namespace, pod)| pod_name(namespace, pod))?))
        });
        let Some((folder, pod)) = folder else { return ContainerNames::default() };
        let linked = id.and_then(|id| {
            let links = self.list(&logs.join("containers"));
            let link = links.iter().find_map(|name| name.strip_suffix(".log")?.strip_suffix(id)?.strip_suffix('-'))?;
            shown(link.rsplit_once('_')?.1)
        });
        // Without a link it is one of those that the pod has: the link comes once the container runs.
        let only = || match id.map(|_| self.list(&logs.join("pods").join(&folder))).as_deref() {
            Some([only]) => shown(only),
            _ => None,
        };
        let container = linked.or_else(only);
        ContainerNames {
            container_name: container.clone(),
            pod: Some(pod),
            pod_container: container,
            ..ContainerNames::default()
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// With the part below in which no links are followed: all of a home, which is its user's.
    fn roots(&self, home: Option<&Path>, of_user: &'static str, of_root: &[&str]) -> Vec<(PathBuf, &'static Path)> {
        match home {
            Some(home) => vec![(self.root.join(home.strip_prefix("/").unwrap_or(home)), Path::new(of_user))],
            None => of_root.iter().map(|root| (self.at(root), Path::new(""))).collect(),
        }
    }

    fn read(&self, root: &Path, file: &Path) -> Option<Vec<u8>> {
        self.find(root, file, MAX_FILE_BYTES)?.read().ok()
    }

    fn find(&self, root: &Path, file: &Path, max_bytes: u64) -> Option<disk::Found> {
        disk::find(root, file, max_bytes).map_err(|error| self.note(root, &error)).ok()
    }

    /// Names in a folder; those that are no UTF-8 are none of ours.
    fn list(&self, folder: &Path) -> Vec<String> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.note(folder, &error);
                return Vec::new();
            }
        };
        entries.take(MAX_ENTRIES).flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Remembers what is closed.
    fn note(&self, folder: &Path, error: &io::Error) {
        let mut closed = lock(&self.closed);
        if error.kind() == io::ErrorKind::PermissionDenied && closed.len() < MAX_CLOSED {
            let folder = escape(folder.as_os_str().as_encoded_bytes());
            if closed.insert(folder.clone()) {
                tracing::info!("names of containers in {folder} may not be read: privileged-containers.conf opens it");
            }
        }
    }
}

/// Where root's containers have their names, as far as it is there, with the error of opening it.
pub fn places() -> Vec<(&'static str, io::Result<()>)> {
    let places = DOCKER.map(|root| (root, "containers")).into_iter();
    let places = places.chain(CONTAINERD.map(|root| (root, "io.containerd.runtime.v2.task")));
    let places = places.chain(STORAGE.map(|root| (root, "overlay-containers")));
    let places = places.chain([(LOGS, "pods")]);
    let opened = places.map(|(root, below)| (root, fs::read_dir(Path::new(root).join(below)).map(drop)));
    opened.filter(|(_, found)| !matches!(found, Err(error) if error.kind() == io::ErrorKind::NotFound)).collect()
}

/// The name service may hang.
fn home(uid: u32) -> Option<PathBuf> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.dir)
}
