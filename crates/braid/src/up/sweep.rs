//! Removes the bytes of images that no row needs any more: now and then, and soon after a row went that may have needed
//! some. What was written within the last hour stays, since its row may be about to come; so an upload is never raced. What
//! rows have needed goes five minutes after it was written, as soon as they are gone: nobody's quota counts it any more.
//!
//! Bytes that no row needed since this process began are put aside for a day instead: they may be another store's. On a host
//! that holds, since the store may not be its own, nothing is swept.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use blob::{Blobs, Sweep};
use face_openstack::image::{blobs_of, needed_blobs};
use model::{Event, Fault, Kind};
use store::{Concern, Interest, Store, Watch};

/// How often, though nothing was deleted.
const EVERY: Duration = Duration::from_secs(300);
/// Rows that go together need one sweep.
const CALM: Duration = Duration::from_secs(1);

/// Runs until the process ends. `holds`: whether nothing may be swept.
pub async fn run(store: Store, blobs: Blobs, holds: impl Fn() -> bool) {
    let begin = SystemTime::now();
    let mut watch = None;
    // What rows of this store have needed, as this process saw.
    let mut known = HashSet::new();
    loop {
        if let Err(fault) = face_registry::release(&store).await {
            tracing::warn!("blobs that no manifest names stay: {fault}");
        }
        let snapshot = store.snapshot();
        if watch.is_none() {
            watch = store.watch_part(snapshot.revision(), GONE).ok();
        }
        let pause = if holds() {
            CALM
        } else {
            let needed = needed_blobs(&snapshot);
            known.extend(needed.iter().cloned());
            let (sweep, folder) = (Sweep { needed, known: known.clone(), begin }, blobs.clone());
            match tokio::task::spawn_blocking(move || folder.sweep(&sweep)).await {
                Ok(Ok((0, 0))) => {}
                Ok(Ok((removed, aside))) => tracing::info!(removed, aside, "bytes of images that nobody needs"),
                Ok(Err(e)) => tracing::warn!("bytes that nobody needs stay: {e}"),
                Err(e) if e.is_cancelled() => {}
                Err(e) => tracing::error!("{e}"),
            }
            EVERY
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            gone = deleted(&mut watch) => match gone {
                Ok(gone) => {
                    known.extend(gone);
                    tokio::time::sleep(CALM).await;
                }
                Err(_) => watch = None,
            },
        }
    }
}

/// Rows that are gone and may have needed bytes.
const GONE: Interest = Interest::Concern(Concern { name: "bytes", rule: gone });

fn gone(event: &Event) -> bool {
    event.after.is_none()
        && matches!(event.key.kind, Kind::Image | Kind::OciBlob | Kind::OciManifest | Kind::Vm | Kind::Server)
}

/// Waits until rows go that may have needed bytes; which they needed.
async fn deleted(watch: &mut Option<Watch>) -> Result<HashSet<String>, Fault> {
    let Some(watch) = watch else { return std::future::pending().await };
    let commits = watch.next().await?;
    let rows = commits.iter().flat_map(|commit| &commit.events).filter_map(|event| event.before.as_ref());
    Ok(rows.flat_map(|row| blobs_of(&row.object)).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use model::{Change, Object, OciBlob, OciManifest};

    use super::*;

    fn manifest(blob: &str) -> OciManifest {
        let digest = format!("sha256:{blob}");
        serde_json::from_value(serde_json::json!({
            "project_id": "", "repository": "r", "digest": digest, "media_type": "m", "size": 1, "refers": [],
            "created_at": "2030-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    #[test]
    fn what_a_manifest_only_refers_to_it_does_not_keep() {
        let (own, theirs) = ("a".repeat(64), "b".repeat(64));
        let mut manifest = manifest(&own);
        manifest.refers = vec![format!("sha256:{theirs}")];
        assert_eq!(blobs_of(&Object::from(manifest.clone())), [own.clone(), theirs], "of old: nothing else is known");
        manifest.blobs = vec![manifest.digest.clone()];
        assert!(blobs_of(&Object::from(manifest)).is_empty(), "its blobs are rows, which name their files");
        let blob: OciBlob = serde_json::from_value(serde_json::json!({
            "project_id": "", "digest": "sha512:0", "sha256": own, "size": 1, "created_at": "2030-01-01T00:00:00Z",
        }))
        .unwrap();
        assert_eq!(blobs_of(&Object::from(blob)), [own]);
    }

    #[tokio::test]
    async fn bytes_go_with_the_row_that_needed_them() {
        let dir = tempfile::tempdir().unwrap();
        let (store, blobs) = (Store::memory(), Blobs::new(dir.path()));
        let old = SystemTime::now() - Duration::from_secs(7200);
        let [needed, unneeded, claimed] = ["needed", "unneeded", "claimed"].map(|text| {
            let name = blobs.put(text.as_bytes()).unwrap().sha256;
            std::fs::File::options().append(true).open(blobs.path(&name)).unwrap().set_modified(old).unwrap();
            name
        });
        let young = blobs.put(b"young").unwrap().sha256;
        let brief = blobs.put(b"brief").unwrap().sha256;
        let then = SystemTime::now() - Duration::from_secs(360);
        std::fs::File::options().append(true).open(blobs.path(&brief)).unwrap().set_modified(then).unwrap();
        assert_eq!(blobs.claim(&claimed), Some(7));
        let (row, short) = (Object::from(manifest(&needed)), Object::from(manifest(&brief)));
        let mut change = Change::from(row.clone());
        change.create(short.clone());
        store.commit(&change).await.unwrap();

        let sweeper = tokio::spawn(run(store.clone(), blobs.clone(), || false));
        let until_gone = async |name: &str| {
            let begin = Instant::now();
            while blobs.size(name).is_some() {
                assert!(begin.elapsed() < Duration::from_secs(60), "it stays");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        until_gone(&unneeded).await;
        // It was there before this process was: another store may need it.
        assert_eq!(blobs.put_aside(&unneeded), Some(8));
        assert!([&needed, &claimed, &young, &brief].iter().all(|name| blobs.size(name).is_some()));

        let snapshot = store.snapshot();
        let mut change = Change::new();
        change.delete(snapshot.at::<OciManifest>(&row.key()).unwrap());
        change.delete(snapshot.at::<OciManifest>(&short.key()).unwrap());
        store.commit(&change).await.unwrap();
        until_gone(&needed).await;
        assert_eq!(blobs.put_aside(&needed), None, "this store has needed it, and has deleted who did");
        until_gone(&brief).await;
        let left: u64 = [&needed, &brief, &claimed, &young].iter().filter_map(|name| blobs.size(name)).sum();
        assert_eq!(left, 7 + 5, "what was claimed, and what no row has needed yet");
        sweeper.abort();
    }
}
