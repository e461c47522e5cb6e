//! How much of the host's disk a pod takes, and whether that is more than it may: volumes that have a limit of their own,
//! and `ephemeral-storage`, which is volumes on the disk, logs and what containers write into their own file systems. Pods
//! that take more are evicted, in kubelets' words.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use driver::{SeenPod, Used};
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use model::Fault;

use super::find::seen;
use super::news::{sidecar, together};
use super::volumes::{folder, in_memory};
use crate::Agent;

/// The most files of a volume that are counted.
const COUNTED: usize = 100_000;
const RESOURCE: &str = "ephemeral-storage";

/// What takes more of the disk than it may, in words.
pub async fn overfull(agent: &Agent, uid: &str, pod: &Pod) -> Result<Option<String>, Fault> {
    let all = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    let limited = all.into_iter().any(|c| limit(c).is_some());
    let names: Vec<String> =
        volumes(pod).filter(|v| limited || size_limit(v).is_some()).map(|v| v.name.clone()).collect();
    let volumes = if names.is_empty() { BTreeMap::new() } else { measured(folder(agent, uid), names).await? };
    if let Some(words) = overfull_volume(&volumes, pod) {
        return Ok(Some(words));
    }
    if !limited {
        return Ok(None);
    }
    let Some(seen) = seen(agent, uid).await? else { return Ok(None) };
    // What cannot be measured now is measured by the next step: the pod is not held up.
    let layers = agent.drivers().pod.used(uid).await.unwrap_or_else(|why| {
        tracing::debug!("pod {uid}: {why}");
        BTreeMap::new()
    });
    let taken = by_container(&seen, &layers, |used| used.disk, true);
    // What says why containers ended, and the pod's hosts file.
    let ends = below(folder(agent, uid).join("ends")).await.disk;
    let own = volumes.values().fold(ends, |sum, bytes| sum.saturating_add(*bytes));
    Ok(beyond(pod, &taken, own))
}

/// All that is in a pod's folder: volumes on the disk, and what says why containers ended.
pub async fn folder_of(agent: &Agent, uid: &str) -> Used {
    below(folder(agent, uid)).await
}

async fn below(folder: PathBuf) -> Used {
    driver::on_a_thread(move || Ok(used(&folder))).await.unwrap_or_default()
}

/// The volumes that lie on the disk and are the pod's own to fill.
fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter(|volume| volume.empty_dir.is_some() && in_memory(pod, volume).is_none())
}

/// What these volumes of a pod take, by name. Counting many files takes long: not on a thread that others wait for.
async fn measured(pod: PathBuf, names: Vec<String>) -> Result<BTreeMap<String, u64>, Fault> {
    let counted = tokio::task::spawn_blocking(move || count(&pod, names)).await;
    counted.map_err(|why| Fault::Internal(format!("a pod's volumes cannot be counted: {why}")))
}

fn count(pod: &Path, names: Vec<String>) -> BTreeMap<String, u64> {
    let folder = pod.join("volumes");
    let taken = |name: String| {
        let bytes = used(&folder.join(&name)).disk;
        (name, bytes)
    };
    names.into_iter().map(taken).collect()
}

fn overfull_volume(taken: &BTreeMap<String, u64>, pod: &Pod) -> Option<String> {
    volumes(pod).find_map(|volume| {
        let (name, (most, limit)) = (&volume.name, size_limit(volume)?);
        let taken = *taken.get(name)?;
        (taken > most).then(|| match taken {
            u64::MAX => format!("EmptyDir volume {name:?} has more than {COUNTED} files and a limit of {limit:?}."),
            _ => format!("Usage of EmptyDir volume {name:?} exceeds the limit {limit:?}."),
        })
    })
}

/// The most that a volume may take in bytes, and as it is written.
fn size_limit(volume: &Volume) -> Option<(u64, &str)> {
    let limit = &volume.empty_dir.as_ref()?.size_limit.as_ref()?.0;
    model::quantity_bytes(limit).filter(|most| *most > 0).map(|most| (most, limit.as_str()))
}

/// What each container has taken, of all attempts that are there, with its logs where they count; under the empty name what
/// is the pod's own.
pub fn by_container(
    seen: &SeenPod,
    used: &BTreeMap<String, Used>,
    of: impl Fn(&Used) -> u64,
    with_logs: bool,
) -> BTreeMap<String, u64> {
    let mut taken: BTreeMap<String, u64> = used.get("").map(|own| (String::new(), of(own))).into_iter().collect();
    for container in &seen.containers {
        let logs = [container.log_path.clone(), container.log_path.with_extension("log.1")];
        let logs = logs.iter().filter(|_| with_logs).filter_map(|log| std::fs::symlink_metadata(log).ok());
        let logs: u64 = logs.map(|m| m.blocks() * 512).sum();
        let sum = taken.entry(container.name.clone()).or_default();
        *sum = sum.saturating_add(logs).saturating_add(used.get(&container.id).map_or(0, &of));
    }
    taken
}

/// What containers with a limit may take together or alone, and take more.
fn beyond(pod: &Pod, taken: &BTreeMap<String, u64>, volumes: u64) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let init = || spec.init_containers.iter().flatten();
    // As much as all that run together, or as one that runs before them.
    let together: Vec<u64> = together(spec).filter_map(limit).collect();
    let before = init().filter(|c| !sidecar(c)).filter_map(limit).max();
    let most = Some(together.iter().fold(0u64, |sum, limit| sum.saturating_add(*limit)))
        .filter(|_| !together.is_empty())
        .max(before);
    let sum = taken.values().fold(volumes, |sum, bytes| sum.saturating_add(*bytes));
    if most.is_some_and(|most| sum > most) {
        let limit = most.map(quantity).unwrap_or_default();
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}."));
    }
    spec.containers.iter().chain(init()).find_map(|container| {
        let most = limit(container)?;
        let limit = quantity(most);
        let name = &container.name;
        (taken.get(name).is_some_and(|bytes| *bytes > most))
            .then(|| format!("Container {name} exceeded its local ephemeral storage limit {limit:?}."))
    })
}

/// The container's limit in bytes.
fn limit(container: &Container) -> Option<u64> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    model::quantity_bytes(&limits.get(RESOURCE)?.0).filter(|most| *most > 0)
}

/// Bytes as quantities are written.
pub fn quantity(bytes: u64) -> String {
    let units = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let whole = units.into_iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift);
    whole.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// What the files below a folder take on its disk; links are not followed. So many files that they are not counted are more
/// than anybody may have.
fn used(folder: &Path) -> Used {
    let Ok(disk) = std::fs::metadata(folder).map(|about| about.dev()) else { return Used::default() };
    let (mut ahead, mut bytes, mut files) = (vec![folder.to_path_buf()], 0u64, 0);
    while let Some(next) = ahead.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if about.dev() != disk {
                continue;
            }
            bytes = bytes.saturating_add(about.blocks() * 512);
            files += 1;
            if files > COUNTED {
                return Used { disk: u64::MAX, memory: 0, inodes: u64::MAX };
            }
            if about.is_dir() {
                ahead.push(entry.path());
            }
        }
    }
    Used { disk: bytes, memory: 0, inodes: files as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::{ContainerState, SeenContainer};
    use serde_json::json;

    fn pod() -> Pod {
        let limited = |name: &str, limit: &str| json!({"name": name, "resources": {"limits": {RESOURCE: limit}}});
        let spec = json!({
            "initContainers": [limited("before", "8Mi"), {"name": "beside", "restartPolicy": "Always"}],
            "containers": [limited("a", "1Mi"), limited("b", "2Mi"), {"name": "free"}],
            "volumes": [{"name": "small", "emptyDir": {"sizeLimit": "4Ki"}}, {"name": "ram", "emptyDir": {"medium": "Memory"}},
                {"name": "conf", "configMap": {"name": "c"}}, {"name": "work", "emptyDir": {}}],
        });
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a pod")
    }

    #[test]
    fn containers_may_take_their_limits_and_no_more() {
        let (pod, mib) = (pod(), 1 << 20);
        let said = |a: u64, b: u64, free: u64, volumes: u64| {
            let taken = [("a", a), ("b", b), ("free", free)].map(|(name, bytes)| (name.to_owned(), bytes));
            beyond(&pod, &taken.into(), volumes)
        };
        assert_eq!(said(mib, 2 * mib, 3 * mib, 2 * mib), None);
        let all = "Pod ephemeral local storage usage exceeds the total limit of containers 8Mi.";
        assert_eq!(said(mib, 2 * mib, 3 * mib, 2 * mib + 1).as_deref(), Some(all));
        let one = "Container a exceeded its local ephemeral storage limit \"1Mi\".";
        assert_eq!(said(mib + 1, 0, 0, 0).as_deref(), Some(one));
        assert_eq!([1, 1024, 3 << 20, 1 << 31].map(quantity), ["1", "1Ki", "3Mi", "2Gi"]);
    }

    #[test]
    fn what_is_taken_is_layers_logs_and_volumes_on_the_disk() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |path: &str, kib: usize| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, vec![1; kib << 10]).expect("written");
        };
        write("logs/0.log", 4);
        write("logs/0.log.1", 8);
        write("volumes/work/file", 4);
        write("volumes/small/file", 1);
        let container = |id: &str, attempt: u32| SeenContainer {
            id: id.into(),
            name: "a".into(),
            attempt,
            image: String::new(),
            image_ref: String::new(),
            state: ContainerState::Created,
            log_path: dir.path().join(format!("logs/{attempt}.log")),
        };
        let seen = SeenPod {
            uid: "u".into(),
            generation: Default::default(),
            name: "p".into(),
            namespace: "n".into(),
            cluster_id: "c".into(),
            ready: true,
            created: None,
            containers: vec![container("one", 0), container("two", 1)],
        };
        let layer = |id: &str, disk| (id.to_owned(), Used { disk, memory: 3, inodes: 0 });
        let layers = [layer("one", 100), layer("two", 20), layer("other", 7), layer("", 9)].into();
        let taken = |of: fn(&Used) -> u64, logs| by_container(&seen, &layers, of, logs);
        assert_eq!(taken(|used| used.disk, true), [(String::new(), 9), ("a".to_owned(), (12 << 10) + 120)].into());
        assert_eq!(taken(|used| used.memory, false), [(String::new(), 3), ("a".to_owned(), 6)].into());
        let names: Vec<String> = volumes(&pod()).map(|volume| volume.name.clone()).collect();
        assert_eq!(names, ["small", "work"]);
        let said = || overfull_volume(&count(dir.path(), names.clone()), &pod());
        assert_eq!(said(), None);
        write("volumes/small/more", 8);
        let words = "Usage of EmptyDir volume \"small\" exceeds the limit \"4Ki\".";
        assert_eq!(said().as_deref(), Some(words));
    }
}
