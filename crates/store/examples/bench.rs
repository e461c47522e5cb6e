//! Measures commits of one row: `cargo run --release -p store --example bench -- [PATH|etcd://...|memory]`.

#![allow(clippy::print_stdout, reason = "its only output")]

use std::time::{Duration, Instant};

use model::{Change, Setting};
use store::{Store, StoreFault};

const COMMITS: usize = 2_000;

#[tokio::main]
async fn main() -> Result<(), StoreFault> {
    let place = std::env::args().nth(1).unwrap_or_else(|| "memory".into());
    let store = match &*place {
        "memory" => Store::memory(),
        url if url.contains("://") => Store::open_etcd(url).await?,
        path => Store::open_sqlite(path).await?,
    };
    for tasks in [1, 16, 128] {
        let before = transactions(&store);
        let start = Instant::now();
        let work: Vec<_> = (0..tasks).map(|task| tokio::spawn(commit(store.clone(), tasks, task))).collect();
        let mut times = Vec::new();
        for task in work {
            times.extend(task.await.map_err(|e| StoreFault::Broken(e.to_string()))??);
        }
        let rate = times.len() as f64 / start.elapsed().as_secs_f64();
        times.sort_unstable();
        let [p50, p99] = [times.len() / 2, times.len() * 99 / 100].map(|n| times[n]);
        let shared = (transactions(&store) - before) as f64 / times.len() as f64;
        println!(
            "{tasks:4} at once: {rate:8.0} commits/s, p50 {p50:?}, p99 {p99:?}, {shared:.3} transactions a commit"
        );
    }
    let start = Instant::now();
    (0..1_000_000).for_each(|_| _ = std::hint::black_box(store.snapshot()));
    println!("a snapshot: {:?}", start.elapsed() / 1_000_000);
    store.close().await;
    Ok(())
}

fn transactions(store: &Store) -> u64 {
    let counters = store.counters();
    counters.iter().find(|(name, _)| *name == "transactions").map_or(0, |(_, count)| *count)
}

async fn commit(store: Store, tasks: usize, task: usize) -> Result<Vec<Duration>, StoreFault> {
    let mut times = Vec::new();
    for n in 0..COMMITS / tasks {
        let mut change = Change::new();
        let name = format!("{task}-{}", n % 10);
        let value = serde_json::Value::from("x".repeat(1000));
        match store.snapshot().get::<Setting>(&name) {
            Some(row) => change.edit(row, |setting| setting.value = value),
            None => change.create(Setting { name, value }),
        };
        let start = Instant::now();
        store.commit(&change).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}
