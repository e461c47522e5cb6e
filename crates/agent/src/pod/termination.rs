//! What a container says of its end: the file `terminationMessagePath`, or the end of its log where it asks for that.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use driver::SeenContainer;
use k8s_openapi::api::core::v1::Container;
use model::Fault;

use super::volumes;
use crate::Agent;
use crate::log::last_lines;

/// The most of a message, and of a log that stands for one, as in Kubernetes.
const MOST: u64 = 4096;
const LOG_LINES: usize = 80;
const LOG_BYTES: usize = 2048;

fn file(agent: &Agent, uid: &str, container: &str, attempt: u32) -> PathBuf {
    volumes::folder(agent, uid).join("ends").join(format!("{container}.{attempt}"))
}

/// Makes the file in which a container can say why it ended.
pub fn prepare(agent: &Agent, uid: &str, container: &str, attempt: u32) -> Result<PathBuf, Fault> {
    let path = file(agent, uid, container, attempt);
    let failed = |e: std::io::Error| Fault::Unavailable(format!("making {}: {e}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o666).open(&path).map_err(failed)?;
    made.set_permissions(std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(path)
}

/// The message of a container that ended.
pub fn message(agent: &Agent, uid: &str, container: &Container, seen: &SeenContainer, code: i32) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(file(agent, uid, &container.name, seen.attempt)) {
        let _ = file.take(MOST).read_to_end(&mut bytes);
    }
    let fall_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if bytes.is_empty() && fall_back && code != 0 {
        bytes = last_lines(&seen.log_path, LOG_LINES, LOG_BYTES);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
