//! What every backend must pass. A backend's tests implement [`Site`] and call [`conformance!`](crate::conformance); see
//! `tests/` for the three there are. Everything here panics when a store does not do what it must.
//!
//! Random cases take their seed from `STORE_SEED`, or the clock; a failure names the seed and how to run it again.

mod cases;
mod histories;
mod reference;
mod world;

use async_trait::async_trait;
use futures_util::FutureExt;

use crate::Store;

pub use cases::{
    compaction, deletions_count, leadership, limits, names_under_races, needs_under_races, parts, pools_under_races,
    refusals_leave_nothing, reopening, watch_resumes, watches_from_the_future,
};
pub use histories::{commit_at_random, concurrent_histories, histories, told_truly};

/// A place where one store's data is.
#[async_trait]
pub trait Site: Send + Sync {
    /// Opens the store.
    async fn open(&self) -> Store;

    /// Whether it can be opened several times at once, as by several processes.
    fn shared(&self) -> bool;

    /// Whether what was committed is there when it is closed and opened again.
    fn durable(&self) -> bool;

    /// Whether watches resume after it was closed and opened again.
    fn resumes(&self) -> bool;
}

/// Two handles on the same data: opened twice where that is possible.
pub(crate) async fn pair(site: &dyn Site) -> [Store; 2] {
    let first = site.open().await;
    let second = if site.shared() { site.open().await } else { first.clone() };
    [first, second]
}

/// Runs a random case with a seed; says on failure how to run it again.
pub(crate) async fn seeded<F: Future<Output = ()>>(name: &str, run: impl FnOnce(u64) -> F) {
    let seed = match std::env::var("STORE_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("STORE_SEED is not a number: {text}")),
        Err(_) => fastrand::u64(..),
    };
    if let Err(cause) = std::panic::AssertUnwindSafe(run(seed)).catch_unwind().await {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|t| t.to_string())).unwrap_or_default();
        panic!("seed {seed}: {text}\nrun it again with: STORE_SEED={seed} cargo test -p store {name}");
    }
}

/// How often random cases run: `STORE_ROUNDS` times what they do by default.
pub(crate) fn rounds(usual: usize) -> usize {
    let times = std::env::var("STORE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    usual * times
}

/// One test for each case of the suite. The argument is an async function that makes a [`Site`](crate::suite::Site).
#[macro_export]
macro_rules! conformance {
    ($make:path) => {
        $crate::conformance!($make:
            histories, concurrent_histories, names_under_races, pools_under_races, needs_under_races,
            refusals_leave_nothing, watch_resumes, watches_from_the_future, parts, compaction, deletions_count,
            reopening, limits, leadership
        );
    };
    ($make:path: $($case:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let site = $make().await;
                $crate::suite::$case(&site).await;
            }
        )*
    };
}
