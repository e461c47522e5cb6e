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
            _ => begin(&dir).await.map_err(refused),
        }
    }
}

/// Stops the guest and begins to write, unless all was written since the step began: the next one keeps it then. That a
/// migration is complete does not tell: it may be the one by which the guest came.
async fn begin(dir: &Path) -> std::io::Result<()> {
    match qmp::status(dir).await?.as_str() {
        "finish-migrate" | "postmigrate" => return Ok(()),
        "running" => drop(qmp::command(dir, "stop").await?),
        _ => {}
    }
    qmp::execute(dir, "migrate-set-parameters", json!({"max-bandwidth": SPEED})).await?;
    qmp::execute(dir, "migrate", json!({"uri": format!("file:{UNFINISHED}")})).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixListener;

    use super::*;

    /// What a QEMU whose guest stands so is told.
    async fn told(status: &'static str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("qmp.sock")).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                stream.write_all(b"{\"QMP\": {}}\n").await.unwrap();
                let mut line = String::new();
                while stream.read_line(&mut line).await.unwrap() > 0 {
                    let asked: Value = serde_json::from_str(&line).unwrap();
                    heard.lock().unwrap().push(asked["execute"].as_str().unwrap().to_owned());
                    let answer = json!({"return": {"status": status}});
                    stream.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
                    line.clear();
                }
            }
        });
        begin(dir.path()).await.unwrap();
        server.abort();
        let mut told = told.lock().unwrap().clone();
        told.retain(|command| command != "qmp_capabilities");
        told
    }

    #[tokio::test]
    async fn what_was_written_meanwhile_is_not_written_again() {
        let writes = ["migrate-set-parameters", "migrate"];
        assert_eq!(told("running").await, [&["query-status", "stop"], &writes[..]].concat());
        assert_eq!(told("paused").await, [&["query-status"], &writes[..]].concat());
        assert_eq!(told("finish-migrate").await, ["query-status"]);
        assert_eq!(told("postmigrate").await, ["query-status"]);
    }
}
