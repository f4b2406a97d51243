//! Trees of files as runtimes make them, below a root of the test's own.

use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc, time::Duration};

use nettop_model::ContainerNames;
use nix::{sys::stat::Mode, unistd::mkfifo};

use super::Containers;
use crate::identity::cgroup::{Place, place};

const ID: &str = "2403ccfe427f1dc7b6120dccb9ac58c2f8456950380d587a9f33ea7f00dd303d";
const POD: &str = "dde1244b-5bb5-4297-b544-85f3bc0d80bf";
/// No machine is as slow as that.
const FOR_EVER: Duration = Duration::from_secs(300);

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn containers(&self) -> Arc<Containers> {
        Containers::below(self.path().to_str().unwrap())
    }
}

fn at(path: &str) -> Place {
    place(&path.replace("ID", ID).replace("POD_", &POD.replace('-', "_")).replace("POD", POD)).unwrap()
}

fn names_of(containers: &Arc<Containers>, path: &str) -> ContainerNames {
    let container = containers.find(at(path));
    (*containers.names(&container, FOR_EVER)).clone()
}

fn named(name: &str, image: &str, runtime: &'static str) -> ContainerNames {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ContainerNames {
        container_name: text(name),
        image: text(image),
        runtime: (!runtime.is_empty()).then(|| runtime.into()),
        ..ContainerNames::default()
    }
}

#[test]
fn each_runtime_has_names_in_its_own_files() {
    let root = Root::new();
    root.write(
        &format!("var/lib/docker/containers/{ID}/config.v2.json"),
        r#"{"StreamConfig":{},"ID":"x","Name":"/web","Config":{"Hostname":"h","Image":"nginx:1.25"},"State":{}}"#,
    );
    let docker = root.containers();
    assert_eq!(names_of(&docker, "/system.slice/docker-ID.scope"), named("web", "nginx:1.25", "docker"));
    assert_eq!(names_of(&docker, "/batch/ID"), named("web", "nginx:1.25", "docker"));
    assert_eq!(names_of(&docker, "/machine.slice/libpod-ID.scope"), named("", "", "podman"));

    let storage = format!(
        r#"[{{"id":"{ID}","names":["etl"],"image":"a","metadata":"{{\"image-name\":\"docker.io/library/alpine:3\",\"name\":\"etl\"}}"}}]"#
    );
    for file in [
        "var/lib/containers/storage/overlay-containers/containers.json",
        "run/containers/storage/vfs-containers/volatile-containers.json",
    ] {
        let root = Root::new();
        root.write(file, &storage);
        assert_eq!(
            names_of(&root.containers(), "/machine.slice/libpod-ID.scope/container"),
            named("etl", "docker.io/library/alpine:3", "podman")
        );
    }

    let root = Root::new();
    root.write(
        &format!("run/containerd/io.containerd.runtime.v2.task/default/{ID}/config.json"),
        r#"{"ociVersion":"1.1.0","process":{"args":["sh"]},"annotations":{"nerdctl/name":"cache"}}"#,
    );
    assert_eq!(names_of(&root.containers(), "/default/ID"), named("cache", "", "containerd"));

    let none = Root::new().containers();
    let nspawn = "/machine.slice/systemd-nspawn@web.service/payload";
    assert_eq!(names_of(&none, nspawn), named("web", "", "nspawn"));
    assert_eq!(names_of(&none, "/lxc.payload.web"), named("web", "", "lxc"));
}

#[test]
fn a_user_has_containers_in_his_home() {
    let root = Root::new();
    // The only user that every machine has beside root: it has no home, and `nobody` is no user of a slice.
    let Some(user) = nix::unistd::User::from_name("nobody").unwrap() else { return };
    let home = user.dir.strip_prefix("/").unwrap().display().to_string();
    root.write(
        &format!("{home}/.local/share/containers/storage/overlay-containers/containers.json"),
        &format!(r#"[{{"id":"{ID}","names":["mine"],"metadata":"{{}}"}}]"#),
    );
    let uid = user.uid;
    let path = format!("/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/libpod-ID.scope/container");
    assert_eq!(names_of(&root.containers(), &path), named("mine", "", "podman"));
    // Another's files are not read for him.
    let storage = root.path().join(&home).join(".local/share/containers");
    fs::rename(&storage, root.path().join("elsewhere")).unwrap();
    symlink(root.path().join("elsewhere"), &storage).unwrap();
    assert_eq!(names_of(&root.containers(), &path), named("", "", "podman"));
    fs::remove_file(&storage).unwrap();
    fs::rename(root.path().join("elsewhere"), &storage).unwrap();
    assert_eq!(names_of(&root.containers(), "/machine.slice/libpod-ID.scope"), named("", "", "podman"));
}

const SYSTEMD: &str =
    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_.slice/cri-containerd-ID.scope";
const CGROUPFS: &str = "/kubepods/burstable/podPOD/ID";

#[test]
fn pods_have_names_by_the_kubelets_logs_alone_and_images_by_the_runtime() {
    let root = Root::new();
    root.write(&format!("var/log/pods/shop_web-7d4b9c6f5d-x2x7k_{POD}/nginx/0.log"), "");
    root.write(&format!("var/log/pods/shop_web-7d4b9c6f5d-x2x7k_{POD}/sidecar/0.log"), "");
    root.write("var/log/pods/shop_other_00000000-0000-0000-0000-000000000000/nginx/0.log", "");
    fs::create_dir_all(root.path().join("var/log/containers")).unwrap();
    let link = root.path().join(format!("var/log/containers/web-7d4b9c6f5d-x2x7k_shop_nginx-{ID}.log"));
    symlink("/nonexistent", link).unwrap();
    let of_logs = ContainerNames {
        container_name: Some("nginx".into()),
        pod: Some("shop/web-7d4b9c6f5d-x2x7k".into()),
        pod_container: Some("nginx".into()),
        workload: Some("web".into()),
        ..ContainerNames::default()
    };
    assert_eq!(names_of(&root.containers(), CGROUPFS), of_logs);
    let of_containerd = ContainerNames { runtime: Some("containerd".into()), ..of_logs.clone() };
    assert_eq!(names_of(&root.containers(), SYSTEMD), of_containerd);
    // In no container of its own.
    let of_pod = ContainerNames { container_name: None, pod_container: None, ..of_logs };
    assert_eq!(names_of(&root.containers(), "/kubepods/burstable/podPOD"), of_pod);

    let annotated = |prefix: [&str; 4]| {
        let [container, pod, namespace, image] = prefix;
        format!(
            r#"{{"annotations":{{"{container}":"nginx","{pod}":"web-7d4b9c6f5d-x2x7k","{namespace}":"shop","{image}":"docker.io/library/nginx:1.25"}}}}"#
        )
    };
    let image = Some("docker.io/library/nginx:1.25".to_owned());
    let root = Root::new();
    let keys = ["container-name", "sandbox-name", "sandbox-namespace", "image-name"];
    let keys = keys.map(|key| format!("io.kubernetes.cri.{key}"));
    root.write(
        &format!("run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"),
        &annotated(keys.each_ref().map(String::as_str)),
    );
    let expected = ContainerNames { image: image.clone(), ..of_containerd.clone() };
    assert_eq!(names_of(&root.containers(), SYSTEMD), expected);
    assert_eq!(names_of(&root.containers(), CGROUPFS), expected);

    let root = Root::new();
    let keys = [
        "io.kubernetes.container.name",
        "io.kubernetes.pod.name",
        "io.kubernetes.pod.namespace",
        "io.kubernetes.cri-o.ImageName",
    ];
    root.write(&format!("var/lib/containers/storage/overlay-containers/{ID}/userdata/config.json"), &annotated(keys));
    let expected = ContainerNames { image, runtime: Some("cri-o".into()), ..of_containerd };
    assert_eq!(names_of(&root.containers(), "/kubepods/burstable/podPOD/crio-ID"), expected);

    let root = Root::new();
    root.write(
        &format!("var/lib/docker/containers/{ID}/config.v2.json"),
        r#"{"Name":"/k8s_nginx_db-0_shop_dde1244b_0","Config":{"Image":"sha256:0"}}"#,
    );
    let names = names_of(&root.containers(), "/kubepods/burstable/podPOD/ID");
    assert_eq!((names.pod.as_deref(), names.workload.as_deref()), (Some("shop/db-0"), Some("db")));
}

#[test]
fn a_removed_container_keeps_its_names_while_anything_refers_to_it() {
    let root = Root::new();
    let file = format!("var/lib/docker/containers/{ID}/config.v2.json");
    root.write(&file, r#"{"Name":"/web"}"#);
    let containers = root.containers();
    // Recorded, and gone before the reading.
    containers.see(at("/docker/ID"));
    while containers.known.lock().unwrap().is_running[0] {
        std::thread::yield_now();
    }
    fs::remove_file(root.path().join(&file)).unwrap();
    containers.release();
    let row = containers.find(at("/docker/ID"));
    containers.release();
    containers.release();
    super::lock(&row.answer).at = None;
    assert_eq!(containers.names(&row, FOR_EVER).container_name.as_deref(), Some("web"), "it was asked for again");
    drop(row);
    assert_eq!(names_of(&containers, "/docker/ID").container_name, None, "nothing referred to it");
}

#[test]
fn where_files_may_not_be_read_paths_still_name() {
    let root = Root::new();
    root.write(&format!("var/lib/docker/containers/{ID}/config.v2.json"), r#"{"Name":"/web"}"#);
    let containers = root.containers();
    containers.enable(false);
    assert_eq!(names_of(&containers, "/docker/ID"), named("", "", "docker"));
    containers.enable(true);
    assert_eq!(names_of(&containers, "/docker/ID"), named("web", "", "docker"));
}

#[test]
fn hostile_files_name_nothing_and_hang_nothing() {
    let config = format!("var/lib/docker/containers/{ID}/config.v2.json");
    let unnamed = named("", "", "docker");
    let docker = |root: &Root| names_of(&root.containers(), "/docker/ID");
    let root = Root::new();
    root.write(&config, r#"{"Name":"/a\u001b[31m\u202eb\\"}"#);
    assert_eq!(docker(&root).container_name.as_deref(), Some(r"a\x1b[31m\xe2\x80\xaeb\\"));
    for text in [
        format!(r#"{{"Name":"/{}"}}"#, "n".repeat(600)),
        "[".repeat(100_000),
        r#"{"Name":7}"#.into(),
        "{".into(),
        String::new(),
    ] {
        let root = Root::new();
        root.write(&config, &text);
        assert_eq!(docker(&root), unnamed, "{}", &text[..text.len().min(20)]);
    }
    // A file of 100 MB with holes.
    let root = Root::new();
    root.write(&config, r#"{"Name":"/web"}"#);
    fs::File::options().write(true).open(root.path().join(&config)).unwrap().set_len(100 << 20).unwrap();
    assert_eq!(docker(&root), unnamed);
    // A pipe without a writer, and a link out of the tree.
    let root = Root::new();
    fs::create_dir_all(root.path().join(&config).parent().unwrap()).unwrap();
    mkfifo(&root.path().join(&config), Mode::S_IRWXU).unwrap();
    assert_eq!(docker(&root), unnamed);
    let root = Root::new();
    root.write("elsewhere/config.v2.json", r#"{"Name":"/web"}"#);
    fs::create_dir_all(root.path().join("var/lib/docker/containers")).unwrap();
    symlink(root.path().join("elsewhere"), root.path().join("var/lib/docker/containers").join(ID)).unwrap();
    assert_eq!(docker(&root), unnamed);
}
