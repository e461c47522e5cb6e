//! Several processes on one etcd. The test starts itself again as the other processes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use model::{Change, Revision, Setting};
use store::suite::{commit_at_random, told_truly};
use store::{Store, StoreFault};
use tokio::time::timeout;

use crate::server::Server;

const URL: &str = "STORE_TEST_ETCD";
const SEED: &str = "STORE_TEST_SEED";

fn start(test: &str, url: &str, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--ignored"])
        .env(URL, url)
        .env(SEED, seed.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn given(name: &str) -> String {
    std::env::var(name).expect("started by another test")
}

fn setting(name: &str) -> Change {
    Setting { name: name.into(), value: 1.into() }.into()
}

/// Random changes from two other processes and this one: one history, the same for all, in which everything that was
/// acknowledged happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_under_races_of_processes() {
    let server = Server::start(&[]).await;
    let store = Store::open_etcd(&server.url()).await.unwrap();
    let start_revision = store.snapshot().revision();
    let seed = fastrand::u64(..);
    let children = [1, 2].map(|n| start("processes::child_commits_at_random", &server.url(), seed ^ n));
    let own = commit_at_random(&store, seed, 4);
    let outputs = tokio::task::spawn_blocking(move || children.map(|child| child.wait_with_output().unwrap()));
    let (mut acknowledged, outputs) = tokio::join!(own, outputs);
    for output in outputs.unwrap() {
        assert!(output.status.success(), "seed {seed}: {output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let told = lines.lines().filter_map(|line| line.strip_prefix("ack "));
        let told: Vec<(Revision, Change)> = told.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(told.len() > 20, "seed {seed}: the other process did only {}", told.len());
        acknowledged.extend(told);
    }
    told_truly(&store, start_revision, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "another test starts it"]
async fn child_commits_at_random() {
    let store = Store::open_etcd(&given(URL)).await.unwrap();
    for done in commit_at_random(&store, given(SEED).parse().unwrap(), 4).await {
        println!("\nack {}", serde_json::to_string(&done).unwrap());
    }
}

/// A leader that sleeps through the end of its lease cannot write when it wakes up, although it believes to lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_is_fenced() {
    let server = Server::start(&[]).await;
    let store = Store::open_etcd(&server.url()).await.unwrap();
    let mut child = start("processes::child_leads", &server.url(), 0);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "leads"));
    signal("STOP", &child);
    let leader = timeout(Duration::from_secs(60), store.lead("planner")).await.unwrap().unwrap();
    leader.store().commit(&setting("by the new leader")).await.unwrap();
    drop(child.stdin.take());
    signal("CONT", &child);
    assert!(lines.any(|line| line == "deposed"));
    child.wait().unwrap();
    assert_eq!(store.fresh().await.unwrap().all::<Setting>().count(), 2);
    leader.store().commit(&setting("and again")).await.unwrap();
}

fn signal(name: &str, child: &Child) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "another test starts it"]
async fn child_leads() {
    let store = Store::open_etcd(&given(URL)).await.unwrap();
    let leader = store.lead("planner").await.unwrap();
    leader.store().commit(&setting("by the first leader")).await.unwrap();
    println!("\nleads");
    // Blocks the only thread, so that nobody notices how late it is.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    match leader.store().commit(&setting("too late")).await {
        Err(StoreFault::Deposed(role)) if role == "planner" => println!("\ndeposed"),
        other => println!("\n{other:?}"),
    }
}
