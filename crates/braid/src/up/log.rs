//! The log of a cloud in the background: only its owner can read it, and it does not grow without end.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Problem;
use crate::paths::Dir;

/// A log that is longer is put aside as `braid.log.1`, and the one put aside before is forgotten.
const LIMIT: u64 = 16 << 20;
const EVERY: Duration = Duration::from_secs(5);

/// The log, to append to.
pub fn open(dir: &Dir) -> Result<File, Problem> {
    append(&dir.log()).map_err(Problem::io(format!("opening {}", dir.log().display())))
}

fn append(path: &Path) -> std::io::Result<File> {
    let file = File::options().create(true).append(true).mode(0o600).open(path)?;
    // An older Braid made it for everybody to read.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Keeps the log of this process short, if it is what stderr leads to.
pub async fn keep_short(path: PathBuf) {
    if !is_stderr(&path, std::process::id()) {
        return;
    }
    loop {
        tokio::time::sleep(EVERY).await;
        let long = fs::metadata(&path).is_ok_and(|about| about.len() > LIMIT);
        if long && let Err(e) = turn(&path) {
            tracing::warn!("the log {} grows: {e}", path.display());
        }
    }
}

/// Whether it is what a process's stderr leads to.
pub fn is_stderr(path: &Path, pid: u32) -> bool {
    let (Ok(log), Ok(stderr)) = (fs::metadata(path), fs::metadata(format!("/proc/{pid}/fd/2"))) else { return false };
    (log.dev(), log.ino()) == (stderr.dev(), stderr.ino())
}

fn turn(path: &Path) -> std::io::Result<()> {
    fs::rename(path, aside(path))?;
    let file = append(path)?;
    nix::unistd::dup2_stdout(&file)?;
    nix::unistd::dup2_stderr(&file)?;
    Ok(())
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}
