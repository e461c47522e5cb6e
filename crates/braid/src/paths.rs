//! The folder of a cloud: the one place that knows what lies where.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::Problem;

/// Who a command logs in as: one of the users of the first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A member of the project demo, as its everyday users are.
    Member,
    /// The cloud's administrator.
    Admin,
}

impl Who {
    pub fn user(self) -> &'static str {
        match self {
            Self::Member => "demo",
            Self::Admin => "admin",
        }
    }
}

/// The folder of a cloud.
#[derive(Clone, Debug)]
pub struct Dir(PathBuf);

impl Dir {
    /// The folder, made if it does not exist, with mode 0700 whoever made it: every tenant's disks and secrets are in it. A
    /// folder that others use too is refused, since they would be locked out.
    pub fn create(path: &Path) -> Result<Self, Problem> {
        fits(path)?;
        let make = || std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        make().map_err(Problem::io(format!("making {}", path.display())))?;
        let dir = Self::open(path)?;
        let what = || format!("closing {} to others", path.display());
        let about = std::fs::metadata(&dir.0).map_err(Problem::io(what()))?;
        if about.mode() & 0o7777 == 0o700 {
            return Ok(dir);
        }
        if let Some(other) = dir.stranger().map_err(Problem::io(format!("reading {}", path.display())))? {
            return Err(Problem::words(format!(
                "{} is not a cloud's folder, it has {other}; give the cloud one of its own: --dir {}",
                path.display(),
                path.join("braid").display()
            )));
        }
        std::fs::set_permissions(&dir.0, std::fs::Permissions::from_mode(0o700)).map_err(Problem::io(what()))?;
        Ok(dir)
    }

    /// A folder in the folder, if no cloud was ever in it. A new file system has one of its own, and a file may have been
    /// put there for the cloud.
    fn stranger(&self) -> std::io::Result<Option<String>> {
        if self.pid().exists() {
            return Ok(None);
        }
        let folders = std::fs::read_dir(&self.0)?.flatten().filter(|entry| entry.path().is_dir());
        let mut names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(names.find(|name| name != "lost+found"))
    }

    /// Refuses a folder in which no cloud ever was: a mistyped `--dir` of a purge would remove what is somebody's.
    pub fn must_be_a_clouds(&self) -> Result<(), Problem> {
        if self.pid().is_file() {
            return Ok(());
        }
        let (path, pid) = (self.0.display(), self.pid());
        Err(Problem::words(format!(
            "{path} is not a cloud's folder, there is no {}: nothing is removed",
            pid.display()
        )))
    }

    /// Removes the folder. What marks it as a cloud's goes last, so that what was interrupted can be done again.
    pub fn remove(&self) -> Result<(), Problem> {
        let all = || -> std::io::Result<()> {
            for entry in std::fs::read_dir(&self.0)?.flatten().filter(|entry| entry.path() != self.pid()) {
                match entry.file_type()?.is_dir() {
                    true => std::fs::remove_dir_all(entry.path())?,
                    false => std::fs::remove_file(entry.path())?,
                }
            }
            std::fs::remove_dir_all(&self.0)
        };
        all().map_err(Problem::io(format!("removing {}", self.0.display())))
    }

    /// The folder, which must exist.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let full = std::fs::canonicalize(path).map_err(Problem::io(format!(
            "there is no cloud in {} (start one with `braid up --dir {}`)",
            path.display(),
            path.display()
        )))?;
        Ok(Self(full))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.join("store.db")
    }
    pub fn ca(&self) -> PathBuf {
        self.join("ca.pem")
    }
    pub fn ca_key(&self) -> PathBuf {
        self.join("ca.key")
    }
    pub fn certificate(&self) -> PathBuf {
        self.join("server.pem")
    }
    pub fn key(&self) -> PathBuf {
        self.join("server.key")
    }
    /// The password of one of the first users.
    pub fn password(&self, who: Who) -> PathBuf {
        self.join(&format!("{}-password", who.user()))
    }
    /// The password, where this folder is the one whose process made the cloud.
    pub fn read_password(&self, who: Who) -> Result<String, Problem> {
        let file = self.password(who);
        if file.exists() || !self.access().exists() {
            return Ok(read_text(&file)?.trim().to_owned());
        }
        let file = file.display();
        Err(Problem::words(match who {
            Who::Member if self.password(Who::Admin).exists() => format!(
                "there is no {file}: an older braid made this cloud. Log in with --admin, give the user demo a password \
                 (openstack user set --password-prompt demo) and write it to that file"
            ),
            _ => format!(
                "this process joined a cloud that another one made: set OS_USERNAME and OS_PASSWORD, or copy the other \
                 folder's password to {file}"
            ),
        }))
    }
    /// kubectl's configuration, by which one of the first users logs in.
    pub fn kubeconfig(&self, who: Who) -> PathBuf {
        self.join(match who {
            Who::Member => "kubeconfig",
            Who::Admin => "kubeconfig-admin",
        })
    }
    /// How to reach the cloud, for the other commands.
    pub fn access(&self) -> PathBuf {
        self.join("access.json")
    }
    /// The token that `braid token` keeps for kubectl.
    pub fn token_cache(&self, who: Who) -> PathBuf {
        self.join(&format!("token-cache-{}.json", who.user()))
    }
    pub fn log(&self) -> PathBuf {
        self.join("braid.log")
    }
    /// The process that holds the cloud, by an exclusive lock on this file.
    pub fn pid(&self) -> PathBuf {
        self.join("braid.pid")
    }
    /// Where the commands ask the running process.
    pub fn control(&self) -> PathBuf {
        self.join("control.sock")
    }
    /// Where this host serves logs, consoles and commands.
    pub fn host_socket(&self) -> PathBuf {
        self.join("host.sock")
    }
    /// Where the CNI plugin asks for a pod's port.
    pub fn cni_socket(&self) -> PathBuf {
        self.join("cni.sock")
    }

    /// Begins the names of everything that must be unique on the machine and is outside the folder: namespaces,
    /// bridges, nft tables. Made from the folder's path, so that a purge finds it without a running process.
    pub fn prefix(&self) -> String {
        let id = model::derived_id(&["dir", &self.0.to_string_lossy()]);
        format!("b{}-", &id[..4])
    }
}

/// The longest path of a folder, in bytes: the container driver gives containerd's socket in it a path of so many.
const LONGEST: usize = 98 - "/cri/containerd.sock".len();

/// Refuses a path that something in the cloud could not take: pods would wait for ever in a cloud that says that it is up.
fn fits(path: &Path) -> Result<(), Problem> {
    let full = std::path::absolute(path).map_err(Problem::io(format!("looking for {}", path.display())))?;
    if full.join("braid.pid").exists() {
        return Ok(());
    }
    let why = match full.to_str() {
        None => "it is not UTF-8".to_owned(),
        Some(text) if text.contains(',') => "runc takes no path with a comma".to_owned(),
        Some(text) if text.len() > LONGEST => format!("sockets in it need one of at most {LONGEST} bytes"),
        Some(_) => return Ok(()),
    };
    Err(Problem::words(format!("a cloud cannot live in {}: {why}; choose another folder with --dir", full.display())))
}

/// Writes a file that only its owner can read, at once or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), Problem> {
    let part = path.with_extension("part");
    let write = || -> std::io::Result<()> {
        let _ = std::fs::remove_file(&part);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().map_err(Problem::io(format!("writing {}", path.display())))
}

/// Reads a text file of the cloud's folder.
pub fn read_text(path: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(path).map_err(Problem::io(format!("reading {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_clouds_folder_is_closed_to_others_whoever_made_it() {
        let root = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let path = root.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let fresh = made("fresh");
        std::fs::create_dir(fresh.join("lost+found")).unwrap();
        Dir::create(&fresh).unwrap();
        assert_eq!(mode(&fresh), 0o700);
        let old = made("old");
        std::fs::write(old.join("braid.pid"), "1").unwrap();
        std::fs::write(old.join("store.db"), "").unwrap();
        Dir::create(&old).unwrap();
        assert_eq!(mode(&old), 0o700);
        let others = made("others");
        std::fs::create_dir(others.join("precious")).unwrap();
        let why = Dir::create(&others).unwrap_err().to_string();
        assert!(why.contains("precious"), "{why}");
        assert_eq!(mode(&others), 0o755);
        let new = root.path().join("a/b");
        Dir::create(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
    }

    #[test]
    fn paths_that_pods_could_not_be_in_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let long = "l".repeat(LONGEST - root.path().as_os_str().len());
        for (name, words) in [("a,b", "a comma"), (long.as_str(), "at most 78 bytes")] {
            let why = Dir::create(&root.path().join(name)).unwrap_err().to_string();
            assert!(why.contains(words), "{why}");
            assert!(!root.path().join(name).exists());
        }
        Dir::create(&root.path().join(&long[1..])).unwrap();
        Dir::create(&root.path().join("a b=c")).unwrap();
    }

    #[test]
    fn only_a_clouds_folder_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::create(&root.path().join("some")).unwrap();
        std::fs::create_dir(dir.join("precious")).unwrap();
        let why = dir.must_be_a_clouds().unwrap_err().to_string();
        assert!(why.contains("braid.pid: nothing is removed"), "{why}");
        for name in ["braid.pid", "store.db", "precious/disk"] {
            std::fs::write(dir.join(name), "1").unwrap();
        }
        dir.must_be_a_clouds().unwrap();
        dir.remove().unwrap();
        assert!(!dir.path().exists());
    }
}
