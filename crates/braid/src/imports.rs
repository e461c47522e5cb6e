//! Fetches the bytes of images that are imported from elsewhere. What is to be fetched the images' rows say; of several
//! processes on one store one fetches, and whoever takes over, or comes back after a restart, begins anew. So an image is
//! `importing` only as long as somebody tries, and each try has an end.
//!
//! Refused: fetching in the request (its client would hold a thread, and its end would end the import); an agent's step (an
//! image belongs to no host).

mod web;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use blob::Blobs;
use face_openstack::image::imports::{ended, forget, room, started};
use model::reach::Range;
use model::{Event, Fault, Image, Kind, Network, Snapshot, Subnet, Time, WebDownload};
use store::{Concern, Interest, Store, Watch};
use tokio::task::{AbortHandle, JoinSet};

pub use web::Web;

/// The role of the process that fetches.
const ROLE: &str = "importer";
/// So many at once; and of one project. A project of which nothing is fetched yet does not wait for others: a source may take
/// hours to send what it has.
const MOST: usize = 8;
const MOST_OF_ONE: usize = 2;
const MOST_WITH_FIRST: usize = 64;
/// How often is looked though nothing happened: tasks are forgotten after a while.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How long to wait for a store that did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Runs until the process ends; fetches while this process leads.
pub async fn run(store: Store, blobs: Blobs, web: Web) {
    loop {
        match store.lead(ROLE).await {
            Ok(lead) => tokio::select! {
                () = work(lead.store(), &blobs, &web) => {}
                () = lead.lost() => {}
            },
            Err(fault) => {
                tracing::warn!("imports of images wait: {fault}");
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

/// An import, by its image and task.
type Id = (String, String);

/// Fetches for ever; what is under way ends with it.
async fn work(store: &Store, blobs: &Blobs, web: &Web) {
    let mut running = JoinSet::new();
    let mut handles: HashMap<Id, (AbortHandle, String)> = HashMap::new();
    let mut watch = None;
    loop {
        let snapshot = store.snapshot();
        if watch.is_none() {
            watch = store.watch_part(snapshot.revision(), IMPORTS).ok();
        }
        if let Err(fault) = forget(store, Time::now()).await {
            tracing::debug!("tasks of images stay: {fault}");
        }
        let wanted = wanted(&snapshot);
        handles.retain(|id, (handle, _)| {
            let stays = wanted.contains_key(id) && !handle.is_finished();
            if !stays {
                handle.abort();
            }
            stays
        });
        for (id, project) in next(&wanted, &handles) {
            let (store, blobs, web, job) = (store.clone(), blobs.clone(), web.clone(), id.clone());
            let handle = running.spawn(async move { import(&store, &blobs, &web, &job).await });
            handles.insert(id, (handle, project));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            Some(_) = running.join_next() => {}
            moved = news(&mut watch) => if moved.is_err() { watch = None },
        }
    }
}

/// What images wait for, by when they began to.
fn wanted(snapshot: &Snapshot) -> BTreeMap<Id, (Time, String)> {
    let each = |image: &Image| {
        let download = image.download.as_ref()?;
        Some(((image.id.clone(), download.task_id.clone()), (image.updated_at, image.project_id.clone())))
    };
    snapshot.all::<Image>().filter_map(|image| each(image.value)).collect()
}

/// Which are begun now: the oldest, within everybody's share.
fn next(wanted: &BTreeMap<Id, (Time, String)>, running: &HashMap<Id, (AbortHandle, String)>) -> Vec<(Id, String)> {
    let mut of: HashMap<&str, usize> = HashMap::new();
    for (_, project) in running.values() {
        *of.entry(project).or_default() += 1;
    }
    let mut waiting: Vec<_> = wanted.iter().filter(|(id, _)| !running.contains_key(*id)).collect();
    waiting.sort_by_key(|(_, (since, _))| *since);
    let mut chosen = Vec::new();
    for (id, (_, project)) in waiting {
        let count = of.entry(project).or_default();
        let all = running.len() + chosen.len();
        let fits = if *count == 0 { all < MOST_WITH_FIRST } else { *count < MOST_OF_ONE && all < MOST };
        if fits {
            *count += 1;
            chosen.push((id.clone(), project.clone()));
        }
    }
    chosen
}

/// One import from its beginning to its end.
async fn import(store: &Store, blobs: &Blobs, web: &Web, (image_id, task_id): &Id) {
    let snapshot = store.snapshot();
    let Some(image) = snapshot.get::<Image>(image_id) else { return };
    let Some(WebDownload { uri, .. }) = image.download.as_ref().filter(|one| one.task_id == *task_id) else { return };
    let written = async {
        started(store, task_id, Time::now()).await?;
        let most = room(&snapshot, &image.project_id);
        let fetched = web.fetch(uri, &public_ranges(&snapshot), blobs, most).await;
        if let Err(why) = &fetched {
            tracing::info!(image = image_id, "an image cannot be imported: {why}");
        }
        ended(store, image_id, task_id, fetched, Time::now()).await
    };
    if let Err(fault) = written.await {
        // It is begun anew.
        tracing::warn!(image = image_id, "an import cannot be written down: {fault}");
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Addresses of external networks: they lead to the cloud's servers and pods.
pub fn public_ranges(snapshot: &Snapshot) -> Vec<Range> {
    let external = |subnet: &Subnet| snapshot.get::<Network>(&subnet.network_id).is_some_and(|one| one.external);
    let all = snapshot.all::<Subnet>().filter(|subnet| external(subnet));
    all.filter_map(|subnet| Range::parse(&subnet.cidr())).collect()
}

/// Images that begin or cease to wait for something, and others that change: there are few.
const IMPORTS: Interest = Interest::Concern(Concern { name: "imports", rule: concerns });

fn concerns(event: &Event) -> bool {
    event.key.kind == Kind::Image
}

async fn news(watch: &mut Option<Watch>) -> Result<(), Fault> {
    let Some(watch) = watch else { return std::future::pending().await };
    watch.next().await.map(drop)
}

#[cfg(test)]
mod tests;
