//! The SQLite backend under the suite, and what is its own: files, foreign databases, a full disk.

#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use async_trait::async_trait;
use store::Store;
use store::suite::Site;

struct Sqlite(tempfile::TempDir);

#[async_trait]
impl Site for Sqlite {
    async fn open(&self) -> Store {
        Store::open_sqlite(self.0.path().join("braid.db")).await.unwrap()
    }
    fn shared(&self) -> bool {
        false
    }
    fn durable(&self) -> bool {
        true
    }
    fn resumes(&self) -> bool {
        true
    }
}

async fn make() -> Sqlite {
    Sqlite(tempfile::tempdir().unwrap())
}

store::conformance!(make);

fn setting(name: &str, value: impl Into<serde_json::Value>) -> model::Change {
    model::Setting { name: name.into(), value: value.into() }.into()
}

#[tokio::test]
async fn nobody_else_reads_or_opens_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let site = make().await;
    let path = site.0.path().join("braid.db");
    std::fs::write(&path, []).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = site.open().await;
    store.commit(&setting("s", 1)).await.unwrap();
    for file in std::fs::read_dir(site.0.path()).unwrap().map(Result::unwrap) {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
    let told = Store::open_sqlite(&path).await.err().unwrap().to_string();
    assert!(told.contains("in use by another process"), "{told}");
    // The handle is gone without a close: the file is free all the same, as soon as the writer has seen it.
    drop(store);
    Store::open_sqlite(&path).await.unwrap().close().await;
}

#[tokio::test]
async fn strange_files_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let refused = async |why: &str| {
        let before = std::fs::read(&path).unwrap();
        let told = Store::open_sqlite(&path).await.err().unwrap().to_string();
        assert!(told.contains(why), "{told}");
        assert_eq!(std::fs::read(&path).unwrap().get(..16), before.get(..16));
    };
    std::fs::write(&path, "a letter, which is longer than a database's header ".repeat(40)).unwrap();
    refused("not a database").await;
    std::fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
    refused("something else").await;
    std::fs::remove_file(&path).unwrap();
    Store::open_sqlite(&path).await.unwrap().close().await;
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    refused("version 99").await;
    assert!(Store::open_sqlite(folder.path()).await.is_err(), "a folder");
    assert!(Store::open_sqlite("/nonexistent/braid.db").await.is_err());
}

/// In the log, and in the rows from before it.
#[tokio::test]
async fn a_damaged_row_is_said_not_skipped() {
    for table in ["log", "row"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("braid.db");
        let store = Store::open_sqlite(&path).await.unwrap();
        store.commit(&setting("s", 1)).await.unwrap();
        store.commit(&setting("t", 1)).await.unwrap();
        store.compact(1).await.unwrap();
        store.close().await;
        let damage = format!("UPDATE {table} SET object = '{{}}'");
        assert_eq!(rusqlite::Connection::open(&path).unwrap().execute(&damage, []).unwrap(), 1);
        let told = Store::open_sqlite(&path).await.err().unwrap().to_string();
        assert!(told.contains("cloud/setting/"), "{told}");
    }
}

/// In the log, and in the rows from before it.
#[tokio::test]
async fn rows_of_a_newer_release_are_carried() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("braid.db");
    let store = Store::open_sqlite(&path).await.unwrap();
    for n in 1..4 {
        store.commit(&setting(&format!("s{n}"), 1)).await.unwrap();
    }
    store.compact(1).await.unwrap();
    store.close().await;
    let newer = |n: u8| (format!("cloud/novelty/s{n}"), format!(r#"{{"kind":"novelty","row":{{"name":"s{n}"}}}}"#));
    let sql = rusqlite::Connection::open(&path).unwrap();
    for (n, table) in [(1, "row"), (3, "log")] {
        let (key, object) = newer(n);
        let was = format!("cloud/setting/s{n}");
        let query = format!("UPDATE {table} SET key = ?1, object = ?2 WHERE key = ?3");
        assert_eq!(sql.execute(&query, [key, object, was]).unwrap(), 1);
    }
    drop(sql);
    let store = Store::open_sqlite(&path).await.unwrap();
    let names: Vec<_> = store.snapshot().rows().map(|row| row.key.name.to_string()).collect();
    assert_eq!((names, store.snapshot().revision()), (vec!["s2".to_owned()], 3));
    // Also when the log goes into the rows, and is opened by whoever knows them.
    store.commit(&setting("s4", 1)).await.unwrap();
    store.compact(4).await.unwrap();
    store.close().await;
    let sql = rusqlite::Connection::open(&path).unwrap();
    for n in [1, 3] {
        let (key, object) = newer(n);
        let kept: String = sql.query_row("SELECT object FROM row WHERE key = ?1", [key], |row| row.get(0)).unwrap();
        assert_eq!(kept, object);
    }
}

/// A small file system of its own; none where this process may not mount.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(folder.path());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// A full disk fails commits with words, not the process; reads go on; with room, writing goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk() {
    let Some(mount) = Mount::new("64m") else {
        eprintln!("skipped: mounting a file system takes root");
        return;
    };
    let path = mount.0.path().join("braid.db");
    let store = Store::open_sqlite(&path).await.unwrap();
    store.commit(&setting("small", 1)).await.unwrap();
    let filler = mount.0.path().join("filler");
    let full = std::fs::write(&filler, vec![1; 80 << 20]);
    assert!(full.is_err(), "the disk is full");
    let large = |n: usize| setting(&format!("large{n}"), "x".repeat(200_000));
    for n in 0..3 {
        let told = store.commit(&large(n)).await.unwrap_err();
        assert!(matches!(&told, store::StoreFault::Broken(text) if text.contains("full")), "{told}");
    }
    let taken = store.commit(&setting("small", 2)).await;
    assert!(matches!(taken, Err(store::StoreFault::Refused(_))), "{taken:?}");
    assert!(store.trouble().is_some_and(|why| why.contains("full")), "what fails is said until a commit works");
    assert_eq!(store.fresh().await.unwrap().len(), 1);
    assert_eq!(store.snapshot().revision(), 1);
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(store.commit(&large(0)).await.unwrap(), 2);
    assert_eq!(store.trouble(), None);
    let told: Vec<_> = store.watch(0).unwrap().next().await.unwrap().iter().map(|c| c.revision).collect();
    assert_eq!(told, [1, 2]);
    store.close().await;
    let store = Store::open_sqlite(&path).await.unwrap();
    assert_eq!((store.snapshot().revision(), store.snapshot().len()), (2, 2));
    store.close().await;
}

/// What is left of a full disk is the hosts' and of those who delete, also after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_can_be_emptied() {
    let Some(mount) = Mount::new("128m") else {
        eprintln!("skipped: mounting a file system takes root");
        return;
    };
    let path = mount.0.path().join("braid.db");
    let mut store = Store::open_sqlite_keeping(&path, 16 << 20).await.unwrap();
    for n in 0..10 {
        store.commit(&setting(&format!("tenants{n}"), "x".repeat(1000))).await.unwrap();
    }
    assert!(std::fs::write(mount.0.path().join("filler"), vec![1; 256 << 20]).is_err(), "the disk is full");
    for round in 0..2 {
        let requests = store.for_requests();
        for _ in 0..3 {
            let told = requests.commit(&setting("new", 1)).await.unwrap_err();
            assert!(matches!(&told, store::StoreFault::Broken(text) if text.contains("kept for deletions")), "{told}");
        }
        let delete = |n: usize| {
            let mut change = model::Change::new();
            change.delete(store.snapshot().get::<model::Setting>(&format!("tenants{n}")).unwrap());
            change
        };
        for n in round * 5..round * 5 + 5 {
            requests.commit(&delete(n)).await.unwrap_or_else(|why| panic!("a deletion in round {round}: {why}"));
        }
        // Far more than the log of SQLite has room for.
        for n in 0..1000 {
            let name = format!("status{}", n % 50);
            let change = match store.snapshot().get::<model::Setting>(&name) {
                None => setting(&name, "s".repeat(8000)),
                Some(row) => {
                    let mut change = model::Change::new();
                    change.edit(row, |s| s.value = format!("{round}{n}{}", "s".repeat(8000)).into());
                    change
                }
            };
            store.commit(&change).await.unwrap_or_else(|why| panic!("what a host says, {n} of round {round}: {why}"));
        }
        store.close().await;
        store = Store::open_sqlite_keeping(&path, 16 << 20).await.unwrap();
    }
    assert_eq!(store.snapshot().len(), 50);
    store.close().await;
}

/// Commits that arrive while the disk syncs share the next sync; what one of a group does wrong is its own affair.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_share_syncs() {
    let site = make().await;
    let store = site.open().await;
    let committer = |n: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..10 {
                let taken = store.commit(&setting(&format!("s{}", i / 2 * 100 + n), n)).await.is_err();
                assert_eq!(taken, i % 2 == 1, "every second is there already");
            }
        })
    };
    for task in (0..64).map(committer).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let counters: std::collections::BTreeMap<_, _> = store.counters().into_iter().collect();
    assert_eq!(counters["commits"], 320);
    assert!(counters["transactions"] <= 80, "{counters:?}");
}
