//! A VM that nobody wants is not destroyed but put aside, as a whole: whoever finds that it was wanted after all gets it
//! back as it was. Where it lies, for how long, and who may ask for it is the agent's matter.

use std::fs;
use std::path::Path;
use std::time::Duration;

use driver::{DriverFault, Result};

use crate::state::State;
use crate::{Qemu, disk, failed, qmp, tpm};

/// For a QEMU to write out what it holds.
const PATIENCE: Duration = Duration::from_secs(2);

impl Qemu {
    /// Ends QEMU, which writes out what it holds if it can, and moves the VM's directory.
    pub(crate) async fn put_aside(&self, id: &str, to: &Path) -> Result<bool> {
        let dir = self.vm_dir(id);
        if !dir.exists() {
            return Ok(false);
        }
        if let Some(process) = self.process(id) {
            let _ = qmp::command(&dir, "quit").await;
            if !process.gone_within(PATIENCE).await && !process.kill().await {
                return Err(DriverFault::Failed(format!("QEMU (process {}) of VM {id} does not end", process.pid)));
            }
        }
        tpm::end(id, &dir).await?;
        let moved = || {
            // It did not end by itself, so it is started when it comes back.
            let mut state = State::load(&dir);
            (state.started, state.asked) = (false, None);
            state.save(&dir)?;
            fs::rename(&dir, to)?;
            to.parent().map_or(Ok(()), disk::sync_dir)?;
            Ok(true)
        };
        let moved = moved().map_err(|e| failed(format!("cannot put VM {id} aside to {}", to.display()), e))?;
        self.forget_process(id).await;
        Ok(moved)
    }

    pub(crate) async fn give_back(&self, id: &str, from: &Path) -> Result<()> {
        let dir = self.vm_dir(id);
        let has_disks = fs::read_dir(&dir).into_iter().flatten().flatten().any(|entry| disk::is_disk(&entry.path()));
        if self.process(id).is_some() || has_disks {
            return Err(DriverFault::Refused(format!("VM {id} has other disks by now, in {}", dir.display())));
        }
        let moved = async {
            crate::remove_dir(&dir).await?;
            dir.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::rename(from, &dir)?;
            dir.parent().map_or(Ok(()), disk::sync_dir)
        };
        moved.await.map_err(|e| failed(format!("cannot give VM {id} back from {}", from.display()), e))
    }
}
