//! What of a pod's volumes is a mount: an `emptyDir` in memory, and parts of an `emptyDir` (`subPath`). The pod can write to the volume while we look, and would put a
//! symbolic link to the host's files in our way; so a path is followed component by component, never through a link, and
//! what was found is held by a bind mount before the runtime is told of it. Kubelets do the same, for the same reason.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use model::Fault;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// The part `sub` of a volume, held at `at`. A folder is made where nothing is.
pub fn hold(volume: &Path, sub: &str, at: &Path) -> Result<PathBuf, Fault> {
    let failed = |e: Errno| Fault::Unavailable(format!("opening the sub-path {sub}: {e}"));
    let file = |e: std::io::Error| Fault::Unavailable(format!("holding the sub-path {sub}: {e}"));
    let path_only = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let mut there = open(volume, path_only | OFlag::O_DIRECTORY, Mode::empty()).map_err(failed)?;
    for part in Path::new(sub).components() {
        let Component::Normal(name) = part else {
            if part == Component::CurDir {
                continue;
            }
            return Err(Fault::invalid(format!("the sub-path {sub} leaves the volume")));
        };
        let follow = || openat(&there, name, path_only | OFlag::O_NOFOLLOW, Mode::empty());
        let next = match follow() {
            Err(Errno::ENOENT) => {
                mkdirat(&there, name, Mode::S_IRWXU).map_err(failed)?;
                let made = follow().map_err(failed)?;
                if is(&made, SFlag::S_IFDIR).map_err(failed)? {
                    fs::set_permissions(through(&made), fs::Permissions::from_mode(0o777)).map_err(file)?;
                }
                made
            }
            other => other.map_err(failed)?,
        };
        if is(&next, SFlag::S_IFLNK).map_err(failed)? {
            return Err(Fault::invalid(format!("the sub-path {sub} leads through a symbolic link")));
        }
        there = next;
    }
    release(at).map_err(file)?;
    if let Some(parent) = at.parent() {
        fs::create_dir_all(parent).map_err(file)?;
    }
    if is(&there, SFlag::S_IFDIR).map_err(failed)? {
        fs::create_dir_all(at).map_err(file)?;
    } else {
        fs::write(at, "").map_err(file)?;
    }
    mount(Some(&through(&there)), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed)?;
    Ok(at.to_path_buf())
}

fn is(fd: &OwnedFd, kind: SFlag) -> Result<bool, Errno> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT == kind)
}

/// What is open, whatever its name leads to by now.
fn through(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Makes a folder one in memory, of so many bytes; 0: what the kernel thinks good.
pub fn memory(at: &Path, size: u64) -> Result<(), Fault> {
    let options = if size > 0 { format!("mode=1777,size={size}") } else { "mode=1777".to_owned() };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|e| Fault::Unavailable(format!("mounting memory at {}: {e}", at.display())))
}

/// Whether something is mounted right there.
pub fn is_mounted(at: &Path) -> bool {
    let Ok(at) = fs::canonicalize(at) else { return false };
    mounts().is_ok_and(|all| all.contains(&at))
}

/// Every mount point of this process.
fn mounts() -> std::io::Result<Vec<PathBuf>> {
    let all = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(all.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| unescaped(point).into()).collect())
}

/// Undoes every mount at or below a path.
pub fn release(path: &Path) -> std::io::Result<()> {
    // As the kernel knows it; where nothing is, nothing is mounted.
    let Ok(path) = fs::canonicalize(path) else { return Ok(()) };
    let mut below: Vec<PathBuf> = mounts()?.into_iter().filter(|point| point.starts_with(&path)).collect();
    below.sort();
    for point in below.iter().rev() {
        umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

/// The kernel writes blanks and backslashes of paths as octal numbers.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_inside() {
        let root = tempfile::tempdir().expect("a folder");
        let (volume, at) = (root.path().join("volume"), root.path().join("parts/0"));
        fs::create_dir(&volume).expect("a volume");
        std::os::unix::fs::symlink("/etc", volume.join("out")).expect("a link");
        assert!(matches!(hold(&volume, "out/passwd", &at), Err(Fault::Invalid(_))));
        assert!(matches!(hold(&volume, "a/../../b", &at), Err(Fault::Invalid(_))));
        match hold(&volume, "a/b", &at) {
            Ok(held) => {
                fs::write(volume.join("a/b/file"), "x").expect("written");
                assert_eq!(fs::read_to_string(held.join("file")).expect("read"), "x");
                // Whatever the name leads to later, the same part is held.
                fs::remove_dir_all(volume.join("a")).expect("removed");
                std::os::unix::fs::symlink("/etc", volume.join("a")).expect("a link");
                assert!(!at.join("passwd").exists());
            }
            // Mounting takes rights that not every machine gives.
            Err(why) => assert!(why.to_string().contains("EPERM"), "{why}"),
        }
        release(root.path()).expect("released");
        assert!(fs::read_dir(&at).map_or(true, |mut left| left.next().is_none()), "it is still mounted");
    }
}
