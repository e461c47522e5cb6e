//! The embedded backend: one SQLite database, one writer thread, many commits in one SQL transaction.
//!
//! SQLite was chosen for its crash record; it needs no speed, since reads come from memory and commits that arrive while
//! the disk syncs share the next sync (*group commit*). Claims are not stored: the thread is the only writer of a database
//! that it holds locked, so it checks them against its book, and they are computed anew from the rows at the next start.
//! A claim table was refused, because a table that can disagree with the rows one day does.
//!
//! A full disk or an I/O error fails the commits of the group, and those alone. Reads go on, and writing heals by itself:
//! after anything but a full disk the database is closed, opened and read again before the next commit, because only the
//! disk knows then whether the failed group was kept. If it was, it is fed like any other commit.
//!
//! So that a full disk can be emptied again, the database keeps pages that it does not need yet ([`disk`]), and takes
//! nothing there from those who can wait ([`reserve`]).

mod disk;
mod reserve;

pub use reserve::FULL;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use model::{Committed, Refused, Revision};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{Backend, Book, Feed, Fence, MAX_BYTES, Proposal, StoreFault, Weighed};
use disk::{Disk, DiskError};

/// How many commits share a transaction at most.
const GROUP: usize = 512;

/// How many commits may wait for the writer before committers wait for a place.
const QUEUE: usize = 1024;

/// How many commits pass between two cuts of the history on disk.
const TRIM_EVERY: Revision = 512;

enum Command {
    Commit { proposal: Proposal, reply: oneshot::Sender<Result<Revision, StoreFault>> },
    Compact { revision: Revision, reply: oneshot::Sender<Result<(), StoreFault>> },
    Close { reply: oneshot::Sender<()> },
}

/// A store in an SQLite database.
pub struct Sqlite {
    path: PathBuf,
    commands: mpsc::Sender<Command>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    commits: AtomicU64,
    transactions: AtomicU64,
    failures: AtomicU64,
}

impl Sqlite {
    /// Opens or makes the database and fills the feed. `spare`: bytes that it keeps free for when the disk is full.
    pub async fn open(path: &Path, feed: Feed, spare: u32) -> Result<Self, StoreFault> {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (ready, opened) = oneshot::channel();
        let counters = Arc::new(Counters::default());
        let (path, own, counts) = (path.to_owned(), path.to_owned(), counters.clone());
        let run = move || match Writer::open(path, feed, counts, spare) {
            Ok(mut writer) => {
                _ = ready.send(Ok(()));
                writer.run(queue);
            }
            Err(error) => _ = ready.send(Err(error)),
        };
        let thread = std::thread::Builder::new()
            .name("store-sqlite".into())
            .spawn(run)
            .map_err(|e| StoreFault::Broken(format!("no thread for the store: {e}")))?;
        opened.await.map_err(|_| gone())?.map_err(StoreFault::Broken)?;
        Ok(Self { path: own, commands, thread: Mutex::new(Some(thread)), counters })
    }
}

fn gone() -> StoreFault {
    StoreFault::Broken("the writer of the database has ended".into())
}

#[async_trait]
impl Backend for Sqlite {
    async fn commit(&self, proposal: Proposal, _: Option<&Fence>) -> Result<Revision, StoreFault> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Commit { proposal, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn catch_up(&self) -> Result<(), StoreFault> {
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreFault> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Compact { revision, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.commands.send(Command::Close { reply }).await.is_ok() {
            _ = closed.await;
        }
        if let Some(thread) = self.thread.lock().await.take() {
            // It has nothing left to do but to return.
            _ = thread.join();
        }
    }

    fn trouble(&self) -> Option<String> {
        reserve::full(&self.path)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counters { commits, transactions, failures } = &*self.counters;
        [("commits", commits), ("transactions", transactions), ("failures", failures)]
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
            .to_vec()
    }
}

/// A commit of the group in work: what it writes and who waits for it.
struct Accepted {
    proposal: Proposal,
    commit: Arc<Committed>,
    reply: oneshot::Sender<Result<Revision, StoreFault>>,
}

/// What the thread owns.
struct Writer {
    path: PathBuf,
    feed: Feed,
    book: Book,
    /// None after a failure that leaves open what is on the disk.
    disk: Option<Disk>,
    spare: u32,
    trimmed: Revision,
    counters: Arc<Counters>,
}

impl Writer {
    fn open(path: PathBuf, feed: Feed, counters: Arc<Counters>, spare: u32) -> Result<Self, String> {
        let disk = Disk::open(&path, spare).map_err(|t| t.text(&path))?;
        let loaded = disk.load().map_err(|t| t.text(&path))?;
        let trimmed = loaded.complete_after;
        feed.reset(loaded.book.clone(), loaded.complete_after, loaded.commits);
        Ok(Self { path, feed, book: loaded.book, disk: Some(disk), spare, trimmed, counters })
    }

    fn run(&mut self, mut queue: mpsc::Receiver<Command>) {
        let mut next = None;
        while let Some(command) = next.take().or_else(|| queue.blocking_recv()) {
            match command {
                Command::Commit { proposal, reply } => {
                    let mut bytes = proposal.bytes;
                    let mut group = vec![(proposal, reply)];
                    while group.len() < GROUP && bytes < MAX_BYTES {
                        match queue.try_recv() {
                            Ok(Command::Commit { proposal, reply }) => {
                                bytes += proposal.bytes;
                                group.push((proposal, reply));
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(group);
                }
                Command::Compact { revision, reply } => _ = reply.send(self.compact(revision)),
                Command::Close { reply } => {
                    self.disk = None;
                    if self.spare > 0 {
                        disk::keep_room(&self.path, self.spare);
                    }
                    _ = reply.send(());
                    return;
                }
            }
        }
    }

    fn commit(&mut self, group: Vec<(Proposal, oneshot::Sender<Result<Revision, StoreFault>>)>) {
        if let Err(text) = self.heal() {
            group.into_iter().for_each(|(_, reply)| _ = reply.send(Err(StoreFault::Broken(text.clone()))));
            return;
        }
        let group = reserve::admit(&self.path, &self.book, group);
        if group.is_empty() {
            return;
        }
        let (next, accepted, refused) = admit(&self.book, group);
        let outcome = if accepted.is_empty() { Ok(()) } else { self.write(&accepted) };
        match outcome {
            Ok(()) => {
                self.counters.commits.fetch_add(accepted.len() as u64, Ordering::Relaxed);
                self.book = next;
                if !accepted.is_empty() {
                    let weighed = accepted.iter().map(|a| Weighed::new(a.commit.clone(), &a.proposal.rows)).collect();
                    self.feed.publish(&self.book, weighed);
                }
                accepted.into_iter().for_each(|a| _ = a.reply.send(Ok(a.commit.revision)));
                refused.into_iter().for_each(|(why, reply)| _ = reply.send(Err(why.into())));
            }
            Err(text) => {
                // A refusal may follow from a commit of the group that now did not happen.
                let waiting = accepted.into_iter().map(|a| a.reply).chain(refused.into_iter().map(|r| r.1));
                waiting.for_each(|reply| _ = reply.send(Err(StoreFault::Broken(text.clone()))));
            }
        }
    }

    fn write(&mut self, accepted: &[Accepted]) -> Result<(), String> {
        let newest = accepted.last().map_or(0, |a| a.commit.revision);
        let forgotten = self.feed.complete_after();
        let trim = (newest >= self.trimmed + TRIM_EVERY && forgotten > self.trimmed).then_some(forgotten);
        let done = self.try_disk(|disk| disk.write(accepted.iter().map(|a| (&a.proposal, &*a.commit)), trim));
        if done.is_ok() {
            self.counters.transactions.fetch_add(1, Ordering::Relaxed);
            self.trimmed = trim.unwrap_or(self.trimmed);
        }
        done
    }

    fn compact(&mut self, revision: Revision) -> Result<(), StoreFault> {
        // The newest commit stays: its number is the store's revision.
        let cut = revision.min(self.book.revision().saturating_sub(1));
        self.heal().and_then(|()| self.try_disk(|disk| disk.trim(cut))).map_err(StoreFault::Broken)?;
        self.trimmed = self.trimmed.max(cut);
        self.feed.forget(revision);
        Ok(())
    }

    fn try_disk(&mut self, work: impl FnOnce(&mut Disk) -> Result<(), DiskError>) -> Result<(), String> {
        let Some(disk) = &mut self.disk else { return Err(format!("{} is not open", self.path.display())) };
        let Err(error) = work(disk) else { return Ok(()) };
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        if !error.is_full() {
            self.disk = None;
        }
        let text = error.text(&self.path);
        tracing::error!("commits fail: {text}");
        Err(text)
    }

    /// Opens the database again after a failure and feeds what turns out to have been kept.
    fn heal(&mut self) -> Result<(), String> {
        if self.disk.is_some() {
            return Ok(());
        }
        let again = || -> Result<_, DiskError> {
            let disk = Disk::open(&self.path, self.spare)?;
            // What a failed sync left in the page cache alone is written and synced once more.
            disk.checkpoint()?;
            let loaded = disk.load()?;
            Ok((disk, loaded))
        };
        let (disk, mut loaded) = again().map_err(|error| error.text(&self.path))?;
        let (known, found) = (self.book.revision(), loaded.book.revision());
        if found < known {
            return Err(format!("{} has lost commits: it is at {found}, was at {known}", self.path.display()));
        }
        loaded.commits.retain(|commit| commit.revision > known);
        self.book = loaded.book;
        if !loaded.commits.is_empty() {
            let weighed = loaded.commits.into_iter().map(|commit| Weighed::new(commit, &[])).collect();
            self.feed.publish(&self.book, weighed);
        }
        self.disk = Some(disk);
        tracing::info!("{} is open again at revision {found}", self.path.display());
        Ok(())
    }
}

type Turned = Vec<(Refused, oneshot::Sender<Result<Revision, StoreFault>>)>;

/// Sorts a group into what fits, each on top of the one before, and what does not.
fn admit(
    book: &Book,
    group: Vec<(Proposal, oneshot::Sender<Result<Revision, StoreFault>>)>,
) -> (Book, Vec<Accepted>, Turned) {
    let (mut next, mut accepted, mut refused) = (book.clone(), Vec::new(), Vec::new());
    for (proposal, reply) in group {
        match next.check(&proposal.change) {
            Ok(delta) => {
                let commit = Arc::new(next.apply(next.revision() + 1, &proposal.change.writes, &delta));
                accepted.push(Accepted { proposal, commit, reply });
            }
            Err(why) => refused.push((why, reply)),
        }
    }
    (next, accepted, refused)
}
