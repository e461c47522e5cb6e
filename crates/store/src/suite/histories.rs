//! Random histories, one after the other and at the same time, against the reference.

use fastrand::Rng;
use model::{Change, Refused, Revision, Snapshot};

use super::reference::Reference;
use super::{Site, pair, rounds, seeded, world};
use crate::{Book, Store, StoreFault};

/// Everything that can be seen of a store is as the reference says.
fn same(store: &Store, reference: &Reference, revision: Revision) {
    let book = store.book();
    assert_eq!(book.revision(), revision, "the store's revision");
    assert_eq!(Reference::of(&book.snapshot), *reference, "the rows");
    let again = Book::load(book.snapshot.rows().map(|row| (**row).clone()), revision);
    assert_eq!(book.ledger, again.ledger, "the claims follow from the rows");
}

/// Random changes one by one, from old and new views, through two handles, with the store closed and compacted in between:
/// what is accepted, what is refused and why, and what is there afterwards.
pub async fn histories(site: &dyn Site) {
    seeded("histories", async |seed| {
        let mut rng = Rng::with_seed(seed);
        let mut stores = pair(site).await;
        let (mut reference, mut revision) = (Reference::default(), stores[0].snapshot().revision());
        let mut old: Vec<Snapshot> = vec![stores[0].snapshot()];
        let mut counts = [0; 2];
        for _ in 0..rounds(400) {
            let store = &stores[rng.usize(..2)];
            let view =
                if rng.u8(..5) == 0 { old[rng.usize(..old.len())].clone() } else { store.fresh().await.unwrap() };
            let change = world::change(&mut rng, &view);
            let done = step(store, &mut reference, &mut revision, &change).await;
            counts[usize::from(done)] += 1;
            if rng.u8(..20) == 0 {
                old.push(store.snapshot());
            }
            if rng.u8(..60) == 0 {
                store.compact(revision.saturating_sub(rng.u64(..20))).await.unwrap();
            }
            if site.durable() && rng.u8(..80) == 0 {
                stores[0].close().await;
                stores[1].close().await;
                stores = pair(site).await;
            }
            for store in &stores {
                store.fresh().await.unwrap();
                same(store, &reference, revision);
            }
        }
        assert_eq!(stores[0].audit().await.unwrap(), Vec::<String>::new(), "stored claims");
        assert!(counts.iter().all(|n| *n > rounds(400) / 20), "too one-sided to mean much: {counts:?}");
    })
    .await;
}

async fn step(store: &Store, reference: &mut Reference, revision: &mut Revision, change: &Change) -> bool {
    match store.commit(change).await {
        Ok(next) => {
            assert!(next > *revision, "revision {next} after {revision}");
            let after = reference.accept(change, next);
            *reference = after.unwrap_or_else(|| panic!("accepted what must be refused: {change:?}"));
            *revision = next;
            true
        }
        Err(StoreFault::Refused(refused)) => {
            assert!(reference.accept(change, Revision::MAX).is_none(), "refused ({refused}) what fits: {change:?}");
            assert!(reference.confirms(change, &refused), "refused for a wrong reason: {refused:?} {change:?}");
            false
        }
        Err(fault) => panic!("{fault}"),
    }
}

/// Random changes from many tasks at once. The watch then tells one history; every commit of it must have been possible
/// where it stands, and be exactly what its committer had asked for.
pub async fn concurrent_histories(site: &dyn Site) {
    seeded("concurrent_histories", async |seed| {
        let stores = pair(site).await;
        let start = stores[0].snapshot().revision();
        let (one, two) = tokio::join!(commit_at_random(&stores[0], seed, 4), commit_at_random(&stores[1], !seed, 4));
        let acknowledged: Vec<(Revision, Change)> = one.into_iter().chain(two).collect();
        assert!(acknowledged.len() > rounds(40), "only {} commits went through", acknowledged.len());
        for store in &stores {
            told_truly(store, start, &acknowledged).await;
        }
    })
    .await;
}

/// Commits random changes from several tasks at once: what was acknowledged.
pub async fn commit_at_random(store: &Store, seed: u64, tasks: u64) -> Vec<(Revision, Change)> {
    let committer = |n: u64| tokio::spawn(committer(store.clone(), Rng::with_seed(seed ^ (n << 32))));
    let tasks: Vec<_> = (0..tasks).map(committer).collect();
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    acknowledged
}

async fn committer(store: Store, mut rng: Rng) -> Vec<(Revision, Change)> {
    let mut done = Vec::new();
    for _ in 0..rounds(60) {
        let change = world::change(&mut rng, &store.snapshot());
        match store.commit(&change).await {
            Ok(revision) => {
                assert!(store.snapshot().revision() >= revision, "one's own commit is visible");
                done.push((revision, change));
            }
            Err(StoreFault::Refused(Refused::Stale(_))) => tokio::task::yield_now().await,
            Err(StoreFault::Refused(_)) => {}
            Err(fault) => panic!("{fault}"),
        }
    }
    done
}

/// Watches a store that was empty at `start`: it tells the acknowledged commits, each possible where it stands, and no
/// others.
pub async fn told_truly(store: &Store, start: Revision, acknowledged: &[(Revision, Change)]) {
    let mut expected: Vec<&(Revision, Change)> = acknowledged.iter().collect();
    expected.sort_by_key(|(revision, _)| *revision);
    let mut expected = expected.into_iter();
    let end = store.fresh().await.unwrap().revision();
    let mut reference = Reference::default();
    let mut watch = store.watch(start).unwrap();
    let mut seen = start;
    while seen < end {
        for commit in watch.next().await.unwrap() {
            assert!(commit.revision > seen, "commits in order");
            seen = commit.revision;
            let (revision, change) = expected.next().expect("a commit that nobody made");
            assert_eq!(*revision, seen);
            let after = reference.accept(change, seen).expect("a commit that was not possible");
            reference.replay(&commit);
            assert_eq!(reference, after, "commit {seen} is not what was asked for");
        }
    }
    assert!(expected.next().is_none(), "an acknowledged commit is missing");
    same(store, &reference, end);
    assert_eq!(store.audit().await.unwrap(), Vec::<String>::new(), "stored claims");
}
