//! A VM whose memory is in a file and of which nothing runs, and back: QEMU's migration, to a file and from it.

use std::fs;
use std::path::Path;

use driver::{DriverFault, Result};
use model::wanted::WantedVm;
use serde_json::json;

use crate::process::Process;
use crate::state::State;
use crate::{Qemu, failed, qmp};

/// The guest's memory, in the VM's directory; the second name until it is complete.
pub const MEMORY: &str = "memory";
const UNFINISHED: &str = "memory.new";
/// Bytes a second: as fast as the disk. QEMU's own choice is that of a network.
const SPEED: u64 = 1 << 40;

/// QEMU has not read the memory yet.
pub fn is_loading(status: &str) -> bool {
    status == "inmigrate"
}

/// What is in the file shall not go on: it is to be off, or to be started in another way.
pub fn is_obsolete(vm: &WantedVm, state: &State) -> bool {
    !vm.running || vm.hard_reboots > state.hard_reboots || vm.rescue != state.rescue
}

/// The memory is of no more use.
pub fn forget(dir: &Path, state: &mut State) {
    (state.suspended, state.loading) = (false, false);
    for name in [MEMORY, UNFINISHED] {
        let _ = fs::remove_file(dir.join(name));
    }
}

impl Qemu {
    /// One step: stop the guest and begin to write, wait, or end QEMU when all is written.
    pub(crate) async fn suspend(
        &self,
        vm: &WantedVm,
        state: &mut State,
        process: &Process,
        status: &str,
    ) -> Result<()> {
        let dir = self.vm_dir(&vm.id);
        if status == "postmigrate" {
            let keep = || match fs::File::open(dir.join(UNFINISHED)) {
                Ok(file) => file.sync_all().and_then(|()| fs::rename(dir.join(UNFINISHED), dir.join(MEMORY))),
                Err(_) if state.suspended => Ok(()),
                Err(e) => Err(e),
            };
            keep().map_err(|e| failed("cannot keep the guest's memory".to_owned(), e))?;
            state.suspended = true;
            return self.kill(vm, process, state).await;
        }
        let refused = |e| DriverFault::Failed(format!("QEMU does not write the guest's memory: {e}"));
        let writing = qmp::command(&dir, "query-migrate").await.map_err(refused)?;
        match writing["status"].as_str() {
            Some("setup" | "active" | "device" | "pre-switchover" | "cancelling") => Ok(()),
            // The guest goes on, and is not stopped again for what does not work.
            Some("failed") => {
                if status != "running" {
                    self.tell(vm, "cont").await?;
                }
                let why = writing["error-desc"].as_str().unwrap_or("without a word");
                Err(DriverFault::Failed(format!("the guest's memory could not be written: {why}")))
            }
            _ => {
                if status == "running" {
                    self.tell(vm, "stop").await?;
                }
                let speed = json!({"max-bandwidth": SPEED});
                qmp::execute(&dir, "migrate-set-parameters", speed).await.map_err(refused)?;
                let uri = json!({"uri": format!("file:{UNFINISHED}")});
                qmp::execute(&dir, "migrate", uri).await.map_err(refused)?;
                Ok(())
            }
        }
    }
}
