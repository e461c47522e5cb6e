//! The SQLite backend is killed, loses power, and meets I/O errors: no acknowledged commit is lost, none is half there.
//!
//! * `killed`: a process that commits is killed (SIGKILL) at random moments, again and again over the same database.
//! * `every_write_boundary`: a process that commits and checkpoints is recorded: every write, truncation, sync and
//!   unlink of its files, and when it acknowledged which commit. The record is then cut before every single operation
//!   and the files are put back as a crash there could have left them: as the kernel had them (a killed process), with
//!   the next write torn, with only what was synced (a power cut), and with a random part of the sectors written since.
//!   Every such disk must open, hold every commit acknowledged before the cut, and hold whole commits only, in order.
//! * `input_output_errors`: one write or sync of a process fails. Its commit fails, the ones after it go through, and
//!   what is on the disk is what the process said.
//!
//! The second proves this for the write pattern that SQLite has with this configuration, on a file system that keeps what
//! was synced and tears nothing smaller than a sector; not that a given disk keeps what it says is synced.

#![allow(clippy::print_stdout, reason = "what a child process has to say")]

mod disk;
mod record;

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use model::{Change, Revision, Setting};
use store::{Store, StoreFault};

/// Little, since each page is a crash more.
const SPARE: u32 = 16 << 10;
const FOLDER: &str = "STORE_TEST_FOLDER";

fn database(folder: &Path) -> std::path::PathBuf {
    folder.join("files/braid.db")
}

/// A committer's next change: one of twenty rows, some bytes long, so that the log is soon written back. The value names
/// the writer and how often it has written.
fn change(store: &Store, writer: usize, n: usize) -> Change {
    let name = format!("s{}", (writer * 7 + n) % 20);
    let value = serde_json::json!([writer, n, "x".repeat(500 + (writer * 31 + n * 17) % 5000)]);
    let mut change = Change::new();
    match store.snapshot().get::<Setting>(&name) {
        Some(row) if n % 11 == 10 => change.delete(row),
        Some(row) => change.edit(row, |setting| setting.value = value),
        None => change.create(Setting { name, value }),
    };
    change
}

fn child(folder: &Path, test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture"]).env(FOLDER, folder);
    command
}

fn folder() -> std::path::PathBuf {
    std::env::var_os(FOLDER).expect("started by another test").into()
}

/// Commits from several tasks and tells `acknowledge` each revision, until every task has made `many`.
async fn commit_many(store: &Store, writers: usize, many: usize, acknowledge: File) {
    let acknowledge = std::sync::Arc::new(acknowledge);
    let writer = |writer: usize| {
        let (store, acknowledge) = (store.clone(), acknowledge.clone());
        tokio::spawn(async move {
            let mut n = 0;
            while n < many {
                match store.commit(&change(&store, writer, n)).await {
                    Ok(revision) => {
                        // One write, so that the record has it whole.
                        (&*acknowledge).write_all(format!("{revision}\n").as_bytes()).unwrap();
                        n += 1;
                    }
                    Err(StoreFault::Refused(_)) => {}
                    Err(fault) => panic!("{fault}"),
                }
            }
        })
    };
    for task in (0..writers).map(writer).collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Killed at random moments.
#[tokio::test]
async fn killed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("files")).unwrap();
    let mut newest: Revision = 0;
    for _ in 0..25 {
        let mut process = child(folder.path(), "child_commits").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut acknowledged = lines.by_ref().filter_map(|line| line.strip_prefix("ack ")?.parse::<Revision>().ok());
        let few = fastrand::usize(..40);
        let mut last = acknowledged.by_ref().take(few + 1).last().expect("it commits");
        kill(&mut process, Duration::from_micros(fastrand::u64(..3000)));
        last = acknowledged.last().unwrap_or(last).max(last);
        assert!(last > newest);
        let store = Store::open_sqlite_keeping(database(folder.path()), SPARE).await.unwrap();
        newest = store.snapshot().revision();
        assert!(newest >= last, "commit {last} was acknowledged, the store is at {newest}");
        let mut watch = store.watch(0).unwrap();
        let mut next = 1;
        while next <= newest {
            for commit in watch.next().await.unwrap() {
                assert_eq!(commit.revision, next);
                next += 1;
            }
        }
        store.close().await;
    }
}

fn kill(process: &mut Child, after: Duration) {
    std::thread::sleep(after);
    process.kill().unwrap();
    process.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "another test starts it"]
async fn child_commits() {
    let store = Store::open_sqlite_keeping(database(&folder()), SPARE).await.unwrap();
    let (read, write) = std::io::pipe().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(read).lines() {
            println!("ack {}", line.unwrap());
        }
    });
    println!();
    commit_many(&store, 3, usize::MAX, File::from(std::os::fd::OwnedFd::from(write))).await;
}

/// The crash of crashes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_boundary() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("files")).unwrap();
    let log = folder.path().join("log");
    let mut process = child(folder.path(), "child_recorded");
    let output = record::preload(&mut process, folder.path()).env("RECORD_LOG", &log).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let operations = record::read(&std::fs::read(&log).unwrap());
    let truth = serde_json::from_slice(&std::fs::read(folder.path().join("truth")).unwrap()).unwrap();
    let seen = disk::crash_everywhere(&operations, truth).await;
    println!("{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "another test starts it"]
async fn child_recorded() {
    let store = Store::open_sqlite_keeping(database(&folder()), SPARE).await.unwrap();
    let witness = tokio::spawn(disk::witness(store.clone()));
    commit_many(&store, 3, 120, File::create(folder().join("files/acks")).unwrap()).await;
    store.commit(&Setting { name: disk::LAST.into(), value: 0.into() }.into()).await.unwrap();
    let truth = witness.await.unwrap();
    std::fs::write(folder().join("truth"), serde_json::to_vec(&truth).unwrap()).unwrap();
    store.close().await;
}

/// One write or one sync fails, at every place within the first commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_output_errors() {
    let mut failed = 0;
    for kind in ["sync", "write"] {
        for at in 0..40 {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("files")).unwrap();
            let mut process = child(folder.path(), "child_meets_an_error");
            let process = record::preload(&mut process, folder.path()).env("RECORD_FAIL_KIND", kind);
            let output = process.env("RECORD_FAIL", at.to_string()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{kind} {at}: {text}");
            failed += usize::from(text.contains("failed once"));
            let end = text
                .lines()
                .find_map(|line| line.strip_prefix("end "))
                .unwrap_or_else(|| panic!("{kind} {at}: {text}"));
            let store = Store::open_sqlite_keeping(database(folder.path()), SPARE).await.unwrap();
            let values: Vec<_> = store.snapshot().all::<Setting>().map(|s| (s.name.clone(), s.row.modified)).collect();
            assert_eq!(serde_json::to_string(&(store.snapshot().revision(), values)).unwrap(), end, "{kind} {at}");
            store.close().await;
        }
    }
    assert!(failed > 30, "only {failed} commits failed: what is tested here?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "another test starts it"]
async fn child_meets_an_error() {
    let path = database(&folder());
    // The error may hit the opening; opening again must then work.
    let store = match Store::open_sqlite(&path).await {
        Ok(store) => store,
        Err(_) => Store::open_sqlite(&path).await.unwrap(),
    };
    let mut failures = 0;
    let mut watch = store.watch(0).unwrap();
    for n in 0..20 {
        match store.commit(&change(&store, 0, n)).await {
            Ok(_) => {}
            Err(StoreFault::Broken(text)) => {
                assert!(text.contains("braid.db"), "{text}");
                failures += 1;
            }
            // What had failed was kept after all, so the plan is from an old snapshot only until here.
            Err(fault) => panic!("{fault}"),
        }
    }
    assert!(failures <= 1, "it heals by itself");
    if failures == 1 {
        println!("\nfailed once");
    }
    let newest = store.snapshot().revision();
    let mut seen = 0;
    while seen < newest {
        for commit in watch.next().await.unwrap() {
            seen += 1;
            assert_eq!(commit.revision, seen, "fed in order, without gaps");
        }
    }
    let values: Vec<_> = store.snapshot().all::<Setting>().map(|s| (s.name.clone(), s.row.modified)).collect();
    println!("\nend {}", serde_json::to_string(&(newest, values)).unwrap());
    store.close().await;
}
