//! Images that are made from the disks of servers of this host. Which, the Image rows say; a row without its bytes is what
//! asks for them. The bytes are durable before the row says that it has them, so a crash at any point begins anew, and
//! copies that nobody wants are found by looking into their folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use blob::Digest;
use driver::DriverFault;
use model::wanted::Generation;
use model::{Change, Entry, Fault, Image, ImageStatus, Index, ServerAction, Snapshot, Vm, VmPhase};

use crate::{Agent, fault};

/// Copies under way, named by their VMs.
fn copies(agent: &Agent) -> PathBuf {
    agent.config().dir.join("copies")
}

/// Ids of all VMs of whose disks an image shall be made, or of which a copy lies here.
pub fn all(agent: &Agent, snapshot: &Snapshot) -> BTreeSet<String> {
    let here = snapshot.find::<Vm>(Index::Host, &agent.config().host);
    let asked = here.filter(|vm| wanted(snapshot, vm).is_some()).map(|vm| Vm::id(&vm.server_id, vm.incarnation));
    let there = std::fs::read_dir(copies(agent)).into_iter().flatten().flatten();
    asked.chain(there.filter_map(|entry| entry.file_name().into_string().ok())).collect()
}

/// The image to be made from a VM's disk, one at a time. A server that is being shelved is stopped first.
fn wanted<'a>(snapshot: &'a Snapshot, vm: &Vm) -> Option<Entry<'a, Image>> {
    if vm.deleting || matches!(vm.status.phase, VmPhase::Unknown | VmPhase::Starting | VmPhase::Gone) {
        return None;
    }
    let image = snapshot.find::<Image>(Index::Owner, &vm.server_id).min_by_key(|image| image.row.created)?;
    let server = snapshot.get::<model::Server>(&vm.server_id)?;
    let shelving = server.shelved.as_deref() == Some(&image.id);
    (!shelving || vm.status.phase == VmPhase::Stopped).then_some(image)
}

/// Makes the image that is asked for from a VM's disk, or removes what is left of one that is not.
pub async fn step(agent: &Agent, vm_id: &str) -> Result<(), Fault> {
    let snapshot = agent.store().fresh().await?;
    let vm = snapshot.get::<Vm>(vm_id).filter(|vm| vm.host.as_deref() == Some(&agent.config().host));
    let (file, at) = (copies(agent).join(vm_id), Generation::of(&snapshot));
    let Some(image) = vm.and_then(|vm| wanted(&snapshot, &vm)).map(|image| image.value.clone()) else {
        agent.drivers().vm.end_copy(vm_id, at).await.map_err(fault)?;
        return remove(&file);
    };
    if image.status != ImageStatus::Saving {
        edit(agent, &image.id, |image| image.status = ImageStatus::Saving).await?;
    }
    let size = match agent.drivers().vm.copy_disk(vm_id, "root", &file, at).await {
        Ok(size) => size,
        Err(e @ (DriverFault::NotReady(_) | DriverFault::Unavailable(_) | DriverFault::Stale(_))) => {
            return Err(fault(e));
        }
        Err(e) => {
            remove(&file)?;
            return give_up(agent, &image, &e.to_string()).await;
        }
    };
    let (blobs, from) = (agent.config().blobs.clone(), file.clone());
    let taken = tokio::task::spawn_blocking(move || blobs.import(&from)).await;
    remove(&file)?;
    match taken {
        Ok(Ok(digest)) => match complete(agent, &image, &digest, size).await {
            // It would be refused again: the project has to make room first, and ask again.
            Err(why @ Fault::Quota { .. }) => give_up(agent, &image, &why.to_string()).await,
            done => done,
        },
        Ok(Err(e)) => give_up(agent, &image, &e.to_string()).await,
        Err(e) => Err(Fault::Internal(e.to_string())),
    }
}

fn remove(file: &Path) -> Result<(), Fault> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Fault::Unavailable(format!("cannot remove {}: {e}", file.display())))
        }
        _ => Ok(()),
    }
}

/// Changes the image if it is still asked for.
async fn edit(agent: &Agent, id: &str, edit: impl Fn(&mut Image)) -> Result<(), Fault> {
    let now = agent.now();
    let write = |snapshot: &Snapshot| {
        let mut change = Change::new();
        if let Some(image) = snapshot.get::<Image>(id).filter(|image| image.source.is_some()) {
            change.edit(image, |image| {
                image.updated_at = now;
                edit(image);
            });
        }
        Ok(change)
    };
    agent.write(write).await
}

/// The bytes become the image's. Of backups, the oldest beyond what shall be kept go.
async fn complete(agent: &Agent, made: &Image, digest: &Digest, size: u64) -> Result<(), Fault> {
    let now = agent.now();
    let write = |snapshot: &Snapshot| {
        let mut change = Change::new();
        let Some(image) = snapshot.get::<Image>(&made.id).filter(|image| image.source.is_some()) else {
            return Ok(change);
        };
        let rotation = image.source.as_ref().and_then(|source| source.rotation);
        let old = rotation.map_or_else(Vec::new, |keep| backups_beyond(snapshot, &image, keep));
        if old.iter().any(|old| old.row.key == image.row.key) {
            change.delete(image);
        } else {
            change.edit(image, |image| {
                image.status = ImageStatus::Active;
                image.blob = Some(digest.sha256.clone());
                image.size = Some(digest.size);
                image.checksum = Some(digest.md5.clone());
                image.os_hash_value = Some(digest.sha512.clone());
                image.virtual_size = Some(size);
                image.source = None;
                image.updated_at = now;
            });
        }
        for old in old.into_iter().filter(|old| old.row.key != image.row.key) {
            change.delete(old);
        }
        Ok(change)
    };
    agent.write(write).await
}

/// Backups of the same server and type as this one, which is the newest, without the `keep` newest.
fn backups_beyond<'a>(snapshot: &'a Snapshot, image: &Entry<'a, Image>, keep: u32) -> Vec<Entry<'a, Image>> {
    const SAME: [&str; 3] = ["image_type", "backup_type", "instance_uuid"];
    let same =
        |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| SAME.iter().all(|key| a.get(*key) == b.get(*key));
    let mut all: Vec<Entry<'_, Image>> = snapshot
        .within::<Image>(&image.row.key.realm)
        .filter(|other| same(&other.properties, &image.properties) && !other.protected)
        .filter(|other| other.source.is_none() || other.id == image.id)
        .collect();
    all.sort_by_key(|image| std::cmp::Reverse(image.row.created));
    all.split_off(all.len().min(keep as usize))
}

/// It cannot be made: the row goes, and the server's action log says why.
async fn give_up(agent: &Agent, made: &Image, why: &str) -> Result<(), Fault> {
    tracing::warn!(image = made.id, "an image cannot be made from a server: {why}");
    let write = |snapshot: &Snapshot| {
        let mut change = Change::new();
        let Some(image) = snapshot.get::<Image>(&made.id).filter(|image| image.source.is_some()) else {
            return Ok(change);
        };
        if let Some(source) = &image.source {
            let mut actions = snapshot.find::<ServerAction>(Index::Owner, &source.server_id);
            if let Some(action) = actions.find(|action| action.request_id == source.request_id) {
                change.edit(action, |action| action.message = Some(format!("Error: {why}")));
            }
        }
        change.delete(image);
        Ok(change)
    };
    agent.write(write).await
}
