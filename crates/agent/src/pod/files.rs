//! The files of a volume that is kept up to date from outside change all at once: they lie in a folder `..<moment>`, the
//! link `..data` leads to it, and each name in the volume is a link through `..data`. Programs that watch for a new
//! certificate wait for `..data`, and must never read a new certificate beside an old key. As Kubernetes' kubelet lays
//! them out. Replacing one file after the other was refused.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use model::Fault;

/// One file of a volume.
pub struct File {
    pub path: String,
    pub content: Vec<u8>,
    pub mode: u32,
}

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Makes a volume hold these files and no others. With a group they are its to read, as `fsGroup` promises.
pub fn write(root: &Path, files: &[File], group: Option<u32>) -> Result<(), Fault> {
    for file in files {
        let parts = || file.path.split('/');
        if file.path.starts_with('/') || file.path.starts_with("..") || parts().any(|p| p == ".." || p.is_empty()) {
            return Err(Fault::invalid(format!("the path {} leaves its volume", file.path)));
        }
    }
    swap(root, files, group).map_err(|e| Fault::Unavailable(format!("writing the volume {}: {e}", root.display())))
}

fn swap(root: &Path, files: &[File], group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(root)?;
    folder(root, group)?;
    let old = fs::read_link(root.join(DATA)).ok().map(|name| root.join(name));
    let same = old.as_ref().is_some_and(|old| holds(old, files, group));
    if !same {
        let name = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f"));
        let new = root.join(&name);
        fill(&new, old.as_deref(), files, group)?;
        let next = root.join(NEXT);
        remove(&next)?;
        symlink(&name, &next)?;
        fs::rename(&next, root.join(DATA))?;
    }
    link(root, files)?;
    // What was cut short before, and what the volume was.
    let now = fs::read_link(root.join(DATA))?;
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("..") && name != DATA && *now != *name {
            remove(&root.join(name))?;
        }
    }
    Ok(())
}

/// The names that people see.
fn link(root: &Path, files: &[File]) -> io::Result<()> {
    let names: BTreeSet<&str> = files.iter().filter_map(|file| file.path.split('/').next()).collect();
    for name in &names {
        let (at, to) = (root.join(name), Path::new(DATA).join(name));
        if fs::read_link(&at).is_ok_and(|now| now == to) {
            continue;
        }
        if fs::symlink_metadata(&at).is_ok_and(|about| about.is_dir()) {
            remove(&at)?;
        }
        let next = root.join(NEXT);
        remove(&next)?;
        symlink(to, &next)?;
        fs::rename(&next, at)?;
    }
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with("..") && !names.contains(&*text) {
            remove(&root.join(&name))?;
        }
    }
    Ok(())
}

/// Whether a folder holds exactly these files.
fn holds(folder: &Path, files: &[File], group: Option<u32>) -> bool {
    let there = |file: &File| {
        let path = folder.join(&file.path);
        let about = fs::symlink_metadata(&path).ok().filter(|about| about.is_file());
        let right = about.is_some_and(|about| {
            about.len() == file.content.len() as u64
                && about.mode() & 0o777 == mode(file, group)
                && group.is_none_or(|group| about.gid() == group)
        });
        right && fs::read(&path).is_ok_and(|now| now == file.content)
    };
    files.iter().all(there) && count(folder).is_ok_and(|count| count == files.len())
}

fn count(folder: &Path) -> io::Result<usize> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(sum)
}

fn mode(file: &File, group: Option<u32>) -> u32 {
    if group.is_some() { file.mode | 0o040 } else { file.mode }
}

/// Fills a new folder. What did not change is the same file as before, with the moment at which it was written.
fn fill(new: &Path, old: Option<&Path>, files: &[File], group: Option<u32>) -> io::Result<()> {
    fs::create_dir(new)?;
    folder(new, group)?;
    for file in files {
        let path = new.join(&file.path);
        let mut parent = new.to_path_buf();
        let parts: Vec<&str> = file.path.split('/').collect();
        for part in &parts[..parts.len() - 1] {
            parent.push(part);
            fs::create_dir_all(&parent)?;
            folder(&parent, group)?;
        }
        let before = old.map(|old| old.join(&file.path));
        let kept = before.filter(|before| fs::read(before).is_ok_and(|now| now == file.content));
        if kept.is_none_or(|kept| fs::hard_link(kept, &path).is_err()) {
            fs::write(&path, &file.content)?;
        }
        if let Some(group) = group {
            chown(&path, None, Some(group))?;
        }
        fs::set_permissions(&path, Permissions::from_mode(mode(file, group)))?;
    }
    Ok(())
}

fn folder(path: &Path, group: Option<u32>) -> io::Result<()> {
    if let Some(group) = group {
        chown(path, None, Some(group))?;
    }
    fs::set_permissions(path, Permissions::from_mode(if group.is_some() { 0o2755 } else { 0o755 }))
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> File {
        File { path: path.into(), content: content.into(), mode: 0o644 }
    }

    fn names(root: &Path) -> BTreeSet<String> {
        let all = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        all.map(|name| if name.starts_with("..2") { "..moment".into() } else { name }).collect()
    }

    #[test]
    fn files_change_all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("v");
        // As they lay before: plain.
        fs::create_dir_all(root.join("sub")).unwrap();
        for path in ["tls.crt", "sub/x", "old"] {
            fs::write(root.join(path), "plain").unwrap();
        }
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        write(&root, &[file("tls.crt", "1"), file("tls.key", "1"), file("sub/x", "1")], None).unwrap();
        assert_eq!(names(&root), ["..data", "..moment", "sub", "tls.crt", "tls.key"].map(String::from).into());
        assert_eq!(fs::read_link(root.join("tls.crt")).unwrap(), Path::new("..data/tls.crt"));
        assert_eq!((read("tls.crt"), read("sub/x")), ("1".into(), "1".into()));
        // Who holds the folder open sees both of the old ones, who asks anew both of the new.
        let held = fs::canonicalize(root.join(DATA)).unwrap();
        let open = fs::File::open(held.join("tls.key")).unwrap();
        let key = fs::metadata(root.join("tls.key")).unwrap().ino();
        write(&root, &[file("tls.crt", "2"), file("tls.key", "1")], None).unwrap();
        assert_ne!(fs::canonicalize(root.join(DATA)).unwrap(), held);
        assert_eq!((read("tls.crt"), read("tls.key")), ("2".into(), "1".into()));
        assert_eq!(fs::metadata(root.join("tls.key")).unwrap().ino(), key, "what did not change is the same file");
        assert_eq!(names(&root), ["..data", "..moment", "tls.crt", "tls.key"].map(String::from).into());
        drop(open);
        let now = fs::canonicalize(root.join(DATA)).unwrap();
        write(&root, &[file("tls.crt", "2"), file("tls.key", "1")], None).unwrap();
        assert_eq!(fs::canonicalize(root.join(DATA)).unwrap(), now, "nothing changed");
        write(&root, &[], None).unwrap();
        assert_eq!(names(&root), ["..data", "..moment"].map(String::from).into());
    }

    #[test]
    fn files_stay_in_their_volume() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../../x", "..data", "a//b", ""] {
            assert!(write(dir.path(), &[file(path, "1")], None).is_err(), "{path}");
        }
    }
}
