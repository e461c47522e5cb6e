//! What the OCI distribution specification asks beside pushes and pulls by SHA-256.

mod common;

use common::{MANIFEST, World, digest, hex};
use http::StatusCode;
use model::OciBlob;
use serde_json::json;

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap()
}

fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", blob::sha512(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_called_by_sha512_as_well() {
    let world = World::new().await;
    let demo = world.demo.clone();
    let layer = sha512(b"layer");
    for wrong in [sha512(b"other"), layer[..layer.len() - 1].to_owned(), format!("md5:{}", "a".repeat(32))] {
        let refused = world.post(&demo, &format!("demo/long/blobs/uploads/?digest={wrong}"), "layer").await;
        assert_eq!((refused.status, refused.code()), (status(400), "DIGEST_INVALID".to_owned()), "{wrong}");
    }
    let unknown = world.post(&demo, "demo/long/blobs/uploads/?digest-algorithm=sha384", "").await;
    assert_eq!((unknown.status, unknown.code()), (status(400), "DIGEST_INVALID".to_owned()));
    let begun = world.post(&demo, "demo/long/blobs/uploads/?digest-algorithm=sha512", "").await;
    let at = begun.header("location").trim_start_matches("/v2/").to_owned();
    let done = world.put(&demo, &format!("{at}?digest={layer}"), "", "layer".to_owned()).await;
    assert_eq!((done.status, done.header("docker-content-digest")), (status(201), layer.clone()));
    assert_eq!(done.header("location"), format!("/v2/demo/long/blobs/{layer}"));
    let got = world.get(&demo, &format!("demo/long/blobs/{layer}")).await;
    assert_eq!((got.text(), got.header("docker-content-digest")), ("layer".to_owned(), layer.clone()));
    // By the other algorithm nobody has brought them.
    assert_eq!(world.get(&demo, &format!("demo/long/blobs/{}", digest(b"layer"))).await.code(), "BLOB_UNKNOWN");
    assert_eq!(world.get(&world.other, &format!("other/steal/blobs/{layer}")).await.code(), "BLOB_UNKNOWN");
    let mount = format!("other/given/blobs/uploads/?mount={layer}&from=demo/long");
    assert_eq!(world.post(&world.other, &mount, "").await.status, status(202), "not what may not be read");
    assert_eq!(world.post(&world.admin, &mount, "").await.status, status(201));
    assert_eq!(world.get(&world.other, &format!("other/given/blobs/{layer}")).await.text(), "layer");

    // A manifest, and what refers to it.
    let text = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [{"digest": layer}]}).to_string();
    let name = sha512(text.as_bytes());
    let other = format!("demo/long/manifests/{}", sha512(b"other"));
    assert_eq!(world.put(&demo, &other, MANIFEST, text.clone()).await.code(), "DIGEST_INVALID");
    let path = format!("demo/long/manifests/{name}");
    let put = world.put(&demo, &path, MANIFEST, text.clone()).await;
    assert_eq!((put.status, put.header("docker-content-digest")), (status(201), name.clone()));
    let got = world.get(&demo, &path).await;
    assert_eq!((got.text(), got.header("docker-content-digest")), (text.clone(), name.clone()));
    let about = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x",
        "layers": [{"digest": layer}], "subject": {"digest": name}});
    let put = world.put(&demo, "demo/long/manifests/about", MANIFEST, about.to_string()).await;
    assert_eq!((put.status, put.header("oci-subject")), (status(201), name.clone()));
    let referrers = world.get(&demo, &format!("demo/long/referrers/{name}")).await.json();
    assert_eq!(referrers["manifests"][0]["digest"], digest(about.to_string().as_bytes()));

    // The sweep goes by the files' names.
    let snapshot = world.store.snapshot();
    let needed: Vec<String> = snapshot.all::<OciBlob>().map(|blob| blob.file().to_owned()).collect();
    assert!([hex(b"layer"), hex(text.as_bytes())].iter().all(|name| needed.contains(name)), "{needed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_come_beside_a_digest() {
    let world = World::new().await;
    let demo = world.demo.clone();
    let manifest =
        |text: &str| json!({"schemaVersion": 2, "mediaType": MANIFEST, "annotations": {"k": text}}).to_string();
    for (text, name) in [("a", digest(manifest("a").as_bytes())), ("b", sha512(manifest("b").as_bytes()))] {
        let path = format!("demo/web/manifests/{name}?tag={text}-1&tag={text}-2&tag={text}-1&tag=latest");
        let put = world.put(&demo, &path, MANIFEST, manifest(text)).await;
        let given: Vec<_> = put.headers.get_all("oci-tag").iter().map(|tag| tag.to_str().unwrap().to_owned()).collect();
        assert_eq!((put.status, given), (status(201), vec![format!("{text}-1"), format!("{text}-2"), "latest".into()]));
        assert_eq!(put.header("location"), format!("/v2/demo/web/manifests/{name}"));
        for tag in [&format!("{text}-1"), &format!("{text}-2"), "latest"] {
            let got = world.get(&demo, &format!("demo/web/manifests/{tag}")).await;
            assert_eq!((got.text(), got.header("docker-content-digest")), (manifest(text), name.clone()));
        }
    }
    let name = digest(manifest("c").as_bytes());
    let many: String = (0..65).map(|n| format!("&tag=t{n}")).collect();
    for (path, code) in [
        (format!("{name}?tag=-bad"), 400),
        (format!("{name}?tag="), 400),
        (format!("{name}?tag=good&tag={}", "x".repeat(129)), 400),
        (format!("{name}?{many}"), 414),
        ("named?tag=other".to_owned(), 400),
    ] {
        let put = world.put(&demo, &format!("demo/web/manifests/{path}"), MANIFEST, manifest("c")).await;
        assert_eq!(put.status, status(code), "{path}: {}", put.text());
    }
    assert_eq!(
        world.get(&demo, "demo/web/tags/list").await.json()["tags"],
        json!(["a-1", "a-2", "b-1", "b-2", "latest"])
    );
    assert_eq!(
        world.get(&demo, &format!("demo/web/manifests/{name}")).await.status,
        status(404),
        "nothing of it is left"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_blob() {
    let world = World::new().await;
    let blob = format!("demo/web/blobs/{}", world.push_blob(&world.demo, "demo/web", b"0123456789").await);
    for (range, code, text, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=8-99", 206, "89", "bytes 8-9/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=4-2", 416, "", "bytes */10"),
        ("bytes=10-", 416, "", "bytes */10"),
        ("bytes=0-1,4-5", 200, "0123456789", ""),
    ] {
        for method in ["GET", "HEAD"] {
            let got = world.ask_with(method, &blob, &world.bearer(&world.demo), &[("range", range)], "").await;
            assert_eq!((got.status, got.header("content-range").as_str()), (status(code), content_range), "{range}");
            if code != 416 {
                assert_eq!(got.header("content-length"), text.len().to_string());
                assert_eq!(got.text(), if method == "GET" { text } else { "" });
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_blob_is_a_blob() {
    let world = World::new().await;
    let digest = world.push_blob(&world.demo, "demo/web", b"").await;
    let got = world.get(&world.demo, &format!("demo/web/blobs/{digest}")).await;
    assert_eq!((got.status, got.header("content-length"), got.text()), (status(200), "0".into(), String::new()));
}
