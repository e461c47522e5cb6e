//! What nobody wants any more is stopped and put aside in the host's folder, each thing with a note of what it was, and is
//! destroyed only after a time, or when room is short, the oldest first. What a row says shall be deleted never comes here.
//!
//! ```text
//! trash/1795860000-vm-<id>/about.json     what it was, when and by which cloud it was put aside
//!                          content/       all of it
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use model::Time;
use serde::{Deserialize, Serialize};

/// The disk is short of room when less of it is free, in per cent.
const SHORT_PERCENT: u64 = 5;

const ABOUT: &str = "about.json";

/// A sort of thing that is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    Vm,
    /// Of a pod there are its volumes; what its containers wrote elsewhere ends with them.
    Pod,
}

impl std::fmt::Display for Sort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Vm => "vm",
            Self::Pod => "pod",
        })
    }
}

/// What a thing was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub sort: Sort,
    /// The VM's id or the pod's uid.
    pub id: String,
    /// The cloud that did not want it.
    pub cloud: String,
    pub since: Time,
    /// A person was asked and agreed.
    pub confirmed: bool,
}

/// A thing that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its folder's name.
    pub name: String,
    pub about: About,
    dir: PathBuf,
}

impl Entry {
    /// Where all of it is.
    pub fn content(&self) -> PathBuf {
        self.dir.join("content")
    }

    /// Bytes that it takes on the disk.
    pub fn size(&self) -> u64 {
        size(&self.content())
    }

    /// Takes its place away, in which nothing was laid.
    pub fn withdraw(&self) -> io::Result<()> {
        if self.content().exists() {
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, format!("{} is not empty", self.name)));
        }
        gone(fs::remove_file(self.dir.join(ABOUT)))?;
        gone(fs::remove_dir(&self.dir))
    }

    /// Destroys it for good.
    pub fn destroy(&self) -> io::Result<()> {
        gone(fs::remove_dir_all(&self.dir))
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(about) = fs::symlink_metadata(path) else { return 0 };
    let inside = || fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum();
    about.blocks() * 512 + if about.is_dir() { inside() } else { 0 }
}

/// The trash of a host's folder.
pub struct Trash(PathBuf);

impl Trash {
    pub fn of(host: &Path) -> Self {
        Self(host.join("trash"))
    }

    /// Makes the place for a thing that is about to be put aside: its content goes to [`Entry::content`], which does not
    /// exist yet. What was put aside in the same second keeps its own place.
    pub fn make(&self, about: &About) -> io::Result<Entry> {
        fs::create_dir_all(&self.0)?;
        let plain = format!("{}-{}-{}", about.since.as_second(), about.sort, about.id);
        let names = std::iter::once(plain.clone()).chain((2..100).map(|n| format!("{plain}-{n}")));
        let mut places = names.map(|name| Entry { dir: self.0.join(&name), name, about: about.clone() });
        let is_free = |entry: &Entry| match fs::create_dir(&entry.dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => None,
            other => Some(other),
        };
        let entry = places.find_map(|entry| Some(is_free(&entry)?.map(|()| entry)));
        let entry = entry.unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::AlreadyExists, plain)))?;
        fs::write(entry.dir.join(ABOUT), serde_json::to_vec(about)?)?;
        Ok(entry)
    }

    /// All that was put aside, the oldest first.
    pub fn list(&self) -> Vec<Entry> {
        let read = |entry: fs::DirEntry| {
            let about = serde_json::from_slice(&fs::read(entry.path().join(ABOUT)).ok()?).ok()?;
            Some(Entry { name: entry.file_name().into_string().ok()?, about, dir: entry.path() })
        };
        let mut all: Vec<Entry> = fs::read_dir(&self.0).into_iter().flatten().flatten().filter_map(read).collect();
        all.sort_by(|a, b| (a.about.since, &a.name).cmp(&(b.about.since, &b.name)));
        all
    }

    /// The newest thing of this name or id.
    pub fn find(&self, name: &str) -> Option<Entry> {
        self.list().into_iter().rfind(|entry| entry.name == name || entry.about.id == name)
    }

    /// Destroys what is old, and the oldest while room is short; their names.
    pub fn tidy(&self, now: Time, keep: SignedDuration, short: impl Fn() -> bool) -> io::Result<Vec<String>> {
        let mut destroyed = Vec::new();
        for entry in self.list() {
            if now.duration_since(entry.about.since) < keep && !short() {
                break;
            }
            entry.destroy()?;
            destroyed.push(entry.name);
        }
        Ok(destroyed)
    }

    /// Whether the disk is short of room.
    pub fn is_short(&self) -> bool {
        let Ok(fs) = nix::sys::statvfs::statvfs(&self.0) else { return false };
        fs.blocks_available().saturating_mul(100) < fs.blocks().saturating_mul(SHORT_PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time::from_second(1_800_000_000 + second).unwrap()
    }

    fn about(id: &str, second: i64) -> About {
        About { sort: Sort::Vm, id: id.into(), cloud: "c".into(), since: at(second), confirmed: false }
    }

    #[test]
    fn a_place_that_stays_empty_takes_nothing_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let trash = Trash::of(dir.path());
        let first = trash.make(&about("a.1", 10)).unwrap();
        fs::create_dir(first.content()).unwrap();
        fs::write(first.content().join("root.raw"), "its disk").unwrap();
        // Found gone by whoever came second, in the same second.
        let second = trash.make(&about("a.1", 10)).unwrap();
        assert_ne!(first.name, second.name);
        second.withdraw().unwrap();
        assert_eq!(trash.list().as_slice(), std::slice::from_ref(&first));
        assert!(first.withdraw().is_err());
        assert_eq!(fs::read(first.content().join("root.raw")).unwrap(), b"its disk");
    }

    #[test]
    fn the_trash_is_emptied_by_age_and_for_room() {
        let dir = tempfile::tempdir().unwrap();
        let trash = Trash::of(dir.path());
        let hour = SignedDuration::from_hours(1);
        assert_eq!(trash.list(), []);
        for (id, second) in [("b.1", 20), ("a.1", 10), ("c.1", 30), ("a.1", 40)] {
            let entry = trash.make(&about(id, second)).unwrap();
            fs::create_dir(entry.content()).unwrap();
            fs::write(entry.content().join("root.raw"), vec![7; 9000]).unwrap();
            assert!(entry.size() >= 9000, "{}", entry.size());
        }
        let ids = |trash: &Trash| trash.list().into_iter().map(|e| e.about.id).collect::<Vec<_>>();
        assert_eq!(ids(&trash), ["a.1", "b.1", "c.1", "a.1"]);
        assert_eq!(trash.find("a.1").unwrap().about.since, at(40), "the newest of an id");
        assert_eq!(trash.tidy(at(3599), hour, || false).unwrap(), Vec::<String>::new());
        assert_eq!(trash.tidy(at(3610), hour, || false).unwrap(), ["1800000010-vm-a.1"]);
        // Until there is room again.
        let left = std::cell::Cell::new(2);
        let short = || left.replace(left.get() - 1) > 0;
        assert_eq!(trash.tidy(at(3611), hour, short).unwrap().len(), 2);
        assert_eq!(ids(&trash), ["a.1"]);
    }
}
