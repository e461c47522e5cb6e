//! The newest generation by which each thing of a driver was changed, in files, so that an order that slept while newer ones
//! were carried out is refused, whichever process it comes from and whether the thing is still there.
//!
//! ```text
//! generations/vm-<id>     00000000000000001234 here      one line of fixed length, written at one stroke
//!             vm-<id>     00000000000000001240 gone      nothing is left of it; kept, or an old order would make it anew
//!             floor       00000000000000000977 here      what is not known and older than this is refused
//! ```
//!
//! While an order is carried out its thing's file is locked: a process that was stopped in the middle of one holds up that one
//! thing, and cannot go on with it after another has done more. The kernel lets go of the lock when the process ends.
//!
//! Refused: a record in memory (the other process would not see it); generations inside each thing's own folder or labels
//! (they would go with the thing, and it is the thing that is gone which must not come back).

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use model::wanted::Generation;

use crate::{DriverFault, Result};

/// So many things that are gone are remembered one by one; beyond, the floor stands for the oldest.
const REMEMBERED: usize = 4096;
/// Bytes of a line.
const LINE: usize = 26;
const FLOOR: &str = "floor";

/// What is on record of one thing.
#[derive(Clone, Copy)]
struct Record {
    newest: Generation,
    gone: bool,
}

/// The records of one driver.
pub struct Generations {
    dir: PathBuf,
    /// Things that went since the records were last tidied.
    went: AtomicUsize,
    remembered: usize,
}

/// Leave to carry out one order; nobody else changes the thing until it is dropped.
#[must_use = "dropped, it holds nobody off"]
pub struct Pass {
    file: File,
    newest: Generation,
    /// On a full disk the floor stands for a thing that has no record.
    is_floor: bool,
}

impl Generations {
    /// The records below a driver's folder; nothing is touched before the first order.
    pub fn new(driver: &Path) -> Self {
        Self { dir: driver.join("generations"), went: AtomicUsize::new(REMEMBERED), remembered: REMEMBERED }
    }

    /// Lets an order about a thing through, and notes it, unless a newer one was carried out: then it is `Stale`. `NotReady`
    /// while another process is at it.
    pub fn pass(&self, thing: &str, at: Generation) -> Result<Pass> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if thing == FLOOR || thing.is_empty() || thing.len() > 200 || !thing.chars().all(good) || thing.starts_with('.')
        {
            return Err(DriverFault::Refused(format!("{thing:?} is not the name of anything on a host")));
        }
        let fault = |error| DriverFault::Failed(format!("{}: {error}", self.dir.join(thing).display()));
        let (locked, is_floor) = match self.locked(thing) {
            // What makes room must not need room.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => (self.locked(FLOOR), true),
            other => (other, false),
        };
        let file = locked.map_err(fault)?;
        let file = file.ok_or_else(|| DriverFault::NotReady(format!("another process is at work on {thing}")))?;
        let newest = match read(&file).map_err(fault)? {
            Some(record) => record.newest,
            None => self.newest(FLOOR),
        };
        if at < newest {
            let text =
                format!("what shall be done to {thing} was decided at {at}, and it was changed at {newest} since");
            return Err(DriverFault::Stale(text));
        }
        write(&file, Record { newest: at, gone: false }).map_err(fault)?;
        Ok(Pass { file, newest: at, is_floor })
    }

    /// Nothing is left of the thing that the pass is for. Its record stays for a while.
    pub fn gone(&self, pass: Pass) -> Result<()> {
        let fault = |error| DriverFault::Failed(format!("{}: {error}", self.dir.display()));
        if pass.is_floor {
            return Ok(());
        }
        write(&pass.file, Record { newest: pass.newest, gone: true }).map_err(fault)?;
        drop(pass);
        if self.went.fetch_add(1, Ordering::Relaxed) >= self.remembered {
            self.went.store(0, Ordering::Relaxed);
            self.tidy().map_err(fault)?;
        }
        Ok(())
    }

    /// By what a thing was changed last; the oldest of all if by nothing that is on record.
    pub fn newest(&self, thing: &str) -> Generation {
        let file = File::open(self.dir.join(thing)).and_then(|file| read(&file));
        file.ok().flatten().map_or_else(Generation::default, |record| record.newest)
    }

    /// Forgets all: a person has said that the rows of another store count now, whose generations may be lower.
    pub fn forget(&self) -> Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(DriverFault::Failed(format!("cannot remove {}: {e}", self.dir.display())))
            }
            _ => Ok(()),
        }
    }

    /// The file of a thing, locked; `None` if somebody else has it.
    fn locked(&self, thing: &str) -> io::Result<Option<File>> {
        if !self.dir.exists() {
            fs::create_dir_all(&self.dir)?;
            // There is room for it now.
            let floor = File::options().write(true).create_new(true).open(self.dir.join(FLOOR));
            match floor.and_then(|file| write(&file, Record { newest: Generation::default(), gone: false })) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let path = self.dir.join(thing);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
            // It may have been removed between the two.
            Ok(()) => Ok((file.metadata()?.nlink() > 0).then_some(file)),
        }
    }

    /// Of what is gone only the newest records are kept; the floor rises to the newest of the others.
    fn tidy(&self) -> io::Result<()> {
        let mut gone: Vec<(Generation, String)> = Vec::new();
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let record = File::open(entry.path()).and_then(|file| read(&file));
            if let Ok(Some(Record { newest, gone: true })) = record {
                gone.push((newest, name));
            }
        }
        gone.sort();
        gone.truncate(gone.len().saturating_sub(self.remembered));
        let Some((highest, _)) = gone.last() else { return Ok(()) };
        let Some(floor) = self.locked(FLOOR)? else { return Ok(()) };
        let newest = read(&floor)?.map_or(*highest, |old| old.newest.max(*highest));
        // Before the records go: who dies in between has refused too much, and nothing too little.
        write(&floor, Record { newest, gone: false })?;
        for (_, name) in gone {
            let Some(file) = self.locked(&name)? else { continue };
            if read(&file)?.is_some_and(|record| record.gone && record.newest <= newest) {
                fs::remove_file(self.dir.join(name))?;
            }
        }
        Ok(())
    }
}

/// `None`: it was only just made.
fn read(file: &File) -> io::Result<Option<Record>> {
    let mut line = [0; LINE];
    let length = file.read_at(&mut line, 0)?;
    // Just made, or left so by a power cut: it is not known.
    if line[..length].iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let text = std::str::from_utf8(&line[..length]).ok().and_then(|text| text.trim_end().split_once(' '));
    let record = text
        .and_then(|(number, state)| Some(Record { newest: Generation(number.parse().ok()?), gone: state == "gone" }));
    // What is damaged is not taken for none.
    record.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this record cannot be read; remove it"))
}

fn write(file: &File, record: Record) -> io::Result<()> {
    let line = format!("{:020} {}\n", record.newest.0, if record.gone { "gone" } else { "here" });
    file.write_all_at(line.as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_orders_are_refused_by_whoever_comes_next() {
        let dir = tempfile::tempdir().unwrap();
        let of = || Generations::new(dir.path());
        drop(of().pass("vm-a", Generation(5)).unwrap());
        drop(of().pass("vm-a", Generation(5)).unwrap());
        assert!(matches!(of().pass("vm-a", Generation(4)), Err(DriverFault::Stale(_))));
        drop(of().pass("vm-b", Generation(4)).unwrap());
        let pass = of().pass("vm-a", Generation(7)).unwrap();
        of().gone(pass).unwrap();
        assert!(matches!(of().pass("vm-a", Generation(6)), Err(DriverFault::Stale(_))), "what is gone stays gone");
        assert_eq!((of().newest("vm-a"), of().newest("vm-c")), (Generation(7), Generation(0)));
        of().forget().unwrap();
        drop(of().pass("vm-a", Generation(1)).unwrap());
        for bad in ["", "floor", "../x", ".x", "a b"] {
            assert!(matches!(of().pass(bad, Generation(9)), Err(DriverFault::Refused(_))), "{bad}");
        }
    }

    #[test]
    fn one_who_sleeps_in_the_middle_of_an_order_holds_up_one_thing() {
        let dir = tempfile::tempdir().unwrap();
        let of = || Generations::new(dir.path());
        let sleeps = of().pass("vm-a", Generation(5)).unwrap();
        assert!(matches!(of().pass("vm-a", Generation(6)), Err(DriverFault::NotReady(_))));
        drop(of().pass("vm-b", Generation(6)).unwrap());
        drop(sleeps);
        drop(of().pass("vm-a", Generation(6)).unwrap());
    }

    #[test]
    fn what_is_gone_is_remembered_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let of = Generations { remembered: 3, ..Generations::new(dir.path()) };
        drop(of.pass("vm-stays", Generation(1)).unwrap());
        for n in 1..=50_u64 {
            let pass = of.pass(&format!("vm-{n}"), Generation(100 + n)).unwrap();
            of.gone(pass).unwrap();
        }
        let files = fs::read_dir(dir.path().join("generations")).unwrap().count();
        assert!(files <= 10, "{files} files");
        assert!(matches!(of.pass("vm-1", Generation(101)), Err(DriverFault::Stale(_))), "the floor stands for it");
        drop(of.pass("vm-stays", Generation(2)).unwrap());
        drop(of.pass("vm-new", Generation(151)).unwrap());
    }

    /// What makes room can be ordered where nothing can be written down, and what is older is refused all the same.
    #[test]
    fn a_full_disk_refuses_no_removal() {
        let dir = tempfile::tempdir().unwrap();
        let mount = |words: &[&str]| std::process::Command::new(words[0]).args(&words[1..]).arg(dir.path()).status();
        let mounted = mount(&["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "tmpfs"]);
        if !mounted.is_ok_and(|status| status.success()) {
            return;
        }
        let of = Generations::new(dir.path());
        drop(of.pass("vm-known", Generation(3)).unwrap());
        let full = (0..100).any(|n| fs::write(dir.path().join(format!("filler{n}")), "").is_err());
        let (new, old) = (of.pass("vm-new", Generation(9)), of.pass("vm-other", Generation(8)));
        let gone = new.map(|pass| of.gone(pass));
        let later = of.pass("vm-other", Generation(8));
        let known = of.pass("vm-known", Generation(3));
        let refused = (matches!(old, Err(DriverFault::NotReady(_))), matches!(later, Err(DriverFault::Stale(_))));
        let known = known.map(drop);
        mount(&["umount"]).unwrap();
        assert!(full, "no file system is full");
        assert!(matches!(gone, Ok(Ok(()))), "a removal was refused");
        assert_eq!(refused, (true, true));
        assert!(known.is_ok(), "what has a record goes by that: {known:?}");
    }

    #[test]
    fn a_damaged_record_is_not_none() {
        let dir = tempfile::tempdir().unwrap();
        let of = Generations::new(dir.path());
        drop(of.pass("vm-a", Generation(5)).unwrap());
        fs::write(dir.path().join("generations/vm-a"), "what").unwrap();
        assert!(of.pass("vm-a", Generation(9)).is_err());
    }
}
