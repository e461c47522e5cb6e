//! Content-addressed bytes of VM images and OCI images: files named by their SHA-256. One store for both, so that a layer
//! or a disk that two records name lies on the disk once. Which blobs are still needed is known by the rows alone;
//! [`Blobs::sweep`] removes the rest.
//!
//! A blob is either whole and durable under its name or not there: bytes go to a file of another name first. They are refused
//! before the disk is short ([`room`]).

pub mod room;

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512};

/// What could not be done with a blob.
#[derive(Debug, thiserror::Error)]
pub enum BlobFault {
    /// The disk said no; the text says at what.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// More bytes than the caller allowed.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// The disk would be short of room.
    #[error("the disk of {dir} has {free} bytes left, which are kept for what runs already")]
    Short { dir: String, free: u64 },
}

fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> BlobFault {
    let what = what.into();
    move |source| BlobFault::Io { what, source }
}

/// What is known of bytes that were written: sizes in bytes, hashes in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The blob's name.
    pub sha256: String,
    pub sha512: String,
    pub md5: String,
    pub size: u64,
}

/// A handle to the blob store; clones are the same store.
#[derive(Clone, Debug)]
pub struct Blobs {
    dir: PathBuf,
    serial: Arc<AtomicU64>,
    /// Bytes that are kept free beside what the measure says.
    kept: u64,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The name of a blob that is in memory.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-512 of bytes that are in memory, in hex.
pub fn sha512(bytes: &[u8]) -> String {
    hex(&Sha512::digest(bytes))
}

/// Half-written files older than this belong to nobody any more, and what was put aside is not missed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// The row that needs a blob younger than this may be about to be written.
const YOUNG: Duration = Duration::from_secs(3600);
/// The same of a blob that rows have needed, and need no more: whoever brought the same bytes again writes the row at once, and
/// nobody pays for these meanwhile. Removing them with the row was refused: that again would be a race.
const YOUNG_AND_DELETED: Duration = Duration::from_secs(300);
/// Bytes between two looks at the disk.
const BETWEEN_LOOKS: u64 = 1 << 20;
/// The folder of what was put aside.
const ASIDE: &str = "trash";

impl Blobs {
    /// A store in a folder, which is made when something is first written.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), serial: Arc::default(), kept: 0 }
    }

    /// The same store, which leaves so many more bytes of its disk free.
    pub fn keeping(self, kept: u64) -> Self {
        Self { kept, ..self }
    }

    /// Whether so many bytes can be taken without making the disk short.
    pub fn admit(&self, bytes: u64) -> Result<(), BlobFault> {
        // Before anything was written, the folder is still to be made in the one above. Whatever cannot be looked at will
        // say what is wrong when it is written to.
        let Some(Ok(room)) = self.dir.ancestors().find(|dir| dir.exists()).map(room::room) else { return Ok(()) };
        let files = room.inodes.is_none_or(|inodes| inodes.takes(1));
        match files && room.disk.takes(bytes.saturating_add(self.kept)) {
            true => Ok(()),
            false => Err(BlobFault::Short { dir: self.dir.display().to_string(), free: room.disk.available }),
        }
    }

    /// Where the bytes with this SHA-256 (in hex) lie, if they are there. A name that is not such a hash leads nowhere.
    pub fn path(&self, sha256: &str) -> PathBuf {
        let valid = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
        self.dir.join("sha256").join(if valid { sha256 } else { "none" })
    }

    /// The size of a blob, if it is there.
    pub fn size(&self, sha256: &str) -> Option<u64> {
        std::fs::metadata(self.path(sha256)).ok().filter(|m| m.is_file()).map(|m| m.len())
    }

    /// The size of a blob, if it is there, that a row is about to need: a sweep spares it for an hour.
    pub fn claim(&self, sha256: &str) -> Option<u64> {
        let size = self.size(sha256)?;
        let file = std::fs::File::options().append(true).open(self.path(sha256)).ok()?;
        file.set_modified(SystemTime::now()).ok().map(|()| size)
    }

    /// The whole of a small blob.
    pub fn read(&self, sha256: &str, limit: u64) -> Result<Vec<u8>, BlobFault> {
        let path = self.path(sha256);
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).map_err(io(format!("opening blob {sha256}")))?;
        file.take(limit + 1).read_to_end(&mut bytes).map_err(io(format!("reading blob {sha256}")))?;
        if bytes.len() as u64 > limit { Err(BlobFault::TooLarge(limit)) } else { Ok(bytes) }
    }

    /// Begins to write a blob of at most `limit` bytes.
    pub fn writer(&self, limit: u64) -> Result<Writer, BlobFault> {
        let parts = self.dir.join("parts");
        std::fs::create_dir_all(&parts).map_err(io(format!("making {}", parts.display())))?;
        std::fs::create_dir_all(self.dir.join("sha256")).map_err(io("making the blobs' folder"))?;
        self.admit(0)?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let path = parts.join(format!("{}-{serial}", std::process::id()));
        let file = std::fs::File::create(&path).map_err(io(format!("making {}", path.display())))?;
        Ok(Writer {
            blobs: self.clone(),
            path,
            file: Some(file),
            sha256: Sha256::new(),
            sha512: Sha512::new(),
            md5: Md5::new(),
            size: 0,
            looked: 0,
            limit,
        })
    }

    /// Writes a blob that is in memory.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, BlobFault> {
        let mut writer = self.writer(bytes.len() as u64)?;
        writer.write(bytes)?;
        writer.finish()
    }

    /// Copies a file into the store.
    pub fn import(&self, from: &Path) -> Result<Digest, BlobFault> {
        let what = || format!("reading {}", from.display());
        let mut file = std::fs::File::open(from).map_err(io(what()))?;
        let mut writer = self.writer(u64::MAX)?;
        let mut buffer = vec![0u8; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(io(what()))? {
                0 => return writer.finish(),
                n => writer.write(&buffer[..n])?,
            }
        }
    }

    /// Removes blobs that are not needed, and parts that nobody finished; how many blobs were removed and put aside. A blob
    /// younger than an hour stays, and one that rows have needed for five minutes: the row that needs it may be about to be
    /// written. One of which is not known whether anybody ever needed it is put aside, and comes back when it is needed.
    pub fn sweep(&self, sweep: &Sweep) -> Result<(usize, usize), BlobFault> {
        let (mut removed, mut aside) = (0, 0);
        for name in &sweep.needed {
            if self.size(name).is_none() && self.put_aside(name).is_some() {
                std::fs::rename(self.aside(name), self.path(name)).map_err(io(format!("taking back blob {name}")))?;
            }
        }
        for (path, name, modified) in self.files("sha256") {
            let known = sweep.known.contains(&name);
            let young = if known { YOUNG_AND_DELETED } else { YOUNG };
            if sweep.needed.contains(&name) || modified.elapsed().unwrap_or_default() < young {
                continue;
            }
            if known || modified >= sweep.begin {
                std::fs::remove_file(&path).map_err(io(format!("removing {}", path.display())))?;
                removed += 1;
            } else {
                // Its age counts from now on.
                let _ = self.claim(&name);
                std::fs::create_dir_all(self.dir.join(ASIDE)).map_err(io("making the blobs' trash"))?;
                std::fs::rename(&path, self.aside(&name)).map_err(io(format!("putting blob {name} aside")))?;
                aside += 1;
            }
        }
        for (path, _, modified) in self.files(ASIDE).into_iter().chain(self.files("parts")) {
            if modified.elapsed().unwrap_or_default() > ABANDONED {
                std::fs::remove_file(&path).map_err(io(format!("removing {}", path.display())))?;
            }
        }
        Ok((removed, aside))
    }

    /// The size of a blob that was put aside.
    pub fn put_aside(&self, sha256: &str) -> Option<u64> {
        std::fs::metadata(self.aside(sha256)).ok().map(|m| m.len())
    }

    fn aside(&self, name: &str) -> PathBuf {
        self.dir.join(ASIDE).join(name)
    }

    /// The files of a folder with their names and when they were last written.
    fn files(&self, folder: &str) -> Vec<(PathBuf, String, SystemTime)> {
        let entries = std::fs::read_dir(self.dir.join(folder)).into_iter().flatten().flatten();
        let known = |entry: std::fs::DirEntry| {
            let modified = entry.metadata().and_then(|m| m.modified()).ok()?;
            Some((entry.path(), entry.file_name().to_string_lossy().into_owned(), modified))
        };
        entries.filter_map(known).collect()
    }
}

/// What a sweep goes by.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Names of blobs that rows need.
    pub needed: HashSet<String>,
    /// Of those that were needed, as whoever sweeps has seen: when they are not any more, their rows were deleted.
    pub known: HashSet<String>,
    /// When whoever sweeps began. What was written since is of the same store.
    pub begin: SystemTime,
}

impl Sweep {
    /// One by which nothing is needed.
    pub fn new(begin: SystemTime) -> Self {
        Self { needed: HashSet::new(), known: HashSet::new(), begin }
    }
}

/// A blob being written. Dropped without [`Writer::finish`], it leaves nothing.
pub struct Writer {
    blobs: Blobs,
    path: PathBuf,
    file: Option<std::fs::File>,
    sha256: Sha256,
    sha512: Sha512,
    md5: Md5,
    size: u64,
    /// The size at which the disk was last looked at.
    looked: u64,
    limit: u64,
}

impl Writer {
    /// Adds bytes. Blocks for the disk; call it where that is allowed.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobFault> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(BlobFault::TooLarge(self.limit));
        }
        if self.size - self.looked >= BETWEEN_LOOKS {
            self.blobs.admit(bytes.len() as u64)?;
            self.looked = self.size;
        }
        self.sha256.update(bytes);
        self.sha512.update(bytes);
        self.md5.update(bytes);
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(io("writing a blob")),
            None => Ok(()),
        }
    }

    /// How many bytes were written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The SHA-256 of what was written, which would be the blob's name.
    pub fn sha256(&self) -> String {
        hex(&self.sha256.clone().finalize())
    }

    /// The SHA-512 of what was written.
    pub fn sha512(&self) -> String {
        hex(&self.sha512.clone().finalize())
    }

    /// Makes the blob durable under its name.
    pub fn finish(mut self) -> Result<Digest, BlobFault> {
        let digest = Digest {
            sha256: hex(&self.sha256.clone().finalize()),
            sha512: hex(&self.sha512.clone().finalize()),
            md5: hex(&self.md5.clone().finalize()),
            size: self.size,
        };
        if let Some(file) = self.file.take() {
            file.sync_all().map_err(io("writing a blob"))?;
        }
        let path = self.blobs.path(&digest.sha256);
        std::fs::rename(&self.path, &path).map_err(io(format!("naming blob {}", digest.sha256)))?;
        let folder = std::fs::File::open(self.blobs.dir.join("sha256")).map_err(io("opening the blobs' folder"))?;
        folder.sync_all().map_err(io("writing the blobs' folder"))?;
        Ok(digest)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Renamed already after a finish.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_under_their_hash() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path());
        let digest = blobs.put(b"hello").unwrap();
        assert_eq!(digest.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!(digest.md5, "5d41402abc4b2a76b9719d911017c592");
        assert_eq!(blobs.read(&digest.sha256, 100).unwrap(), b"hello");
        assert_eq!(blobs.size(&digest.sha256), Some(5));
        assert!(matches!(blobs.read(&digest.sha256, 4), Err(BlobFault::TooLarge(4))));
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path());
        let mut writer = blobs.writer(3).unwrap();
        assert!(matches!(writer.write(b"four"), Err(BlobFault::TooLarge(3))));
        drop(writer);
        assert_eq!(std::fs::read_dir(dir.path().join("parts")).unwrap().count(), 0);
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        let blobs = Blobs::new("/blobs");
        assert_eq!(blobs.path("../../etc/passwd"), Path::new("/blobs/sha256/none"));
    }

    #[test]
    fn a_sweep_spares_what_is_young() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path());
        let digest = blobs.put(b"young").unwrap();
        assert_eq!(blobs.sweep(&Sweep::new(SystemTime::now())).unwrap(), (0, 0));
        assert!(blobs.size(&digest.sha256).is_some());
    }

    #[test]
    fn what_was_deleted_goes_soon() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path());
        let [deleted, coming, just_deleted] =
            [(&b"deleted"[..], 6), (b"coming", 6), (b"just", 4)].map(|(text, minutes)| {
                let name = blobs.put(text).unwrap().sha256;
                let then = SystemTime::now() - Duration::from_secs(60 * minutes);
                std::fs::File::options().append(true).open(blobs.path(&name)).unwrap().set_modified(then).unwrap();
                name
            });
        let bytes = || [&deleted, &coming, &just_deleted].iter().filter_map(|name| blobs.size(name)).sum::<u64>();
        assert_eq!(bytes(), 17);
        let known = [deleted.clone(), just_deleted.clone()].into();
        assert_eq!(blobs.sweep(&Sweep { known, ..Sweep::new(SystemTime::now()) }).unwrap(), (1, 0));
        assert_eq!((bytes(), blobs.size(&deleted)), (10, None), "of what rows may be about to need, all is there");
    }

    #[test]
    fn bytes_are_refused_before_the_disk_is_short() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path().join("not").join("made"));
        let free = room::room(dir.path()).unwrap().disk.available;
        assert!(matches!(blobs.clone().keeping(free).writer(1), Err(BlobFault::Short { .. })));
        assert!(matches!(blobs.admit(free), Err(BlobFault::Short { .. })));
        // While it is being written, too.
        let mut writer = blobs.writer(1 << 30).unwrap();
        writer.blobs.kept = free;
        writer.write(&[0; 1000]).unwrap();
        assert!(matches!(writer.write(&vec![0; 1 << 20]), Err(BlobFault::Short { .. })));
    }

    #[test]
    fn what_may_be_of_another_store_is_put_aside_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path());
        let hours = |n: u64| SystemTime::now() - Duration::from_secs(n * 3600);
        let [deleted, unknown, written_since] =
            [(&b"deleted"[..], 5), (b"unknown", 5), (b"since", 2)].map(|(text, age)| {
                let name = blobs.put(text).unwrap().sha256;
                std::fs::File::options()
                    .append(true)
                    .open(blobs.path(&name))
                    .unwrap()
                    .set_modified(hours(age))
                    .unwrap();
                name
            });
        let sweep = Sweep { known: [deleted.clone()].into(), ..Sweep::new(hours(3)) };
        assert_eq!(blobs.sweep(&sweep).unwrap(), (2, 1));
        assert_eq!(blobs.put_aside(&unknown), Some(7));
        assert!([&deleted, &unknown, &written_since].iter().all(|name| blobs.size(name).is_none()));
        let sweep = Sweep { needed: [unknown.clone()].into(), ..sweep };
        assert_eq!(blobs.sweep(&sweep).unwrap(), (0, 0));
        assert_eq!((blobs.size(&unknown), blobs.put_aside(&unknown)), (Some(7), None));
    }
}
