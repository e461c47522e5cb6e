//! Requests of those who want what is not theirs: more room, more memory, another's browser.

mod common;

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use common::{MANIFEST, World, digest};
use http::StatusCode;
use model::{Actor, Assignment, Change, OciBlob, OciManifest, OciTag};
use serde_json::json;
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_secs(60);

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap()
}

/// A body that comes when the test sends it.
fn body() -> (mpsc::Sender<&'static [u8]>, Body) {
    let (sender, receiver) = mpsc::channel::<&'static [u8]>(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok::<_, std::io::Error>(Bytes::from_static(bytes)), receiver))
    });
    (sender, Body::from_stream(stream))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_given_up_takes_no_more() {
    let world = World::new().await;
    world.limit("demo", "registry_size_total", 1).await;
    let mib = "x".repeat(1 << 20);
    let begun = world.post(&world.demo, "demo/big/blobs/uploads/", "").await.header("location");
    let at = begun.trim_start_matches("/v2/");
    let (sender, body) = body();
    let bearer = world.bearer(&world.demo);
    let adding = world.send("PATCH", at, &bearer, &[], body);
    let giving_up = async {
        sender.send(b"hello").await.unwrap();
        while world.get(&world.demo, at).await.header("range") != "0-4" {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.delete(&world.demo, at).await.status, status(204));
    };
    let both = tokio::time::timeout(LONG, async { tokio::join!(adding, giving_up) }).await;
    let (added, ()) = both.expect("it is stopped though more may come");
    assert_eq!((added.status, added.code()), (status(404), "BLOB_UPLOAD_UNKNOWN".to_owned()));
    assert!(sender.send(b"more").await.is_err(), "nobody reads");
    let upload = format!("demo/big/blobs/uploads/?digest={}", digest(mib.as_bytes()));
    assert_eq!(world.post(&world.demo, &upload, &mib).await.status, status(201), "its room is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_takes_no_place() {
    let world = World::new().await;
    let bearer = world.bearer(&world.demo);
    let path = format!("demo/web/blobs/uploads/?digest={}", digest(b"hello"));
    for _ in 0..40 {
        let broken = [Ok(Bytes::from_static(b"he")), Err(std::io::Error::other("the client is gone"))];
        let body = Body::from_stream(futures_util::stream::iter(broken));
        let got = world.send("POST", &path, &bearer, &[], body).await;
        assert_eq!((got.status, got.code()), (status(400), "BLOB_UPLOAD_INVALID".to_owned()));
    }
    assert_eq!(world.post(&world.demo, &path, "hello").await.status, status(201));
    // Those that a client may go on with are its project's share.
    for _ in 0..32 {
        assert_eq!(world.post(&world.demo, "demo/web/blobs/uploads/", "").await.status, status(202));
    }
    let refused = world.post(&world.demo, "demo/web/blobs/uploads/", "").await;
    assert_eq!((refused.status, refused.header("retry-after")), (status(429), "60".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_is_as_long_as_it_says() {
    let world = World::new().await;
    let begun = world.post(&world.demo, "demo/web/blobs/uploads/", "").await.header("location");
    let at = begun.trim_start_matches("/v2/");
    let bearer = world.bearer(&world.demo);
    // Without a Content-Length nothing says beforehand how much comes.
    for (range, parts, code, then) in [
        ("0-4", vec![&b"hello"[..], b" world"], 400, "0-4"),
        ("5-10", vec![&b" wo"[..]], 400, "0-7"),
        ("8-10", vec![&b"r"[..], b"ld"], 202, "0-10"),
    ] {
        let body = Body::from_stream(futures_util::stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>)));
        let got = world.send("PATCH", at, &bearer, &[("content-range", range)], body).await;
        assert_eq!(got.status, status(code), "{range}: {}", got.text());
        assert_eq!(world.get(&world.demo, at).await.header("range"), then, "{range}");
    }
    let done = world.put(&world.demo, &format!("{at}?digest={}", digest(b"hello world")), "", String::new()).await;
    assert_eq!(done.status, status(201), "{}", done.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_counted_by_what_they_name() {
    let world = World::new().await;
    let layers: Vec<_> = [b"1", b"2"].into_iter().map(|bytes| json!({"digest": digest(bytes)})).collect();
    for bytes in [b"1", b"2"] {
        world.push_blob(&world.demo, "demo/web", bytes).await;
    }
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers}).to_string();
    world.limit("demo", "registry_references", 6).await;
    // Its bytes are there once; its rows are not.
    for repository in ["demo/one", "demo/two"] {
        let put = world.put(&world.demo, &format!("{repository}/manifests/v1"), MANIFEST, manifest.clone()).await;
        assert_eq!(put.status, status(201), "{}", put.text());
    }
    let refused = world.put(&world.demo, "demo/three/manifests/v1", MANIFEST, manifest.clone()).await;
    assert_eq!((refused.status, refused.code()), (status(403), "DENIED".to_owned()));
    assert!(refused.text().contains("registry_references"), "{}", refused.text());
    let again = world.put(&world.demo, "demo/two/manifests/v2", MANIFEST, manifest.clone()).await;
    assert_eq!(again.status, status(201), "a tag of what is there: {}", again.text());
    assert_eq!(
        world.delete(&world.demo, &format!("demo/one/manifests/{}", digest(manifest.as_bytes()))).await.status,
        status(202)
    );
    let subject = json!({"digest": digest(b"none")});
    let about = |length: usize| {
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "subject": subject,
        "annotations": {"k": "v".repeat(length)}})
        .to_string()
    };
    let refused = world.put(&world.demo, "demo/one/manifests/about", MANIFEST, about(300)).await;
    assert_eq!(refused.status, status(403), "annotations are kept, and counted");
    assert_eq!(world.put(&world.demo, "demo/one/manifests/about", MANIFEST, about(100)).await.status, status(201));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_no_page() {
    let world = World::new().await;
    let page = |kind: &str| {
        json!({"schemaVersion": 2, "mediaType": kind, "annotations": {"<script>": "alert(1)"}}).to_string()
    };
    for (kind, code) in [("text/html", 400), ("image/svg+xml", 400), (MANIFEST, 201)] {
        let put = world.put(&world.admin, "page/manifests/latest", kind, page(kind)).await;
        assert_eq!(put.status, status(code), "{kind}: {}", put.text());
    }
    let blob = world.push_blob(&world.admin, "page", b"<script>alert(1)</script>").await;
    for (path, kind) in
        [("page/manifests/latest", MANIFEST), (&format!("page/blobs/{blob}"), "application/octet-stream")]
    {
        let got = world.get("", path).await;
        assert_eq!(
            (got.header("content-type").as_str(), got.header("x-content-type-options").as_str()),
            (kind, "nosniff")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_pages_and_names() {
    let world = World::new().await;
    let subject = world.push(&world.demo, "demo/web", "v1", b"layer").await;
    for list in ["_catalog", "demo/web/tags/list", &format!("demo/web/referrers/{subject}")] {
        for (query, code) in [
            ("n=-1", 400),
            ("n=%2B5", 400),
            ("n=99999999999999999999", 400),
            ("n=", 400),
            ("n=18446744073709551615", 200),
            ("n=0", 200),
            ("last=%F4%8F%BF%BF", 200),
            ("last=%00", 200),
            ("last=..%2F..%2Fetc", 200),
            ("last=", 200),
            ("n=1&n=2&last=a&last=z", 200),
        ] {
            let got = world.get(&world.demo, &format!("{list}?{query}")).await;
            assert_eq!(got.status, status(code), "{list}?{query}: {}", got.text());
        }
    }
    let long = "x".repeat(129);
    for tag in ["-a", ".a", "a%20b", "a%2Fb", "%C3%A4", long.as_str(), "a%00"] {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST}).to_string();
        let put = world.put(&world.demo, &format!("demo/web/manifests/{tag}"), MANIFEST, manifest).await;
        assert_eq!(put.status, status(400), "{tag}: {}", put.text());
    }
    for name in ["demo/..", "demo/%2e%2e", "demo//web", "demo/web/", "demo/WEB", &format!("demo/{}", "x".repeat(255))] {
        let got = world.post(&world.demo, &format!("{name}/blobs/uploads/"), "").await;
        assert_eq!((got.status, got.code()), (status(400), "NAME_INVALID".to_owned()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_a_role_while_a_body_comes_has_lost_it() {
    let world = World::new().await;
    let bearer = world.bearer(&world.demo);
    let user = world.gate.inspect(&world.demo).await.unwrap().user_id;
    let path = format!("demo/web/blobs/uploads/?digest={}", digest(b"hello"));
    let (blob, blob_body) = body();
    let (manifest, manifest_body) = body();
    let pushes = async {
        let headers = [("content-type", MANIFEST)];
        tokio::join!(
            world.send("POST", &path, &bearer, &[], blob_body),
            world.send("PUT", "demo/web/manifests/late", &bearer, &headers, manifest_body)
        )
    };
    let loses = async {
        // With room for one part at a time, the second is taken when the first was read.
        for part in [b"he" as &[u8], b"l"] {
            blob.send(part).await.unwrap();
        }
        for part in [b"{\"schemaVersion\"" as &[u8], b": "] {
            manifest.send(part).await.unwrap();
        }
        let mut change = Change::new();
        for given in world.store.snapshot().all::<Assignment>().filter(|a| a.actor == Actor::User(user.clone())) {
            change.delete(given);
        }
        world.store.commit(&change).await.unwrap();
        blob.send(b"lo").await.unwrap();
        manifest.send(b"2}").await.unwrap();
        drop((blob, manifest));
    };
    let ((blob, manifest), ()) =
        tokio::time::timeout(LONG, async { tokio::join!(pushes, loses) }).await.expect("both are answered");
    assert_eq!((blob.status, manifest.status), (status(401), status(401)));
    let snapshot = world.store.snapshot();
    assert_eq!(snapshot.all::<OciBlob>().count() + snapshot.all::<OciManifest>().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_more_tags_than_a_commit_takes_goes() {
    let world = World::new().await;
    let index = json!({"schemaVersion": 2, "manifests": []}).to_string();
    let media = "application/vnd.oci.image.index.v1+json";
    let at = format!("demo/web/manifests/{}", digest(index.as_bytes()));
    assert_eq!(world.put(&world.demo, &at, media, index).await.status, status(201));
    let snapshot = world.store.snapshot();
    let manifest = snapshot.all::<OciManifest>().next().unwrap().value.clone();
    let tags: Vec<String> = (0..5000).map(|n| format!("t{n}")).collect();
    for some in tags.chunks(1000) {
        let mut change = Change::new();
        for tag in some {
            change.create(OciTag {
                project_id: manifest.project_id.clone(),
                repository: manifest.repository.clone(),
                tag: tag.clone(),
                digest: manifest.digest.clone(),
                updated_at: manifest.created_at,
            });
        }
        world.store.commit(&change).await.unwrap();
    }
    assert_eq!(world.delete(&world.demo, &at).await.status, status(202));
    let snapshot = world.store.snapshot();
    assert_eq!(snapshot.all::<OciTag>().count() + snapshot.all::<OciManifest>().count(), 0);
}
