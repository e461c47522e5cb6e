//! What is left of a disk that is nearly full is kept: a commit of somebody who can wait is refused if it makes the rows
//! larger. Deletions go on, and whatever takes little beside what it changes, such as an event that tells of a deletion; so
//! does all that hosts say.
//!
//! Refused: a file that is removed when the disk is full. Whoever filled the disk takes that room, too.

use std::path::Path;

use model::Write;
use tokio::sync::oneshot;

use crate::{Book, Proposal, StoreFault};

/// A disk with fewer bytes left is called full: it is kept for what cannot wait.
pub const FULL: u64 = 32 << 20;
/// By so much a commit may make the rows larger that changes or deletes some.
const LITTLE: usize = 1024;

type Asked = (Proposal, oneshot::Sender<Result<model::Revision, StoreFault>>);

/// Sends away those of a group who have to wait, if the disk is nearly full.
pub fn admit(path: &Path, book: &Book, group: Vec<Asked>) -> Vec<Asked> {
    let Some(text) = full(path) else { return group };
    let (wait, go): (Vec<Asked>, Vec<Asked>) =
        group.into_iter().partition(|(one, _)| one.can_wait && !takes_little(one, book));
    wait.into_iter().for_each(|(_, reply)| _ = reply.send(Err(StoreFault::Broken(text.clone()))));
    go
}

/// Why those who can wait are sent away at this moment.
pub fn full(path: &Path) -> Option<String> {
    let fs = nix::sys::statvfs::statvfs(path).ok()?;
    let free = fs.blocks_available().saturating_mul(fs.fragment_size());
    let text = || format!("the disk of {} is full: what is left is kept for deletions; make room", path.display());
    (free < FULL).then(text)
}

fn takes_little(proposal: &Proposal, book: &Book) -> bool {
    let writes = &proposal.change.writes;
    let old = |write: &Write| match write {
        Write::Create(_) => 0,
        write => book
            .snapshot
            .row(&write.key())
            .and_then(|row| serde_json::to_string(&row.object).ok())
            .map_or(0, |t| t.len()),
    };
    let before: usize = writes.iter().map(old).sum();
    let changes = !writes.iter().all(|write| matches!(write, Write::Create(_)));
    changes && proposal.bytes <= before + LITTLE
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Change, Setting};

    #[test]
    fn what_makes_the_rows_larger_waits() {
        let setting = |name: &str, size: usize| Setting { name: name.into(), value: "x".repeat(size).into() };
        let mut book = Book::default();
        for (revision, name) in [(1, "a"), (2, "b")] {
            let change = Change::from(setting(name, 5000));
            let delta = book.check(&change).unwrap();
            book.apply(revision, &change.writes, &delta);
        }
        let little = |change: Change| takes_little(&Proposal::new(change).unwrap(), &book);
        let row = |name: &str| book.snapshot.get::<Setting>(name).unwrap();
        assert!(!little(setting("new", 1).into()), "a new row, however small");
        let (mut larger, mut same, mut gone, mut told) = (Change::new(), Change::new(), Change::new(), Change::new());
        larger.edit(row("a"), |s| s.value = "x".repeat(9000).into());
        same.edit(row("a"), |s| s.value = "y".repeat(5100).into());
        gone.delete(row("a"));
        told.edit(row("a"), |s| s.value = "x".into());
        told.create(setting("event", 500));
        assert!(!little(larger));
        assert!(little(same) && little(gone) && little(told));
    }
}
