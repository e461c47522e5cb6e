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
