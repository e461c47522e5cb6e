//! A copy of a disk as it was at one moment. The disk of a VM that runs is copied by its QEMU while the guest goes on
//! writing: what it overwrites is copied first. The disk of a VM that does not run is copied by qemu-img.
//!
//! QEMU goes on copying when nobody waits any more, so whoever begins a copy ends what an earlier one may have left.

use std::fs;
use std::path::Path;
use std::time::Duration;

use driver::{DriverFault, Result};
use model::wanted::Generation;
use serde_json::{Value, json};

use crate::user::User;
use crate::vm::There;
use crate::{Qemu, disk, failed, qmp, user};

/// The job and the node in a QEMU that copies.
const JOB: &str = "copy";
const NODE: &str = "copy-target";
/// The file that it writes, in the VM's directory.
const TARGET: &str = "copy.part";
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A copy of a large disk takes its time.
const LIMIT: Duration = Duration::from_secs(12 * 3600);

impl Qemu {
    /// Copies a disk to a qcow2 file that depends on no other; its size as a guest sees it.
    pub(crate) async fn copy(&self, id: &str, name: &str, to: &Path, at: Generation) -> Result<u64> {
        let dir = self.vm_dir(id);
        let step = self.step(id);
        let alone = step.lock().await;
        let pass = self.pass(id, at)?;
        let (from, format, size) = disk::of(&dir, name)?;
        let folder = to.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(|e| failed(format!("cannot make {}", folder.display()), e))?;
        match self.there(id).await {
            There::Nothing => {
                let user = self.make_target(id, &dir)?;
                disk::convert(&from, format, &dir.join(TARGET), user, LIMIT).await?;
            }
            There::Silent(_, why) => return Err(DriverFault::NotReady(format!("QEMU does not answer: {why}"))),
            There::Answers(..) => {
                end(&dir).await;
                self.make_target(id, &dir)?;
                disk::create_empty(&dir.join(TARGET), size).await?;
                begin(&dir, name).await?;
                // It may be told to stop, or be removed, meanwhile.
                drop((pass, alone));
                let outcome = finish(&dir).await;
                end(&dir).await;
                outcome?;
            }
        }
        take(&dir.join(TARGET), to).await.map_err(|e| failed(format!("cannot make {}", to.display()), e))?;
        Ok(size)
    }

    /// An empty file that the VM's QEMU can write to: it reaches nothing outside of its directory.
    fn make_target(&self, id: &str, dir: &Path) -> Result<Option<User>> {
        let target = dir.join(TARGET);
        let unmade = |e| failed(format!("cannot make {}", target.display()), e);
        user::fresh(&target).map_err(unmade)?;
        let user = self.users.of(id).map_err(unmade)?;
        user.map_or(Ok(()), |user| user::share(&target, user)).map_err(unmade)?;
        Ok(user)
    }

    /// Ends a copy that nobody waits for.
    pub(crate) async fn forget_copy(&self, id: &str, at: Generation) -> Result<()> {
        let step = self.step(id);
        let _alone = step.lock().await;
        let pass = self.pass(id, at)?;
        if let There::Answers(..) = self.there(id).await {
            end(&self.vm_dir(id)).await;
        }
        let _ = fs::remove_file(self.vm_dir(id).join(TARGET));
        if self.vm_dir(id).exists() { Ok(()) } else { self.generations.gone(pass) }
    }
}

/// Moves a file that is whole; to another file system by copying.
async fn take(from: &Path, to: &Path) -> std::io::Result<()> {
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    let (from, to) = (from.to_owned(), to.to_owned());
    driver::on_a_thread(move || fs::copy(&from, to).and_then(|_| fs::remove_file(from))).await
}

async fn begin(dir: &Path, disk: &str) -> Result<()> {
    let node = json!({"node-name": NODE, "driver": "qcow2", "file": {"driver": "file", "filename": TARGET}});
    let job = json!({
        "job-id": JOB, "device": disk::node(disk), "target": NODE, "sync": "full", "auto-dismiss": false,
    });
    for (command, arguments) in [("blockdev-add", node), ("blockdev-backup", job)] {
        let refused = |e| DriverFault::Failed(format!("QEMU does not do {command}: {e}"));
        qmp::execute(dir, command, arguments).await.map_err(refused)?;
    }
    Ok(())
}

/// The job as QEMU describes it, if there is one.
async fn job(dir: &Path) -> std::io::Result<Option<Value>> {
    let jobs = qmp::command(dir, "query-jobs").await?;
    Ok(jobs.as_array().into_iter().flatten().find(|job| job["id"] == JOB).cloned())
}

/// Waits for the job's end.
async fn finish(dir: &Path) -> Result<()> {
    let stopped = |why: String| DriverFault::NotReady(format!("the VM changed while its disk was copied: {why}"));
    loop {
        let job = job(dir).await.map_err(|e| stopped(e.to_string()))?;
        let job = job.ok_or_else(|| stopped("QEMU was started anew".to_owned()))?;
        match (job["status"].as_str(), job["error"].as_str()) {
            (Some("concluded"), None) => return Ok(()),
            (Some("concluded"), Some(why)) => {
                return Err(DriverFault::Failed(format!("the disk cannot be copied: {why}")));
            }
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Ends the job if there is one, and lets go of its file. What cannot be ended ends with its QEMU.
async fn end(dir: &Path) {
    for _ in 0..50 {
        let Ok(Some(job)) = job(dir).await else { break };
        let command = if job["status"] == "concluded" { "job-dismiss" } else { "job-cancel" };
        if let Err(error) = qmp::execute(dir, command, json!({"id": JOB})).await {
            tracing::debug!(%error, command, "a copy does not end");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Without a node of this name that is an error, and as it should be.
    let _ = qmp::execute(dir, "blockdev-del", json!({"node-name": NODE})).await;
}
