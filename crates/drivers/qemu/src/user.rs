//! The user that a VM's QEMU runs as. Each VM has one of its own, so that a guest that breaks out of its QEMU is nobody: not
//! root, and a stranger to every other VM.
//!
//! Its directory belongs to root and to the user's group, which may make files there (sockets, the guest's memory) but, by
//! the sticky bit, neither replace nor remove what is root's; and all that we read or write ourselves is root's: a disk is
//! the group's to write. Refused: a directory that is the user's. Whoever broke out would put a link to a file of the host
//! where we look next, and we would follow it as root.
//!
//! Which user a VM has is written in a folder that no VM can reach, `users/<VM>`.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// So many VMs can be on a host.
const COUNT: u32 = 65_536;

/// The users of all VMs.
#[derive(Debug, Default)]
pub struct Users {
    dir: PathBuf,
    /// The first of the range; `None`: QEMU runs as who we are.
    first: Option<u32>,
    /// One choice at a time.
    choice: Mutex<()>,
}

/// Who a QEMU runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub id: u32,
}

impl Users {
    pub fn new(dir: &Path, first: Option<u32>) -> Self {
        let first = first.filter(|_| nix::unistd::geteuid().is_root());
        Self { dir: dir.join("users"), first, choice: Mutex::default() }
    }

    /// The user of a VM, chosen when it is first asked for: the lowest that no other VM has.
    pub fn of(&self, vm: &str) -> io::Result<Option<User>> {
        let Some(first) = self.first else { return Ok(None) };
        let _alone = self.choice.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.dir.join(vm);
        let id = match read(&file).filter(|id| (first..first.saturating_add(COUNT)).contains(id)) {
            Some(id) => id,
            None => {
                fs::create_dir_all(&self.dir)?;
                let taken: Vec<u32> = fs::read_dir(&self.dir)?.flatten().filter_map(|e| read(&e.path())).collect();
                let free = (first..first.saturating_add(COUNT)).find(|id| !taken.contains(id));
                let id = free.ok_or_else(|| io::Error::other("every user for VMs is taken"))?;
                fs::write(&file, id.to_string())?;
                id
            }
        };
        Ok(Some(User { id }))
    }

    /// The VM is gone, another one may have its user.
    pub fn forget(&self, vm: &str) {
        let _ = fs::remove_file(self.dir.join(vm));
    }
}

fn read(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Removes what a QEMU may have left in its directory to mislead us; nothing of the VM runs.
pub fn clean(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        let kind = entry.file_type()?;
        if kind.is_symlink() || kind.is_socket() || kind.is_fifo() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Gives a VM's directory, which is clean, to its user as far as QEMU needs it; nothing of the VM runs.
pub fn prepare(dir: &Path, user: User) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())) {
        share(&entry.path(), user)?;
    }
    // QEMU appends to it; made here, so that it is root's.
    let console = dir.join("console.log");
    File::options().create(true).append(true).mode(0o660).custom_flags(libc::O_NOFOLLOW).open(&console)?;
    share(&console, user)?;
    chown(dir, Some(0), Some(user.id))?;
    fs::set_permissions(dir, Permissions::from_mode(0o1770))
}

/// Lets the user read and write a file of root's. One that has other names too is an image's, for everybody to read; what
/// only we need is nobody else's.
pub fn share(file: &Path, user: User) -> io::Result<()> {
    let about = fs::symlink_metadata(file)?;
    let ours = ["state.json", "process", "qemu.log", "tpm.process", "tpm.log"]
        .iter()
        .any(|name| file.file_name().is_some_and(|n| n == *name));
    if about.nlink() > 1 {
        if about.mode() & 0o004 == 0 {
            fs::set_permissions(file, Permissions::from_mode(0o644))?;
        }
        return Ok(());
    }
    lchown(file, Some(0), Some(user.id))?;
    fs::set_permissions(file, Permissions::from_mode(if ours { 0o600 } else { 0o660 }))
}

/// A new file for our eyes alone, whatever was there before, a link that leads elsewhere too.
pub fn fresh(file: &Path) -> io::Result<File> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    File::options().write(true).create_new(true).mode(0o600).open(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vm_has_a_user_and_a_gone_one_makes_room() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let users = Users::new(dir.path(), Some(1000));
        let of = |vm: &str| users.of(vm).unwrap().unwrap().id;
        assert_eq!((of("a.1"), of("b.1"), of("a.1")), (1000, 1001, 1000));
        users.forget("a.1");
        assert_eq!((of("c.1"), of("a.1")), (1000, 1002));
        assert_eq!(Users::new(dir.path(), None).of("a.1").unwrap(), None);
    }

    #[test]
    fn a_vm_cannot_lead_us_elsewhere() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (root, user) = (tempfile::tempdir().unwrap(), User { id: 1000 });
        let (dir, outside) = (root.path().join("vm"), root.path().join("outside"));
        fs::create_dir(&dir).unwrap();
        fs::write(&outside, "precious").unwrap();
        for name in ["root.qcow2", "state.json"] {
            fs::write(dir.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(&outside, dir.join("state.new")).unwrap();
        std::os::unix::fs::symlink(&outside, dir.join("console.log")).unwrap();
        fresh(&dir.join("state.new")).unwrap();
        clean(&dir).unwrap();
        prepare(&dir, user).unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
        let about =
            |name: &str| fs::symlink_metadata(dir.join(name)).map(|m| (m.uid(), m.gid(), m.mode() & 0o7777)).unwrap();
        assert_eq!(about(""), (0, 1000, 0o1770));
        assert_eq!(about("root.qcow2"), (0, 1000, 0o660));
        assert_eq!(about("state.json"), (0, 1000, 0o600));
        assert_eq!(about("console.log"), (0, 1000, 0o660));
    }
}
