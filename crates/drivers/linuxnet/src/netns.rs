//! Named network namespaces, compatible with `ip netns`: a namespace is a file below `/var/run/netns` that is mounted.
//!
//! Nothing here calls `ip netns exec`: it remounts /sys. Work in a namespace is done by a fresh thread that enters it and
//! ends, so that no thread of the runtime is ever in a wrong namespace.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, fstatfs};

const FOLDER: &str = "/var/run/netns";
/// The file system's magic number of namespaces.
const NSFS: FsType = FsType(0x6e73_6673);

/// Where the namespace of that name is mounted.
pub fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// A namespace that is kept open.
#[derive(Debug)]
pub struct Netns {
    file: File,
    /// Tells one namespace from another that later has the same name.
    pub inode: u64,
}

impl Netns {
    /// Opens a namespace by its path; fails if the file is not one.
    pub fn open(path: &Path) -> io::Result<Netns> {
        let file = File::open(path)?;
        if fstatfs(&file)?.filesystem_type() != NSFS && !path.starts_with("/proc") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is not a namespace", path.display())));
        }
        let inode = file.metadata()?.ino();
        Ok(Netns { file, inode })
    }

    /// The namespace in which this process runs.
    pub fn own() -> io::Result<Netns> {
        Netns::open(Path::new("/proc/self/ns/net"))
    }

    /// A file descriptor of it, for netlink.
    pub fn fd(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Runs a piece of work in the namespace, on a thread of its own. Children that it starts are in the namespace, too.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let file = self.file.try_clone()?;
        on_thread(move || {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            work()
        })
        .await
    }
}

impl netserve::Namespace for Netns {
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        Netns::run(self, work).await
    }
}

async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new().name("netns".into()).spawn(move || {
        let _entered = runtime.enter();
        let _ = answer.send(work());
    })?;
    answered.await.map_err(|_| io::Error::other("the thread in the namespace ended without an answer"))?
}

/// Opens the namespace of that name, making it if there is none. True: it was made just now.
pub async fn ensure(name: &str) -> io::Result<(Netns, bool)> {
    let path = path(name);
    match Netns::open(&path) {
        Ok(netns) => return Ok((netns, false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // A file without a mount: its maker died in between.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => fs::remove_file(&path)?,
        Err(error) => return Err(error),
    }
    share_folder()?;
    File::create_new(&path)?;
    let target = path.clone();
    let made = on_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    })
    .await;
    if let Err(error) = made {
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok((Netns::open(&path)?, true))
}

/// What `ip netns add` does: mounts made here reach the other mount namespaces and go away there, too.
fn share_folder() -> io::Result<()> {
    fs::create_dir_all(FOLDER)?;
    let share = || mount(None::<&str>, FOLDER, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share().is_err() {
        mount(Some(FOLDER), FOLDER, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        share()?;
    }
    Ok(())
}

/// Takes back what was done to the folder, once nobody has a namespace there; it is made again when it is needed.
pub fn release_folder() -> io::Result<()> {
    if !list("")?.is_empty() {
        return Ok(());
    }
    match umount2(FOLDER, MntFlags::empty()) {
        // It is no mount, or somebody has just made a namespace there.
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT | nix::errno::Errno::EBUSY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The names of all namespaces that begin so.
pub fn list(prefix: &str) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(FOLDER) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    Ok(names)
}

/// Takes the name away; the namespace ends with its last user.
pub fn remove(name: &str) -> io::Result<()> {
    let path = path(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
