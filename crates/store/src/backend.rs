//! What a backend does: it takes a change whole or refuses it, keeps it, and feeds every commit to the process's memory
//! in order. Everything else (reads, watches, retries) is built once on top, in [`crate::Store`].

use std::any::Any;

use async_trait::async_trait;
use model::{Change, Fault, Refused, Revision, Write};
use tokio::sync::watch;

/// How many rows one change may write.
pub const MAX_WRITES: usize = 4096;

/// How many bytes the rows of one change may have together, as JSON.
pub const MAX_BYTES: usize = 8 << 20;

/// Why a commit did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreFault {
    /// The change does not fit to what is stored. Nothing of it was kept.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The change is larger than the store takes in one commit. Nothing of it was kept.
    #[error("the change is too large: {0}")]
    TooLarge(String),
    /// The leadership under which the change was made is lost. Nothing of it was kept.
    #[error("this process does not lead {0} any more")]
    Deposed(String),
    /// The backend does not work at the moment. Whether the change was kept is not known.
    #[error("the store does not work: {0}")]
    Broken(String),
}

impl From<StoreFault> for Fault {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Refused(refused) => refused.into(),
            StoreFault::TooLarge(_) => Fault::TooLarge(fault.to_string()),
            StoreFault::Deposed(_) | StoreFault::Broken(_) => Fault::Unavailable(fault.to_string()),
        }
    }
}

/// A change that is within the limits, with its rows as JSON. Encoded by whoever commits, so that a backend's one writer
/// does not spend its time on it.
#[derive(Debug)]
pub struct Proposal {
    pub change: Change,
    /// For each write the row's content, none for a deletion.
    pub rows: Vec<Option<String>>,
    pub bytes: usize,
    /// On behalf of somebody who can wait: it may not use what is kept of a full disk.
    pub can_wait: bool,
}

impl Proposal {
    /// Encodes a change; refuses one that is beyond the limits.
    pub fn new(change: Change) -> Result<Self, StoreFault> {
        if change.writes.len() > MAX_WRITES {
            let text = format!("it writes {} rows, at most {MAX_WRITES} are taken at once", change.writes.len());
            return Err(StoreFault::TooLarge(text));
        }
        let mut rows = Vec::with_capacity(change.writes.len());
        let mut bytes = 0;
        for write in &change.writes {
            let row = match write {
                Write::Create(object) | Write::Update { object, .. } => Some(
                    serde_json::to_string(object)
                        .map_err(|e| StoreFault::Broken(format!("{} cannot be written as JSON: {e}", write.key())))?,
                ),
                Write::Delete { .. } => None,
            };
            bytes += row.as_ref().map_or(0, String::len);
            if bytes > MAX_BYTES {
                return Err(StoreFault::TooLarge(format!("its rows have more than {MAX_BYTES} bytes")));
            }
            rows.push(row);
        }
        Ok(Self { change, rows, bytes, can_wait: false })
    }
}

/// The proof that this process leads a role, compared inside every commit made under it.
#[derive(Debug)]
pub struct Fence {
    pub role: String,
    /// What the backend compares: for etcd the revision that created the lease's key.
    pub token: Revision,
    /// True from when the leadership is lost.
    pub lost: watch::Receiver<bool>,
    /// What keeps the leadership; dropping it gives the leadership up.
    pub keeper: Box<dyn Any + Send + Sync>,
}

impl Fence {
    /// The leadership of the only process that there can be.
    pub fn alone(role: &str) -> Self {
        let (keeper, lost) = watch::channel(false);
        Self { role: role.to_owned(), token: 0, lost, keeper: Box::new(keeper) }
    }
}

/// Where commits are kept. A backend is made with a [`crate::Feed`], which it has filled with everything there is before
/// it takes the first commit.
///
/// The revisions of commits grow, but need not be without gaps. All methods may be called at the same time.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Keeps a change or refuses it whole: the revisions of its rows, its claims and the fence are compared in the same
    /// transaction that writes. Returns when the commit is durable and was fed. A refusal is returned when all that it
    /// follows from was fed, so that planning again from the newest snapshot makes sense.
    async fn commit(&self, proposal: Proposal, fence: Option<&Fence>) -> Result<Revision, StoreFault>;

    /// Returns when every commit was fed that anybody, in whatever process, had made before the call.
    async fn catch_up(&self) -> Result<(), StoreFault>;

    /// Forgets the history up to and including a revision; rows stay as they are.
    async fn compact(&self, revision: Revision) -> Result<(), StoreFault>;

    /// Waits until this process leads a role. A backend that only one process can open has nobody to wait for.
    async fn lead(&self, role: &str) -> Result<Fence, StoreFault> {
        Ok(Fence::alone(role))
    }

    /// Ends what runs in the background; commits that were taken are kept first.
    async fn close(&self);

    /// Compares stored claims with those that follow from the stored rows: every difference, in words. A backend that
    /// stores no claims has none.
    async fn audit(&self) -> Result<Vec<String>, StoreFault> {
        Ok(Vec::new())
    }

    /// Tells the other processes on the store that something lives, at no cost of a write to a disk. What others tell goes
    /// into the feed.
    async fn beat(&self, name: &str) -> Result<(), StoreFault> {
        _ = name;
        Ok(())
    }

    /// Why commits of those who can wait are refused at this moment, whatever is in them; see [`crate::Store::for_requests`].
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Counts of what was done so far, for metrics: name and value.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
