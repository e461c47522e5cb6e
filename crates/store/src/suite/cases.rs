//! Cases with one thing to show each.

use std::time::Duration;

use model::{Change, Event, Fault, Kind, Realm, Refused, Resource, Revision, Write};
use tokio::time::timeout;

use super::reference::Reference;
use super::world::{domain, host, kube, network, project, quota, setting};
use super::{Site, pair, rounds};
use crate::{Concern, Interest, MAX_BYTES, MAX_WRITES, Store, StoreFault};

/// Long enough for whatever must happen; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(30);

async fn put(store: &Store, objects: impl IntoIterator<Item = model::Object>) -> Revision {
    let mut change = Change::new();
    change.writes.extend(objects.into_iter().map(Write::Create));
    store.commit(&change).await.unwrap()
}

/// Runs a commit from each of many tasks over both handles, as near to the same moment as can be.
async fn race(stores: &[Store; 2], changes: Vec<Change>) -> Vec<Result<Revision, StoreFault>> {
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(changes.len()));
    let tasks: Vec<_> = changes
        .into_iter()
        .enumerate()
        .map(|(n, change)| {
            let (store, barrier) = (stores[n % 2].clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                store.commit(&change).await
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

/// Of many that want one name, one gets it and the others are told who.
pub async fn names_under_races(site: &dyn Site) {
    let stores = pair(site).await;
    for round in 0..rounds(5) {
        let wanted = |n: usize| Change::from(domain(&format!("d{round}-{n}"), &format!("name{round}")));
        let results = race(&stores, (0..16).map(wanted).collect()).await;
        let won: Vec<usize> = (0..16).filter(|n| results[*n].is_ok()).collect();
        assert_eq!(won.len(), 1, "{results:?}");
        let holder = domain(&format!("d{round}-{}", won[0]), "").key();
        for result in results.into_iter().filter_map(Result::err) {
            let StoreFault::Refused(Refused::Taken { holder: told, .. }) = result else { panic!("{result}") };
            assert_eq!(told, holder);
        }
    }
}

/// A pool is used up to its limit exactly, whoever comes first, and what is given back can be used again.
pub async fn pools_under_races(site: &dyn Site) {
    let stores = pair(site).await;
    put(&stores[0], [domain("d", "d").into(), project("p", "p", "d").into(), quota("p", Some(7)).into()]).await;
    stores[1].fresh().await.unwrap();
    let wanted = |n: u32| Change::from(network(&format!("n{n}"), "p", n));
    let results = race(&stores, (0..24).map(wanted).collect()).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 7, "{results:?}");
    for result in results.into_iter().filter_map(Result::err) {
        let StoreFault::Refused(refused) = result else { panic!("{result}") };
        let full = Refused::Exceeded { pool: "quota/p/network".into(), asked: 1, used: 7, limit: 7 };
        assert_eq!(refused, full);
        assert!(matches!(Fault::from(refused), Fault::Quota { resource, .. } if resource == "network"));
    }
    let snapshot = stores[0].fresh().await.unwrap();
    let mut fewer = Change::new();
    snapshot.all::<model::Network>().take(3).for_each(|network| _ = fewer.delete(network));
    stores[0].commit(&fewer).await.unwrap();
    stores[1].fresh().await.unwrap();
    for store in &stores {
        assert_eq!(store.pool("quota/p/network"), model::Pool { used: 4, limit: Some(7) });
    }
    let again = |n: u32| Change::from(network(&format!("m{n}"), "p", 100 + n));
    let results = race(&stores, (0..8).map(again).collect()).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 3, "{results:?}");
}

/// Nothing is made on what is being deleted, and nothing deleted that something was made on.
pub async fn needs_under_races(site: &dyn Site) {
    let stores = pair(site).await;
    for round in 0..rounds(12) {
        let (d, p) = (format!("d{round}"), format!("p{round}"));
        put(&stores[0], [domain(&d, &d).into()]).await;
        stores[1].fresh().await.unwrap();
        let mut gone = Change::new();
        gone.delete(stores[0].snapshot().get::<model::Domain>(&d).unwrap());
        let changes = if round % 2 == 0 {
            vec![gone, project(&p, &p, &d).into()]
        } else {
            vec![project(&p, &p, &d).into(), gone]
        };
        let results = race(&stores, changes).await;
        let end = stores[0].fresh().await.unwrap();
        let there = (end.get::<model::Domain>(&d).is_some(), end.get::<model::Project>(&p).is_some());
        assert!(matches!(there, (true, true) | (false, false)), "{there:?} {results:?}");
        for result in results.into_iter().filter_map(Result::err) {
            let expected =
                matches!(&result, StoreFault::Refused(Refused::Missing(_) | Refused::InUse { users: 1, .. }));
            assert!(expected, "{result:?}");
        }
    }
}

/// A refused change leaves nothing: no row, no name, no use, no revision.
pub async fn refusals_leave_nothing(site: &dyn Site) {
    let store = site.open().await;
    put(&store, [domain("d", "d").into(), project("p", "p", "d").into(), quota("p", Some(1)).into()]).await;
    let before = store.book();
    let mut change = Change::new();
    change.create(domain("e", "e")).create(network("a", "p", 1)).create(network("b", "p", 2));
    let refused = store.commit(&change).await.unwrap_err();
    assert!(
        matches!(&refused, StoreFault::Refused(Refused::Exceeded { asked: 2, used: 0, limit: 1, .. })),
        "{refused:?}"
    );
    let mut change = Change::new();
    change.create(setting("s", 1)).create(project("q", "q", "nowhere"));
    let refused = store.commit(&change).await.unwrap_err();
    assert!(matches!(refused, StoreFault::Refused(Refused::Missing(_))));
    let after = store.book();
    store.fresh().await.unwrap();
    assert_eq!(Reference::of(&before.snapshot), Reference::of(&after.snapshot));
    assert_eq!((before.revision(), before.ledger), (after.revision(), after.ledger));
    assert!(store.commit(&network("a", "p", 1).into()).await.is_ok());
    // The refused domain's name is free; a whole family goes in one change, children and parents in any order.
    assert!(store.commit(&domain("f", "e").into()).await.is_ok());
    let snapshot = store.fresh().await.unwrap();
    let mut change = Change::new();
    change
        .delete(snapshot.get::<model::Domain>("d").unwrap())
        .delete(snapshot.get::<model::Project>("p").unwrap())
        .delete(snapshot.get::<model::Quota>("p").unwrap())
        .create(domain("g", "d"));
    store.commit(&change).await.unwrap();
    assert_eq!(store.pool("quota/p/network"), model::Pool { used: 1, limit: None });
}

async fn catch(store: &Store, from: Revision, state: &mut Reference) {
    let mut watch = store.watch(from).unwrap();
    let end = store.snapshot().revision();
    let mut seen = from;
    while seen < end {
        for commit in timeout(SOON, watch.next()).await.expect("the watch goes on").unwrap() {
            assert!(commit.revision > seen);
            seen = commit.revision;
            state.replay(&commit);
        }
    }
    assert_eq!(*state, Reference::of(&store.snapshot()));
}

/// A watch that resumes anywhere tells everything after it once, in order.
pub async fn watch_resumes(site: &dyn Site) {
    let [store, other] = pair(site).await;
    let mut points = vec![store.snapshot()];
    for n in 0..30 {
        other.commit(&setting(&format!("s{n}"), n).into()).await.unwrap();
        store.fresh().await.unwrap();
        store
            .transact(|now| {
                let mut change = Change::new();
                let row = now.all::<model::Setting>().next().ok_or(Fault::invalid("there is one"))?;
                if n % 3 == 0 {
                    change.delete(row)
                } else {
                    change.edit(row, |s| s.value = n.into())
                };
                Ok((change, ()))
            })
            .await
            .unwrap();
        points.push(store.snapshot());
    }
    other.fresh().await.unwrap();
    for point in points {
        for store in [&store, &other] {
            catch(store, point.revision(), &mut Reference::of(&point)).await;
        }
    }
    // A running watch that was dropped in the middle of waiting has lost nothing.
    let mut watch = store.watch(store.snapshot().revision()).unwrap();
    assert!(timeout(Duration::from_millis(20), watch.next()).await.is_err());
    let revision = put(&other, [setting("last", 1).into()]).await;
    let commits = timeout(SOON, watch.next()).await.unwrap().unwrap();
    assert_eq!(commits.iter().map(|c| c.revision).collect::<Vec<_>>(), [revision]);
    store.close().await;
    assert!(matches!(timeout(SOON, watch.next()).await.unwrap(), Err(Fault::Unavailable(_))));
    assert!(matches!(store.commit(&setting("late", 1).into()).await, Err(StoreFault::Broken(_))));
}

/// Somebody who has seen a revision that this store never had is told, and does not wait for ever.
pub async fn watches_from_the_future(site: &dyn Site) {
    let store = site.open().await;
    let revision = put(&store, [setting("s", 1).into()]).await;
    let mut watch = store.watch(revision + 1000).unwrap();
    assert!(matches!(timeout(SOON, watch.next()).await.unwrap(), Err(Fault::Expired(_))));
}

/// Watchers of a part see all of it and are not woken for the rest.
pub async fn parts(site: &dyn Site) {
    let store = site.open().await;
    let pods = |cluster: &str| Interest::Rows {
        kind: Kind::KubeObject,
        realm: Some(Realm::Cluster(cluster.into())),
        prefix: "/pods/".into(),
    };
    let namespace = |cluster: &str| kube(cluster, "namespaces", "", "ns", serde_json::json!({})).into();
    let pod = |cluster: &str, name: &str| kube(cluster, "pods", "ns", name, serde_json::json!({})).into();
    let start = put(&store, [namespace("one"), namespace("two")]).await;
    put(&store, [pod("one", "early")]).await;
    let mut watches: Vec<_> = (0..200).map(|_| store.watch_part(start, pods("one")).unwrap()).collect();
    let mut settings = store.watch_part(start, Interest::kind(Kind::Setting)).unwrap();
    let rule = |event: &Event| &*event.key.name == "s7";
    let seventh = Interest::Concern(Concern { name: "the seventh setting", rule });
    let mut seventh = store.watch_part(start, seventh).unwrap();
    for watch in &mut watches {
        assert_eq!(watch.next().await.unwrap().len(), 1);
    }
    for n in 0..20 {
        put(&store, [setting(&format!("s{n}"), n).into(), pod("two", &format!("p{n}"))]).await;
    }
    let quiet = timeout(Duration::from_millis(20), watches[0].next()).await;
    assert!(quiet.is_err(), "nothing of interest: {quiet:?}");
    let picked = timeout(SOON, seventh.next()).await.unwrap().unwrap();
    assert!(picked.len() == 1 && picked[0].events.iter().any(|e| &*e.key.name == "s7"), "{picked:?}");
    let newest = store.snapshot().revision();
    assert_eq!(watches[0].seen(), newest);
    let mut told = 0;
    while told < 20 {
        told += timeout(SOON, settings.next()).await.unwrap().unwrap().len();
    }
    assert_eq!(settings.seen(), newest);
    let late = put(&store, [pod("one", "late"), pod("two", "late")]).await;
    for watch in &mut watches {
        let commits = timeout(SOON, watch.next()).await.unwrap().unwrap();
        assert_eq!(commits.iter().map(|c| c.revision).collect::<Vec<_>>(), [late]);
    }
    // What is forgotten of others makes no watch too old, what it has not heard itself does.
    let news = [setting("later", 1).into(), pod("two", "later")];
    let newest = put(&store, news).await;
    store.compact(newest).await.unwrap();
    let old = settings.next_now();
    assert!(matches!(old, Err(Fault::Expired(_))), "{old:?}");
    assert!(matches!(watches[1].next_now(), Ok(None)));
    put(&store, [pod("one", "later")]).await;
    let told = watches[2].next_now();
    assert!(matches!(told, Ok(Some(_))), "{told:?}");
}

/// What was compacted is said to be; what was not can still be watched.
pub async fn compaction(site: &dyn Site) {
    let store = site.open().await;
    let mut points = Vec::new();
    for n in 0..10 {
        put(&store, [setting(&format!("s{n}"), n).into()]).await;
        points.push(store.snapshot());
    }
    let mut behind = store.watch(points[2].revision()).unwrap();
    store.compact(points[5].revision()).await.unwrap();
    // Again, and less, is no error.
    store.compact(points[5].revision()).await.unwrap();
    store.compact(points[3].revision()).await.unwrap();
    assert!(matches!(store.watch(points[4].revision()).err(), Some(Fault::Expired(_))));
    assert!(matches!(behind.next().await, Err(Fault::Expired(_))));
    for point in &points[5..] {
        catch(&store, point.revision(), &mut Reference::of(point)).await;
    }
    let store = if site.resumes() {
        store.close().await;
        site.open().await
    } else {
        store
    };
    for point in points[5..].iter().filter(|_| site.resumes()) {
        catch(&store, point.revision(), &mut Reference::of(point)).await;
    }
    let rows = Reference::of(&store.snapshot());
    store.compact(Revision::MAX >> 1).await.unwrap();
    assert_eq!(Reference::of(&store.fresh().await.unwrap()), rows);
    let revision = put(&store, [setting("after", 1).into()]).await;
    assert!(revision > points[9].revision());
    if site.durable() {
        store.close().await;
        let store = site.open().await;
        assert_eq!(store.snapshot().revision(), revision);
        assert!(matches!(store.watch(points[4].revision()).err(), Some(Fault::Expired(_))));
    }
}

/// A commit that leaves no row behind has a revision all the same, and the next one a higher, also after a restart.
pub async fn deletions_count(site: &dyn Site) {
    let store = site.open().await;
    put(&store, [setting("s", 1).into()]).await;
    let mut change = Change::new();
    change.delete(store.snapshot().get::<model::Setting>("s").unwrap());
    let deleted = store.commit(&change).await.unwrap();
    assert_eq!(store.snapshot().revision(), deleted);
    assert_eq!(store.commit(&Change::new()).await.unwrap(), deleted, "an empty change is no commit");
    let store = if site.durable() {
        store.close().await;
        site.open().await
    } else {
        store
    };
    assert_eq!(store.snapshot().revision(), deleted);
    assert!(store.snapshot().is_empty());
    let again = put(&store, [setting("s", 1).into()]).await;
    assert!(again > deleted);
    let row = store.snapshot().get::<model::Setting>("s").unwrap().row.clone();
    assert_eq!((row.created, row.modified), (again, again));
}

/// A store that is opened again is the same store.
pub async fn reopening(site: &dyn Site) {
    if !site.durable() {
        return;
    }
    let store = site.open().await;
    put(&store, [domain("d", "d").into(), project("p", "p", "d").into(), quota("p", Some(2)).into()]).await;
    put(&store, [host("h", 4000).into(), network("n", "p", 1).into()]).await;
    let point = store.snapshot();
    put(&store, [setting("ümlaut/with \"all\" sorts\u{1f680}", u64::MAX).into()]).await;
    let mut change = Change::new();
    change.edit(store.snapshot().get::<model::Network>("n").unwrap(), |n| n.vni = 9);
    change.delete(store.snapshot().get::<model::Host>("h").unwrap());
    store.commit(&change).await.unwrap();
    let before = store.book();
    store.close().await;
    drop(store);
    let store = site.open().await;
    let after = store.book();
    assert_eq!(Reference::of(&before.snapshot), Reference::of(&after.snapshot));
    assert_eq!((before.revision(), before.ledger), (after.revision(), after.ledger));
    if site.resumes() {
        catch(&store, point.revision(), &mut Reference::of(&point)).await;
    } else {
        assert!(matches!(store.watch(point.revision()).err(), Some(Fault::Expired(_))));
    }
    // The claims stand again: one name taken, one free, one network left.
    let taken = store.commit(&network("m", "p", 9).into()).await.unwrap_err();
    assert!(matches!(taken, StoreFault::Refused(Refused::Taken { .. })), "{taken:?}");
    store.commit(&network("m", "p", 1).into()).await.unwrap();
    let full = store.commit(&network("o", "p", 2).into()).await.unwrap_err();
    assert!(matches!(full, StoreFault::Refused(Refused::Exceeded { used: 2, limit: 2, .. })), "{full:?}");
}

/// Changes up to the stated limits go through; larger ones are refused whole.
pub async fn limits(site: &dyn Site) {
    let store = site.open().await;
    let many = |n: usize| (0..n).map(|n| setting(&format!("s{n}"), 1).into());
    let mut change = Change::new();
    change.writes.extend(many(MAX_WRITES + 1).map(Write::Create));
    assert!(matches!(store.commit(&change).await, Err(StoreFault::TooLarge(_))));
    change.writes.pop();
    store.commit(&change).await.unwrap();
    assert_eq!(store.snapshot().len(), MAX_WRITES);
    let large = |bytes: usize| {
        let value = serde_json::Value::String("x".repeat(bytes));
        Change::from(model::Setting { name: "large".into(), value })
    };
    assert!(matches!(store.commit(&large(MAX_BYTES)).await, Err(StoreFault::TooLarge(_))));
    store.commit(&large(MAX_BYTES - 100)).await.unwrap();
    assert!(matches!(Fault::from(StoreFault::TooLarge(String::new())), Fault::TooLarge(_)));
}

/// Who leads can write as the leader; who has lost it cannot, also before it knows.
pub async fn leadership(site: &dyn Site) {
    let [first, second] = pair(site).await;
    let leader = timeout(SOON, first.lead("planner")).await.unwrap().unwrap();
    assert!(!leader.is_lost());
    leader.store().commit(&setting("a", 1).into()).await.unwrap();
    if !site.shared() {
        return;
    }
    assert!(timeout(Duration::from_millis(700), second.lead("planner")).await.is_err(), "one leads");
    timeout(SOON, second.lead("something else")).await.unwrap().unwrap();
    let as_leader = leader.store().clone();
    drop(leader);
    // The handle alone keeps the leadership, as a running planner has it; without it somebody else may lead.
    as_leader.commit(&setting("b", 1).into()).await.unwrap();
    drop(as_leader);
    let next = timeout(SOON, second.lead("planner")).await.unwrap().unwrap();
    assert_eq!(next.store().snapshot().len(), 2, "the next leader has seen what the former one wrote");
    next.store().commit(&setting("c", 1).into()).await.unwrap();
    first.commit(&setting("d", 1).into()).await.unwrap();
}
