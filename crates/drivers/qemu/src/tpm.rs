//! A guest's trusted platform module: swtpm, a process beside its QEMU, which ends with it. It runs as the VM's user, in the
//! VM's control group. What it keeps are secrets of the guest: files that are its user's alone, in a folder that goes along
//! with the VM's disks. Refused: a module in QEMU's own process, which QEMU has none of; swtpm's set-up program, which makes
//! certificates of a maker that there is not.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use driver::{DriverFault, Result, process};
use model::machine::TpmModel;
use model::wanted::WantedVm;

use crate::detach::detach;
use crate::failed;
use crate::process::Process;
use crate::user::{self, User};

/// Where QEMU meets it, in the VM's directory.
pub const SOCKET: &str = "tpm.sock";
/// What it keeps.
pub const STATE: &str = "tpm";
/// What a rescue has in its place, each time anew.
const OF_RESCUE: &str = "rescue.tpm";
/// Which process it is.
const RECORD: &str = "tpm.process";
const LOG: &str = "tpm.log";
const PROGRAM: &str = "swtpm";
/// It opens its socket in milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn device(model: TpmModel) -> &'static str {
    match model {
        TpmModel::Tis => "tpm-tis",
        TpmModel::Crb => "tpm-crb",
    }
}

/// The name by which a process is known to be that of a VM.
fn mark(id: &str) -> String {
    format!("tpm-of={id}")
}

/// Starts it for a QEMU that is to be started, with what it kept, or what it kept for the incarnation whose disks the VM
/// takes over.
pub async fn start(vm: &WantedVm, dir: &Path, taken: Option<&Path>, user: Option<User>) -> Result<Process> {
    let id = &vm.id;
    let state = if vm.rescue { OF_RESCUE } else { STATE };
    end(id, dir).await?;
    if vm.rescue {
        let _ = fs::remove_dir_all(dir.join(state));
    }
    let program = process::which(PROGRAM).ok_or_else(|| {
        DriverFault::Refused("this host has no virtual TPMs: swtpm is not installed (Debian: swtpm)".to_owned())
    })?;
    let fault = |e: io::Error| failed("cannot start swtpm".to_owned(), e);
    prepare(dir, state, taken, user).map_err(fault)?;
    let log = user::fresh(&dir.join(LOG)).map_err(fault)?;
    let mut command = Command::new(program);
    command.arg0(mark(id)).args(["socket", "--tpm2", "--terminate"]).current_dir(dir).stdin(Stdio::null());
    command.args(["--tpmstate", &format!("dir={state},mode=0600")]);
    command.args(["--ctrl", &format!("type=unixio,path={SOCKET},mode=0600")]);
    command.stdout(log.try_clone().map_err(fault)?).stderr(log);
    detach(&mut command, Vec::new(), user);
    let child = tokio::process::Command::from(command).spawn().map_err(fault)?;
    let started = child.id().and_then(|pid| Process::find(pid as i32));
    let started = started.ok_or_else(|| DriverFault::Failed(format!("swtpm ended at once: {}", words(dir))))?;
    started.record(&dir.join(RECORD)).map_err(fault)?;
    let deadline = Instant::now() + PATIENCE;
    while !dir.join(SOCKET).exists() {
        if !started.runs() || Instant::now() > deadline {
            started.kill().await;
            return Err(DriverFault::Failed(format!("swtpm did not start: {}", words(dir))));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(started)
}

/// Ends one that is left; usually it ended with its QEMU.
pub async fn end(id: &str, dir: &Path) -> Result<()> {
    if let Some(left) = Process::recorded(&dir.join(RECORD), &mark(id))
        && !left.end(Duration::from_secs(2)).await
    {
        return Err(DriverFault::Failed(format!("swtpm (process {}) of VM {id} does not end", left.pid)));
    }
    for name in [RECORD, SOCKET] {
        let _ = fs::remove_file(dir.join(name));
    }
    Ok(())
}

fn words(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join(LOG)).unwrap_or_default();
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("without a word").to_owned()
}

/// The folder is the user's, and whatever else than plain files is in it goes: nothing leads elsewhere.
fn prepare(dir: &Path, name: &str, taken: Option<&Path>, user: Option<User>) -> io::Result<()> {
    let state = dir.join(name);
    if let Some(other) = taken.map(|dir| dir.join(name)).filter(|other| !state.exists() && other.exists()) {
        fs::rename(other, &state)?;
    }
    fs::create_dir_all(&state)?;
    // From here on nobody but us can put anything there.
    chown(&state, Some(0).filter(|_| user.is_some()), None)?;
    fs::set_permissions(&state, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(&state)?.flatten() {
        let about = fs::symlink_metadata(entry.path())?;
        match about.is_file() && about.nlink() == 1 {
            true => user.map_or(Ok(()), |user| lchown(entry.path(), Some(user.id), Some(user.id)))?,
            false if about.is_dir() => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    user.map_or(Ok(()), |user| chown(&state, Some(user.id), Some(user.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_users_alone_and_leads_nowhere() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let user = |id| Some(User { id });
        prepare(one.path(), STATE, None, user(4321)).unwrap();
        let state = one.path().join(STATE);
        fs::write(state.join("tpm2-00.permall"), "secret").unwrap();
        fs::write(two.path().join("precious"), "").unwrap();
        std::os::unix::fs::symlink(two.path().join("precious"), state.join("link")).unwrap();
        fs::hard_link(two.path().join("precious"), state.join("hard")).unwrap();
        prepare(two.path(), STATE, Some(one.path()), user(4322)).unwrap();
        let about = |path: &Path| fs::symlink_metadata(path).map(|m| (m.uid(), m.mode() & 0o777)).unwrap();
        let state = two.path().join(STATE);
        assert_eq!(about(&state), (4322, 0o700));
        assert_eq!(about(&state.join("tpm2-00.permall")).0, 4322);
        assert_eq!(about(&two.path().join("precious")).0, 0);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }
}
