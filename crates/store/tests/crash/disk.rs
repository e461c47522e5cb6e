//! Files as a crash leaves them, and whether the store in them is what it must be.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use fastrand::Rng;
use model::{Key, Revision, Snapshot};
use store::Store;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::record::{Action, Operation};

/// What a disk writes whole.
const SECTOR: usize = 512;

/// How many disks are looked at at once.
const AT_ONCE: usize = 8;

/// The rows at each revision, as a hash.
pub type Truth = Vec<u64>;

fn hash<'a>(rows: impl Iterator<Item = (&'a Key, &'a str)>) -> u64 {
    let mut hasher = DefaultHasher::new();
    rows.for_each(|row| row.hash(&mut hasher));
    hasher.finish()
}

fn text(row: &model::Row) -> String {
    serde_json::to_string(row).unwrap()
}

fn hash_of(snapshot: &Snapshot) -> u64 {
    let rows: BTreeMap<Key, String> = snapshot.rows().map(|row| (row.key.clone(), text(row))).collect();
    hash(rows.iter().map(|(key, row)| (key, row.as_str())))
}

/// The row that ends it.
pub const LAST: &str = "last";

/// Watches what is committed, until the last row, and says what the rows are at each revision. Compacts the history now
/// and then, so that crashes meet that too.
pub async fn witness(store: Store) -> Truth {
    let (mut rows, mut truth) = (BTreeMap::new(), vec![hash([].into_iter())]);
    let mut watch = store.watch(0).unwrap();
    loop {
        for commit in watch.next().await.unwrap() {
            for event in &commit.events {
                match &event.after {
                    Some(row) => _ = rows.insert(event.key.clone(), text(row)),
                    None => _ = rows.remove(&event.key),
                }
            }
            truth.push(hash(rows.iter().map(|(key, row)| (key, row.as_str()))));
            if commit.events.iter().any(|event| *event.key.name == *LAST) {
                return truth;
            }
            if commit.revision % 16 == 0 {
                store.compact(commit.revision.saturating_sub(40)).await.unwrap();
            }
        }
    }
}

/// Contents of files by name; none: it does not exist.
#[derive(Clone, Default)]
struct Files(HashMap<String, Vec<u8>>);

impl Files {
    /// Applies one operation, or only the parts of a write that `keep` says, sector by sector.
    fn apply(&mut self, operation: &Operation, mut keep: impl FnMut() -> bool) {
        match &operation.action {
            Action::Write { offset, data } => {
                let file = self.0.entry(operation.file.clone()).or_default();
                let end = offset + data.len();
                let mut at = *offset;
                while at < end {
                    let next = ((at / SECTOR + 1) * SECTOR).min(end);
                    if keep() {
                        file.resize(file.len().max(next), 0);
                        file[at..next].copy_from_slice(&data[at - offset..next - offset]);
                    }
                    at = next;
                }
            }
            Action::Truncate { length } if keep() => {
                self.0.entry(operation.file.clone()).or_default().resize(*length, 0);
            }
            Action::Unlink if keep() => _ = self.0.remove(&operation.file),
            Action::Truncate { .. } | Action::Unlink | Action::Sync => {}
        }
    }

    /// Writes them into a new folder, in memory where that is possible.
    fn write(&self) -> TempDir {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        for (name, content) in &self.0 {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }
}

/// Cuts the record before every operation; says how much was looked at.
pub async fn crash_everywhere(operations: &[Operation], truth: Truth) -> String {
    let seed = std::env::var("STORE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut rng = Rng::with_seed(seed);
    // As the kernel has the files, and as they are certain to be on the disk.
    let (mut kernel, mut disk) = (Files::default(), Files::default());
    // What was done to each file since it was synced.
    let mut unsynced: Vec<&Operation> = Vec::new();
    let (mut acknowledged, mut disks) = (0, 0);
    let (mut checks, truth) = (JoinSet::new(), Arc::new(truth));
    for (n, operation) in operations.iter().enumerate() {
        if operation.file != "acks" {
            let (mut torn, mut random) = (kernel.clone(), disk.clone());
            torn.apply(operation, || rng.bool());
            unsynced.iter().for_each(|operation| random.apply(operation, || rng.bool()));
            let synced = n == 0 || matches!(operations[n - 1].action, Action::Sync) || operations[n - 1].file == "acks";
            // The tears and the losses are random anyway: a part of them does, unless all are asked for.
            let every = std::env::var_os("STORE_THOROUGH").is_some() || rng.u8(..4) == 0;
            let random = [("torn", &torn), ("random", &random)].into_iter().filter(|_| every);
            // What is synced changes with a sync, what must be there with an acknowledgement.
            let cut = synced.then_some(("synced only", &disk));
            for (what, files) in [("killed", &kernel)].into_iter().chain(random).chain(cut) {
                let folder = files.write();
                let (truth, place) = (truth.clone(), format!("{what} before operation {n} of {}", operations.len()));
                checks.spawn(async move {
                    let checked = check(folder, &truth, acknowledged).await;
                    checked.unwrap_or_else(|why| panic!("{place}: {why}; STORE_SEED={seed}"));
                });
                disks += 1;
                if checks.len() >= AT_ONCE {
                    checks.join_next().await.expect("there are some").unwrap();
                }
            }
        }
        match &operation.action {
            Action::Write { data, .. } if operation.file == "acks" => {
                let revision: Revision = std::str::from_utf8(data).unwrap().trim().parse().unwrap();
                acknowledged = acknowledged.max(revision);
                continue;
            }
            Action::Sync => {
                // Syncing the folder, which has the empty name, makes sure which files there are.
                let made_sure = |o: &&Operation| match o.action {
                    Action::Unlink => operation.file.is_empty(),
                    _ => o.file == operation.file,
                };
                unsynced.iter().filter(|o| made_sure(o)).for_each(|operation| disk.apply(operation, || true));
                unsynced.retain(|o| !made_sure(o));
            }
            _ => unsynced.push(operation),
        }
        kernel.apply(operation, || true);
    }
    while let Some(checked) = checks.join_next().await {
        checked.unwrap();
    }
    assert_eq!(acknowledged as usize + 2, truth.len(), "the record has every acknowledgement but of the last row");
    let written_back =
        operations.iter().filter(|o| o.file == "braid.db" && matches!(o.action, Action::Write { .. })).count();
    assert!(written_back > 40, "the log was written back while commits went on: {written_back} pages");
    let commits = truth.len() - 1;
    format!(
        "{} operations, {commits} commits, {written_back} pages written back, {disks} crashed disks",
        operations.len()
    )
}

async fn check(folder: TempDir, truth: &Truth, acknowledged: Revision) -> Result<(), String> {
    let store = Store::open_sqlite(folder.path().join("braid.db")).await.map_err(|e| e.to_string())?;
    let snapshot = store.snapshot();
    let revision = snapshot.revision();
    if revision < acknowledged {
        return Err(format!("commit {acknowledged} was acknowledged, {revision} is the newest there"));
    }
    if truth.get(revision as usize) != Some(&hash_of(&snapshot)) {
        return Err(format!("the rows are not those of revision {revision}"));
    }
    Ok(())
}
