//! Images that are made from the disks of servers of this host. The bytes are durable before the cloud is told that they are
//! there, so a crash at any point begins anew, and copies that nobody wants are found by looking into their folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use blob::Digest;
use driver::DriverFault;
use model::host_report::{ImageBytes, Report};
use model::host_view::Wanted;
use model::{Fault, ImageStatus};

use crate::{Agent, fault};

/// Copies under way, named by their VMs.
fn copies(agent: &Agent) -> PathBuf {
    agent.config().dir.join("copies")
}

/// Ids of all VMs of whose disks an image shall be made, or of which a copy lies here.
pub fn all(agent: &Agent, vms: &[Wanted]) -> BTreeSet<String> {
    let asked = vms.iter().filter(|vm| vm.saving).map(|vm| vm.id.clone());
    let there = std::fs::read_dir(copies(agent)).into_iter().flatten().flatten();
    asked.chain(there.filter_map(|entry| entry.file_name().into_string().ok())).collect()
}

/// Makes the image that is asked for from a VM's disk, or removes what is left of one that is not.
pub async fn step(agent: &Agent, vm_id: &str) -> Result<(), Fault> {
    let view = agent.cloud().fresh().await?;
    let (file, at) = (copies(agent).join(vm_id), view.generation());
    let Some(image) = view.vm(vm_id).and_then(|vm| vm.saving) else {
        agent.drivers().vm.end_copy(vm_id, at).await.map_err(fault)?;
        return remove(&file);
    };
    if image.status != ImageStatus::Saving {
        agent.report(Report::Saving { image: image.id.clone() }).await?;
    }
    let virtual_size = match agent.drivers().vm.copy_disk(vm_id, "root", &file, at).await {
        Ok(size) => size,
        Err(e @ (DriverFault::NotReady(_) | DriverFault::Unavailable(_) | DriverFault::Stale(_))) => {
            return Err(fault(e));
        }
        Err(e) => {
            remove(&file)?;
            return give_up(agent, image.id, e.to_string()).await;
        }
    };
    let (blobs, from) = (agent.config().blobs.clone(), file.clone());
    let taken = tokio::task::spawn_blocking(move || blobs.import(&from)).await;
    remove(&file)?;
    let digest = match taken {
        Ok(Ok(digest)) => digest,
        Ok(Err(e)) => return give_up(agent, image.id, e.to_string()).await,
        Err(e) => return Err(Fault::Internal(e.to_string())),
    };
    let Digest { sha256, sha512, md5, size, .. } = digest;
    let bytes = ImageBytes { sha256, sha512, md5, size, virtual_size };
    match agent.report(Report::Saved { image: image.id.clone(), bytes }).await {
        // It would be refused again: the project has to make room first, and ask again.
        Err(why @ Fault::Quota { .. }) => give_up(agent, image.id, why.to_string()).await,
        done => done.map(drop),
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

/// It cannot be made.
async fn give_up(agent: &Agent, image: String, why: String) -> Result<(), Fault> {
    tracing::warn!(image, "an image cannot be made from a server: {why}");
    agent.report(Report::NotSaved { image, why }).await.map(drop)
}
