//! The disks of a VM, files in its directory.
//!
//! A disk with a base is a qcow2 overlay over it: made in a moment and small at first, where a copy takes the time and
//! the room of the whole image. The base gets a second name in the VM's directory (a hard link; a copy if it is on
//! another file system), so that nothing depends on how long the image cache keeps its own. A disk without a base is a
//! sparse raw file, and a read-only one is the base itself.
//!
//! Images come from users, so nothing is guessed from their content: formats are always named, and an image that names
//! further files (a backing or data file, by which a guest could read any file of the host) is refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use driver::{DriverFault, Result};
use model::wanted::Disk;
use tokio::process::Command;

use crate::user::{self, User};
use crate::{failed, iso, process};

/// For what moves no data.
const MOMENT: Duration = Duration::from_secs(60);

/// A disk that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub id: String,
    pub file: PathBuf,
    pub format: &'static str,
    /// The file that it lies over, and its format.
    pub base: Option<(PathBuf, String)>,
    pub read_only: bool,
}

/// Makes a disk unless it is there. `taken` is where the disks of the VM are that it takes over from.
pub async fn ensure(dir: &Path, disk: &Disk, taken: Option<&Path>) -> Result<Ready> {
    check_name(&disk.id, "a disk")?;
    let (overlay, raw, base) = files(dir, &disk.id);
    if let Some(from) = taken
        && !overlay.exists()
        && !raw.exists()
    {
        take(from, dir, &disk.id).map_err(|e| failed(format!("cannot take over disk {}", disk.id), e))?;
    }
    if overlay.exists() {
        grow_overlay(&overlay, disk).await?;
        return Ok(ready(disk, overlay, "qcow2", Some((base, disk.format.clone()))));
    }
    if raw.exists() {
        grow_raw(&raw, disk)?;
        return Ok(ready(disk, raw, "raw", None));
    }
    check_lost(disk)?;
    if let Some(from) = taken.filter(|from| !from.exists()) {
        let text = format!("the disk {} that this VM takes over is gone: there is no {}", disk.id, from.display());
        return Err(DriverFault::Refused(text));
    }
    match &disk.base {
        None => create_raw(&raw, disk)?,
        Some(from) if disk.read_only && disk.format == "raw" => {
            link_or_copy(from, &raw).await.map_err(|e| failed(format!("cannot copy {}", from.display()), e))?;
        }
        Some(from) => {
            let size = checked_size(from, disk)?;
            link_or_copy(from, &base).await.map_err(|e| failed(format!("cannot copy {}", from.display()), e))?;
            create_overlay(&overlay, &base, &disk.format, size).await?;
            return Ok(ready(disk, overlay, "qcow2", Some((base, disk.format.clone()))));
        }
    }
    Ok(ready(disk, raw, "raw", None))
}

/// The error of a disk that was made and is not there.
pub fn missing(dir: &Path, disk: &Disk) -> Result<()> {
    let (overlay, raw, _) = files(dir, &disk.id);
    if overlay.exists() || raw.exists() { Ok(()) } else { check_lost(disk) }
}

/// A new disk in the place of one that was lost would look as if nothing had happened.
fn check_lost(disk: &Disk) -> Result<()> {
    if !disk.made {
        return Ok(());
    }
    Err(DriverFault::Refused(format!("the disk {} was made and is not there any more", disk.id)))
}

/// Makes the config drive anew.
pub fn config_drive(dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<Ready> {
    let (new, file) = (dir.join("config.new"), dir.join("config.iso"));
    let write = || {
        // There may be a password in it.
        let mut out = user::fresh(&new)?;
        out.write_all(&iso::image("config-2", files))?;
        fs::rename(&new, &file)
    };
    write().map_err(|e| failed(format!("cannot make {}", file.display()), e))?;
    Ok(Ready { id: "config".to_owned(), file, format: "raw", base: None, read_only: true })
}

fn ready(disk: &Disk, file: PathBuf, format: &'static str, base: Option<(PathBuf, String)>) -> Ready {
    Ready { id: disk.id.clone(), file, format, base, read_only: disk.read_only }
}

/// A disk that exists: its file, format, and size as a guest sees it.
pub fn of(dir: &Path, id: &str) -> Result<(PathBuf, &'static str, u64)> {
    let (overlay, raw, _) = files(dir, id);
    let unreadable = |e| failed(format!("cannot read disk {id}"), e);
    match qcow2(&overlay) {
        Ok(Some(header)) => Ok((overlay, "qcow2", header.size)),
        Ok(None) => Err(DriverFault::Failed(format!("{} is damaged", overlay.display()))),
        Err(_) if raw.exists() => Ok((raw.clone(), "raw", fs::metadata(&raw).map_err(unreadable)?.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(DriverFault::NotReady(format!("there is no disk {id}"))),
        Err(e) => Err(unreadable(e)),
    }
}

/// The name of a disk's node in QEMU.
pub fn node(id: &str) -> String {
    format!("disk-{}", short(id))
}

/// Names of nodes have 31 characters at most, serials of virtio disks 20.
pub fn short(id: &str) -> &str {
    &id[..id.len().min(20)]
}

/// An empty qcow2 file to copy a disk to.
pub async fn create_empty(file: &Path, size: u64) -> Result<()> {
    let mut command = qemu_img(file)?;
    command.args(["create", "-q", "-f", "qcow2"]).arg(file).arg(size.to_string());
    run(command, "make a file for a copy", MOMENT).await
}

/// Copies a disk that nobody uses, with all that it lies over, to a file in the same directory. As the VM's user: what its
/// QEMU may have written there about where the rest is leads nowhere else.
pub async fn convert(from: &Path, format: &str, to: &Path, user: Option<User>, limit: Duration) -> Result<()> {
    let mut command = qemu_img(to)?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    command.args(["convert", "-q", "-f", format, "-O", "qcow2"]).arg(name(from)).arg(name(to));
    // In the directory first, whose parents are closed to the user.
    crate::detach::detach(command.as_std_mut(), Vec::new(), user);
    run(command, "copy a disk", limit).await
}

/// The names that a disk's files may have: overlay, raw, and the overlay's base.
fn files(dir: &Path, id: &str) -> (PathBuf, PathBuf, PathBuf) {
    let file = |ending: &str| dir.join(format!("{id}.{ending}"));
    (file("qcow2"), file("raw"), file("base"))
}

/// Whether a file of a VM's directory is (part of) a disk.
pub fn is_disk(file: &Path) -> bool {
    file.extension().is_some_and(|e| e == "qcow2" || e == "raw" || e == "base")
}

/// Ids become names of files.
pub fn check_name(id: &str, what: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !id.is_empty() && id.len() <= 128 && id.chars().all(good) && !id.starts_with('.') {
        return Ok(());
    }
    Err(DriverFault::Refused(format!("{id:?} cannot be the id of {what}: only letters, digits, '-', '_' and '.'")))
}

/// Removes a disk.
pub fn remove(dir: &Path, id: &str) -> Result<()> {
    let (overlay, raw, base) = files(dir, id);
    for file in [overlay, raw, base] {
        match fs::remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(failed(format!("cannot remove {}", file.display()), e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The overlay moves last: while it is missing, the take-over is not done.
fn take(from: &Path, dir: &Path, id: &str) -> io::Result<()> {
    let (overlay, raw, base) = files(from, id);
    for file in [base, raw, overlay] {
        if file.exists() {
            fs::rename(&file, dir.join(file.file_name().unwrap_or_default()))?;
        }
    }
    sync_dir(dir)
}

/// As large as wanted, or as the base; never smaller than that.
fn checked_size(base: &Path, disk: &Disk) -> Result<u64> {
    let unreadable = |e| failed(format!("cannot read the image {}", base.display()), e);
    let least = match disk.format.as_str() {
        "raw" => fs::metadata(base).map_err(unreadable)?.len(),
        "qcow2" => match qcow2(base).map_err(unreadable)? {
            None => return Err(DriverFault::Refused("the image is said to be qcow2 and is not".to_owned())),
            Some(Qcow2 { depends: true, .. }) => {
                return Err(DriverFault::Refused("the image depends on another file, which is not allowed".to_owned()));
            }
            Some(Qcow2 { size, .. }) => size,
        },
        other => {
            return Err(DriverFault::Refused(format!(
                "disks of format {other:?} are not supported, only raw and qcow2"
            )));
        }
    };
    match disk.size {
        0 => Ok(least),
        size if size < least => {
            Err(DriverFault::Refused(format!("the image needs a disk of {least} bytes, and {size} are allowed")))
        }
        size => Ok(size),
    }
}

/// What of a qcow2 file's header matters here.
#[derive(Debug, PartialEq, Eq)]
pub struct Qcow2 {
    /// The size that it shows to a guest.
    size: u64,
    /// It names a backing file or a data file.
    depends: bool,
}

/// None: it is not qcow2.
pub fn qcow2(file: &Path) -> io::Result<Option<Qcow2>> {
    let mut header = Vec::new();
    File::open(file)?.take(80).read_to_end(&mut header)?;
    let long_enough = header.len() >= 72;
    header.resize(80, 0);
    let word = |at: usize| header[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let version = word(4) >> 32;
    if !long_enough || &header[..4] != b"QFI\xfb" || !(2..=3).contains(&version) {
        return Ok(None);
    }
    // Of the features of version 3 that a reader must know, bit 2 is an external data file.
    Ok(Some(Qcow2 { size: word(24), depends: word(8) != 0 || (version == 3 && word(72) & 4 != 0) }))
}

pub async fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() || fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let (from, to) = (from.to_owned(), to.to_owned());
    let copy = move || {
        let new = to.with_extension("new");
        fs::copy(from, &new)?;
        File::open(&new)?.sync_all()?;
        fs::rename(new, to)
    };
    driver::on_a_thread(copy).await
}

async fn create_overlay(overlay: &Path, base: &Path, format: &str, size: u64) -> Result<()> {
    let new = overlay.with_extension("new");
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    let mut command = qemu_img(overlay)?;
    // The base is named relative to the overlay, so that both can move together.
    command
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
        .arg(name(base))
        .arg(name(&new))
        .arg(size.to_string());
    run(command, "make a disk", MOMENT).await?;
    let finish = || {
        File::open(&new)?.sync_all()?;
        fs::rename(&new, overlay)?;
        sync_dir(overlay.parent().unwrap_or(Path::new("/")))
    };
    finish().map_err(|e| failed(format!("cannot make {}", overlay.display()), e))
}

async fn grow_overlay(overlay: &Path, disk: &Disk) -> Result<()> {
    let header = qcow2(overlay).map_err(|e| failed(format!("cannot read {}", overlay.display()), e))?;
    let header = header.ok_or_else(|| DriverFault::Failed(format!("{} is damaged", overlay.display())))?;
    if disk.size <= header.size {
        return Ok(());
    }
    let mut command = qemu_img(overlay)?;
    command
        .args(["resize", "-q", "-f", "qcow2"])
        .arg(overlay.file_name().unwrap_or_default())
        .arg(disk.size.to_string());
    run(command, "enlarge a disk", MOMENT).await
}

fn create_raw(raw: &Path, disk: &Disk) -> Result<()> {
    if disk.size == 0 {
        return Err(DriverFault::Refused(format!("disk {} has neither a size nor an image", disk.id)));
    }
    let create = || {
        let new = raw.with_extension("new");
        let file = user::fresh(&new)?;
        file.set_len(disk.size)?;
        file.sync_all()?;
        fs::rename(new, raw)
    };
    create().map_err(|e| failed(format!("cannot make {}", raw.display()), e))
}

fn grow_raw(raw: &Path, disk: &Disk) -> Result<()> {
    let grow = || {
        let length = fs::metadata(raw)?.len();
        if disk.read_only || disk.size <= length {
            return Ok(());
        }
        File::options().write(true).open(raw)?.set_len(disk.size)
    };
    grow().map_err(|e| failed(format!("cannot enlarge {}", raw.display()), e))
}

fn qemu_img(file: &Path) -> Result<Command> {
    let missing = || DriverFault::Unavailable("qemu-img is not installed (Debian: qemu-utils)".to_owned());
    let mut command = Command::new(process::which("qemu-img").ok_or_else(missing)?);
    command.current_dir(file.parent().unwrap_or(Path::new("/"))).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

async fn run(mut command: Command, what: &str, limit: Duration) -> Result<()> {
    let output = tokio::time::timeout(limit, command.output()).await;
    let output = output.map_err(|_| DriverFault::Failed(format!("cannot {what}: qemu-img takes too long")))?;
    let output = output.map_err(|e| failed(format!("cannot {what}"), e))?;
    if output.status.success() {
        return Ok(());
    }
    Err(DriverFault::Failed(format!("cannot {what}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(base: Option<&Path>, format: &str, size: u64) -> Disk {
        Disk {
            id: "root".to_owned(),
            base: base.map(Path::to_owned),
            format: format.to_owned(),
            size,
            read_only: false,
            take_from: None,
            made: false,
        }
    }

    #[tokio::test]
    async fn an_overlay_is_made_kept_grown_and_taken_over() {
        if process::which("qemu-img").is_none() {
            return;
        }
        let (images, one, two) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let image = images.path().join("image");
        fs::write(&image, vec![7; 1 << 20]).unwrap();
        let made = ensure(one.path(), &disk(Some(&image), "raw", 4 << 20), None).await.unwrap();
        assert_eq!(made.format, "qcow2");
        // Nobody needs the image by its own name any more.
        fs::remove_file(&image).unwrap();
        assert_eq!(ensure(one.path(), &disk(Some(&image), "raw", 4 << 20), None).await.unwrap(), made);
        let taken = ensure(two.path(), &disk(Some(&image), "raw", 8 << 20), Some(one.path())).await.unwrap();
        assert!(!made.file.exists());
        assert_eq!(qcow2(&taken.file).unwrap(), Some(Qcow2 { size: 8 << 20, depends: true }));
        let (base, _) = taken.base.unwrap();
        assert_eq!(fs::read(base).unwrap()[0], 7);
    }

    #[tokio::test]
    async fn a_lost_disk_is_an_error_and_never_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let made = Disk { made: true, ..disk(None, "raw", 1 << 20) };
        assert!(missing(dir.path(), &disk(None, "raw", 1 << 20)).is_ok(), "it is yet to be made");
        for lost in [missing(dir.path(), &made), ensure(dir.path(), &made, None).await.map(drop)] {
            assert!(
                matches!(&lost, Err(DriverFault::Refused(why)) if why.contains("is not there any more")),
                "{lost:?}"
            );
        }
        let elsewhere = dir.path().join("kept");
        let lost = ensure(dir.path(), &disk(None, "raw", 1 << 20), Some(&elsewhere)).await;
        assert!(matches!(&lost, Err(DriverFault::Refused(why)) if why.contains("takes over is gone")), "{lost:?}");
        fs::create_dir(&elsewhere).unwrap();
        assert!(ensure(dir.path(), &disk(None, "raw", 1 << 20), Some(&elsewhere)).await.is_ok(), "it never had one");
        assert!(missing(dir.path(), &made).is_ok());
    }

    #[tokio::test]
    async fn images_that_point_elsewhere_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let mut header = vec![0; 104];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        header[30] = 0x10;
        fs::write(&image, &header).unwrap();
        assert_eq!(qcow2(&image).unwrap(), Some(Qcow2 { size: 0x1000, depends: false }));
        for (at, bit) in [(15, 0x70), (79, 4)] {
            let mut bad = header.clone();
            bad[at] = bit;
            fs::write(&image, &bad).unwrap();
            let refusal = ensure(dir.path(), &disk(Some(&image), "qcow2", 0), None).await.unwrap_err();
            assert!(matches!(&refusal, DriverFault::Refused(text) if text.contains("another file")), "{refusal}");
        }
        fs::write(&image, "not an image").unwrap();
        let refusal = ensure(dir.path(), &disk(Some(&image), "qcow2", 0), None).await.unwrap_err();
        assert!(refusal.to_string().contains("said to be qcow2 and is not"));
        let refusal = ensure(dir.path(), &disk(Some(&image), "raw", 5), None).await.unwrap_err();
        assert!(refusal.to_string().contains("needs a disk of 12 bytes"));
    }

    #[test]
    fn ids_are_no_paths() {
        assert!(check_name("0b1c.1", "a VM").is_ok());
        for bad in ["", "..", ".hidden", "a/b", "a,b"] {
            assert!(check_name(bad, "a VM").is_err(), "{bad}");
        }
    }
}
