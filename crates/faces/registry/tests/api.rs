//! The registry as clients see it: who gets which bytes, and the specification's answers.

mod common;

use common::{MANIFEST, World, digest, hex};
use gate::Asked;
use http::StatusCode;
use model::{Change, OciBlob, OciManifest, OciTag, Resource, Time};
use serde_json::json;

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_opens_to_those_who_brought_it_only() {
    let world = World::new().await;
    let (demo, other) = (world.demo.clone(), world.other.clone());
    let secret = world.push_blob(&demo, "demo/private", b"secret layer").await;
    let glance = world.blobs.put(b"a private image of Glance").unwrap().sha256;
    let glance = format!("sha256:{glance}");
    assert_eq!(world.get(&demo, &format!("demo/private/blobs/{secret}")).await.text(), "secret layer");

    for known in [&secret, &glance, &digest(b"nowhere")] {
        // To name it in a manifest, to mount it, to ask for it: all as if it were not there.
        for path in [format!("other/steal/blobs/{known}"), format!("demo/private/blobs/{known}")] {
            let got = world.get(&other, &path).await;
            assert_eq!((got.status, got.code()), (status(404), "BLOB_UNKNOWN".to_owned()), "{path}");
        }
        let stolen = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [{"digest": known}]});
        let put = world.put(&other, "other/steal/manifests/v1", MANIFEST, stolen.to_string()).await;
        assert_eq!((put.status, put.code()), (status(404), "MANIFEST_BLOB_UNKNOWN".to_owned()));
        let mount = format!("other/steal/blobs/uploads/?mount={known}&from=demo/private");
        assert_eq!(
            world.post(&other, &mount, "").await.status,
            status(202),
            "uploads, which shows that it has the bytes"
        );
        assert_eq!(world.get(&other, &format!("other/steal/blobs/{known}")).await.status, status(404));
    }
    // Whoever reads both may mount.
    let mount = format!("other/given/blobs/uploads/?mount={secret}&from=demo/private");
    assert_eq!(world.post(&world.admin, &mount, "").await.status, status(201));
    assert_eq!(world.get(&other, &format!("other/given/blobs/{secret}")).await.text(), "secret layer");
    // And within a project nothing is sent twice.
    assert_eq!(world.post(&demo, &format!("demo/second/blobs/uploads/?mount={secret}"), "").await.status, status(201));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_learn_where_to_log_in_and_nobody_learns_of_projects() {
    let world = World::new().await;
    world.push(&world.demo, "demo/web", "v1", b"layer").await;
    world.push(&world.admin, "tiny", "latest", b"public").await;
    for path in
        ["", "demo/web/manifests/v1", "nobody/web/manifests/v1", "DEMO/x/tags/list", "nothing/of/this", "_catalog"]
    {
        let got = world.get("", path).await;
        assert_eq!(got.status, status(401), "{path}");
        let challenge = got.header("www-authenticate");
        assert!(challenge.starts_with("Bearer realm=\"https://cloud.example:8443/v2/token\""), "{challenge}");
    }
    for anonymous in ["", "Bearer anonymous", "Basic Og=="] {
        let got = world.ask("GET", "tiny/manifests/latest", anonymous, "", "").await;
        assert_eq!(got.status, status(200), "what is public needs no login: {anonymous:?}");
    }
    let token = world.get("", "token?service=braid&scope=repository:tiny:pull").await.json();
    assert_eq!(token["token"], "anonymous");
    assert_eq!(world.get("nonsense", "tiny/manifests/latest").await.status, status(401));
    // Another's project and one that is not there are answered alike.
    for (method, path) in
        [("GET", "manifests/v1"), ("GET", "tags/list"), ("PUT", "manifests/v1"), ("POST", "blobs/uploads/")]
    {
        let [theirs, none] = ["demo/web", "absent/web"];
        let theirs = world.ask(method, &format!("{theirs}/{path}"), &world.bearer(&world.other), "", "").await;
        let none = world.ask(method, &format!("{none}/{path}"), &world.bearer(&world.other), "", "").await;
        assert_eq!(
            (theirs.status, theirs.text().replace("demo", "absent")),
            (none.status, none.text()),
            "{method} {path}"
        );
    }
    assert_eq!(world.get(&world.demo, "").await.status, status(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_read_and_members_push() {
    let world = World::new().await;
    world.push(&world.demo, "demo/web", "v1", b"layer").await;
    let reader = world.user("lookout", "demo", "reader").await;
    assert_eq!(world.get(&reader, "demo/web/manifests/v1").await.status, status(200));
    for (method, path) in [
        ("POST", "demo/web/blobs/uploads/".to_owned()),
        ("PUT", "demo/web/manifests/v2".to_owned()),
        ("DELETE", "demo/web/manifests/v1".to_owned()),
        ("DELETE", format!("demo/web/blobs/{}", digest(b"layer"))),
    ] {
        let refused = world.ask(method, &path, &world.bearer(&reader), "", "").await;
        assert_eq!((refused.status, refused.code()), (status(403), "DENIED".to_owned()), "{method} {path}");
    }
    assert_eq!(world.post(&world.demo, "tiny/blobs/uploads/", "").await.status, status(403), "the cloud's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_come_in_order() {
    let world = World::new().await;
    let begun = world.post(&world.demo, "demo/chunks/blobs/uploads/", "").await;
    assert_eq!((begun.status, begun.header("range")), (status(202), "0-0".to_owned()));
    let at = begun.header("location").trim_start_matches("/v2/").to_owned();
    let chunk = async |range: &str, bytes: &str| {
        let headers = [("content-range", range), ("content-length", &bytes.len().to_string())];
        world.ask_with("PATCH", &at, &world.bearer(&world.demo), &headers, bytes).await
    };
    for (range, bytes, expected, then) in [
        ("6-10", "world", 416, "0-0"),
        ("0-5", "hello ", 202, "0-5"),
        ("0-5", "hello ", 416, "0-5"),
        ("6-9", "world", 400, ""),
        ("what", "world", 400, ""),
        ("6-10", "world", 202, "0-10"),
    ] {
        let got = chunk(range, bytes).await;
        assert_eq!((got.status.as_u16(), got.header("range").as_str()), (expected, then), "{range}: {}", got.text());
    }
    let progress = world.get(&world.demo, &at).await;
    assert_eq!((progress.status, progress.header("range")), (status(204), "0-10".to_owned()));
    assert_eq!(world.get(&world.other, &at).await.status, status(404), "another's upload is not there");
    let wrong = format!("{at}?digest=md5:x");
    assert_eq!(world.put(&world.demo, &wrong, "", String::new()).await.code(), "DIGEST_INVALID");
    let done = world.put(&world.demo, &format!("{at}?digest={}", digest(b"hello world")), "", String::new()).await;
    assert_eq!(done.status, status(201));
    assert_eq!(world.get(&world.demo, &at).await.code(), "BLOB_UPLOAD_UNKNOWN");
    let blob = format!("demo/chunks/blobs/{}", digest(b"hello world"));
    let headers = [("range", "bytes=-5")];
    let part = world.ask_with("GET", &blob, &world.bearer(&world.demo), &headers, "").await;
    assert_eq!(
        (part.status, part.text(), part.header("content-range")),
        (status(206), "world".into(), "bytes 6-10/11".into())
    );

    // In one request; a digest that is another's leaves nothing; what is given up is forgotten.
    let one = format!("demo/chunks/blobs/uploads/?digest={}", digest(b"one"));
    assert_eq!(world.post(&world.demo, &one, "two").await.code(), "DIGEST_INVALID");
    assert!(world.blobs.size(&hex(b"two")).is_none());
    assert_eq!(world.post(&world.demo, &one, "one").await.status, status(201));
    let begun = world.post(&world.demo, "demo/chunks/blobs/uploads/", "").await.header("location");
    let at = begun.trim_start_matches("/v2/");
    assert_eq!(world.delete(&world.demo, at).await.status, status(204));
    assert_eq!(world.get(&world.demo, at).await.status, status(404));
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_are_their_projects_whatever_it_is_called() {
    let world = World::new().await;
    world.push(&world.demo, "demo/web", "v1", b"layer").await;
    let id = world.project("demo");
    assert_eq!(world.get(&world.demo, &format!("{id}/web/manifests/v1")).await.status, status(200));
    world.rename("demo", "v2ray").await;
    for name in ["v2ray/web", &format!("{id}/web")] {
        assert_eq!(world.get(&world.demo, &format!("{name}/manifests/v1")).await.status, status(200), "{name}");
    }
    assert_eq!(world.get(&world.demo, "demo/web/manifests/v1").await.status, status(404));
    world.push(&world.demo, "v2ray/other", "v1", b"layer").await;
    let catalog = world.get(&world.demo, "_catalog").await.json();
    assert_eq!(catalog["repositories"], json!(["v2ray/other", "v2ray/web"]));
    assert_eq!(world.get(&world.other, "_catalog").await.json()["repositories"], json!([]));
    assert_eq!(world.get(&world.demo, "v2ray/NO/tags/list").await.code(), "NAME_INVALID");
    // Names of which one begins like another; an administrator sees all.
    for name in ["web/a", "web-a", "web.a", "web0"] {
        world.push(&world.demo, &format!("v2ray/{name}"), "v1", b"layer").await;
        world.push(&world.demo, &format!("v2ray/{name}"), "v2", b"other").await;
    }
    world.push(&world.other, "other/web", "v1", b"layer").await;
    world.push(&world.admin, "tiny", "v1", b"layer").await;
    let own = ["tiny", "v2ray/other", "v2ray/web", "v2ray/web-a", "v2ray/web.a", "v2ray/web/a", "v2ray/web0"];
    assert_eq!(world.get(&world.demo, "_catalog").await.json()["repositories"], json!(own));
    assert_eq!(world.get(&world.other, "_catalog").await.json()["repositories"], json!(["other/web", "tiny"]));
    let all = world.get(&world.admin, "_catalog").await.json();
    let mut expected = own.to_vec();
    expected.insert(0, "other/web");
    assert_eq!(all["repositories"], json!(expected));
    let page = world.get(&world.admin, "_catalog?n=2&last=tiny").await;
    assert_eq!(page.json()["repositories"], json!(["v2ray/other", "v2ray/web"]));
    assert_eq!(page.header("link"), "</v2/_catalog?n=2&last=v2ray%2Fweb>; rel=\"next\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_order_and_by_pages() {
    let world = World::new().await;
    for tag in ["c", "a", "b"] {
        world.push(&world.demo, "demo/web", tag, b"layer").await;
    }
    let page = world.get(&world.demo, "demo/web/tags/list?n=2").await;
    assert_eq!(page.json(), json!({"name": "demo/web", "tags": ["a", "b"]}));
    assert_eq!(page.header("link"), "</v2/demo/web/tags/list?n=2&last=b>; rel=\"next\"");
    let rest = world.get(&world.demo, "demo/web/tags/list?n=2&last=b").await;
    assert_eq!((rest.json()["tags"].clone(), rest.header("link")), (json!(["c"]), String::new()));
    assert_eq!(world.get(&world.demo, "demo/web/tags/list?n=0").await.json()["tags"], json!([]));
    assert_eq!(world.get(&world.demo, "demo/web/tags/list?n=x").await.status, status(400));
    assert_eq!(world.get(&world.demo, "demo/none/tags/list").await.code(), "NAME_UNKNOWN");
    assert_eq!(world.get(&world.demo, "demo/web/tags/other").await.status, status(404));

    assert_eq!(world.delete(&world.demo, "demo/web/manifests/a").await.status, status(202));
    assert_eq!(world.get(&world.demo, "demo/web/tags/list").await.json()["tags"], json!(["b", "c"]));
    let digest = world.get(&world.demo, "demo/web/manifests/b").await.header("docker-content-digest");
    assert_eq!(
        world.delete(&world.demo, &format!("demo/web/blobs/{}", common::digest(b"layer"))).await.status,
        status(405)
    );
    assert_eq!(world.delete(&world.demo, &format!("demo/web/manifests/{digest}")).await.status, status(202));
    assert_eq!(world.get(&world.demo, "demo/web/manifests/b").await.code(), "MANIFEST_UNKNOWN");
    // Nothing is tagged in it any more, but what came through it is there.
    let emptied = world.get(&world.demo, "demo/web/tags/list").await;
    assert_eq!((emptied.status, emptied.json()["tags"].clone()), (status(200), json!([])));
    assert_eq!(world.get(&world.demo, "_catalog").await.json()["repositories"], json!([]));
    assert_eq!(
        world.delete(&world.demo, &format!("demo/web/blobs/{}", common::digest(b"layer"))).await.status,
        status(202)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_refers_to_a_manifest_is_listed() {
    let world = World::new().await;
    let subject = world.push(&world.demo, "demo/web", "v1", b"layer").await;
    let empty = world.push_blob(&world.demo, "demo/web", b"{}").await;
    for (kind, text) in [("application/signature", "one"), ("application/sbom", "two")] {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
            "layers": [], "subject": {"digest": subject, "mediaType": MANIFEST, "size": 1}, "annotations": {"say": text}});
        let put = world.put(&world.demo, &format!("demo/web/manifests/{text}"), MANIFEST, manifest.to_string()).await;
        assert_eq!((put.status, put.header("oci-subject")), (status(201), subject.clone()));
    }
    let all = world.get(&world.demo, &format!("demo/web/referrers/{subject}")).await;
    assert_eq!(all.header("content-type"), "application/vnd.oci.image.index.v1+json");
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    let sboms = world.get(&world.demo, &format!("demo/web/referrers/{subject}?artifactType=application/sbom")).await;
    assert_eq!(sboms.header("oci-filters-applied"), "artifactType");
    let [sbom] = sboms.json()["manifests"].as_array().unwrap().clone().try_into().unwrap();
    assert_eq!((&sbom["artifactType"], &sbom["annotations"]["say"]), (&json!("application/sbom"), &json!("two")));
    let subject_sbom = format!("demo/web/referrers/{subject}?artifactType=application/sbom");
    for n in 0..2 {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/sbom",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
            "layers": [], "subject": {"digest": subject, "mediaType": MANIFEST, "size": 1}, "annotations": {"more": n.to_string()}});
        let put = world.put(&world.demo, &format!("demo/web/manifests/more-{n}"), MANIFEST, manifest.to_string()).await;
        assert_eq!(put.status, status(201));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut at = format!("{subject_sbom}&n=1");
    loop {
        let page = world.get(&world.demo, &at).await;
        for manifest in page.json()["manifests"].as_array().unwrap() {
            assert_eq!(manifest["artifactType"], "application/sbom", "a page beyond the first is filtered too");
            assert!(seen.insert(manifest["digest"].to_string()), "twice: {manifest}");
        }
        let link = page.header("link");
        let Some(rest) = link.strip_prefix("</v2/") else { break };
        at = rest.strip_suffix(">; rel=\"next\"").expect("a link to what is next").to_owned();
    }
    assert_eq!(seen.len(), 3);
    let none = world.get(&world.demo, &format!("demo/web/referrers/{}", common::digest(b"none"))).await;
    assert_eq!((none.status, none.json()["manifests"].clone()), (status(200), json!([])));
    assert_eq!(world.get(&world.demo, "demo/web/referrers/x").await.status, status(400));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_names_manifests_of_its_repository() {
    let world = World::new().await;
    let child = world.push(&world.demo, "demo/web", "amd64", b"layer").await;
    let media = "application/vnd.oci.image.index.v1+json";
    let index =
        |child: &str| json!({"schemaVersion": 2, "mediaType": media, "manifests": [{"digest": child}]}).to_string();
    assert_eq!(world.put(&world.demo, "demo/web/manifests/all", media, index(&child)).await.status, status(201));
    let got = world.get(&world.demo, "demo/web/manifests/all").await;
    assert_eq!((got.header("content-type"), got.text()), (media.to_owned(), index(&child)));
    // Those that are not there are not there, whoever else may have them.
    let elsewhere = world.push(&world.other, "other/web", "amd64", b"of another").await;
    for (tag, missing) in [("none", &digest(b"none")), ("theirs", &elsewhere)] {
        let put = world.put(&world.demo, &format!("demo/web/manifests/{tag}"), media, index(missing)).await;
        assert_eq!(put.status, status(201), "some of an image's platforms: {}", put.text());
        let got = world.get(&world.demo, &format!("demo/web/manifests/{missing}")).await;
        assert_eq!((got.status, got.code()), (status(404), "MANIFEST_UNKNOWN".to_owned()));
        let got = world.get(&world.demo, &format!("demo/web/blobs/{missing}")).await;
        assert_eq!((got.status, got.code()), (status(404), "BLOB_UNKNOWN".to_owned()));
    }
    let wrong = format!("demo/web/manifests/{}", digest(b"none"));
    assert_eq!(world.put(&world.demo, &wrong, media, index(&child)).await.code(), "DIGEST_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_uploads_are_shares_of_a_project() {
    let world = World::new().await;
    world.limit("demo", "registry_size_total", 1).await;
    let mib = "x".repeat(1 << 20);
    let upload = |text: &str| format!("demo/big/blobs/uploads/?digest={}", digest(text.as_bytes()));
    let too_much = format!("{mib}y");
    let refused = world.post(&world.demo, &upload(&too_much), &too_much).await;
    assert_eq!((refused.status, refused.code()), (status(403), "DENIED".to_owned()));
    assert!(refused.text().contains("registry_size_total"), "{}", refused.text());
    assert!(world.blobs.size(&hex(too_much.as_bytes())).is_none());
    // What is under way counts as well.
    let begun = world.post(&world.demo, "demo/big/blobs/uploads/", "").await.header("location");
    let at = begun.trim_start_matches("/v2/");
    assert_eq!(world.ask("PATCH", at, &world.bearer(&world.demo), "", &mib).await.status, status(202));
    assert_eq!(world.post(&world.demo, &upload("small"), "small").await.status, status(403));
    assert_eq!(world.delete(&world.demo, at).await.status, status(204));
    assert_eq!(world.post(&world.demo, &upload(&mib), &mib).await.status, status(201));
    assert_eq!(world.post(&world.demo, &upload("small"), "small").await.status, status(403));

    for _ in 0..32 {
        assert_eq!(world.post(&world.demo, "demo/big/blobs/uploads/", "").await.status, status(202));
    }
    assert_eq!(world.post(&world.demo, "demo/big/blobs/uploads/", "").await.status, status(429));
    assert_eq!(
        world.post(&world.other, "other/web/blobs/uploads/", "").await.status,
        status(202),
        "nobody else's share"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_no_manifest_names_go_after_a_while() {
    let world = World::new().await;
    world.push(&world.demo, "demo/web", "v1", b"layer").await;
    let young = world.push_blob(&world.demo, "demo/web", b"young").await;
    let project = world.project("demo");
    let (digest_of_old, created_at) = (digest(b"old"), Time::UNIX_EPOCH);
    let repository = Some(format!("{project}/old"));
    let old =
        OciBlob { project_id: project.clone(), digest: digest_of_old, sha256: None, repository, size: 3, created_at };
    // An index named this one before it came.
    let late = OciBlob { digest: digest(b"late"), repository: None, ..old.clone() };
    let media = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media, "manifests": [{"digest": late.digest}]}).to_string();
    assert_eq!(world.put(&world.demo, "demo/web/manifests/all", media, index).await.status, status(201));
    let mut change = Change::from(old.clone());
    change.create(late.clone());
    world.store.commit(&change).await.unwrap();
    let other = world.get(&world.other, "demo/old/tags/list").await;
    assert_eq!(other.code(), "NAME_UNKNOWN", "nobody else's");
    assert_eq!(world.get(&world.demo, "demo/old/tags/list").await.status, status(200));
    assert_eq!(face_registry::release(&world.store).await.unwrap(), 1);
    let snapshot = world.store.snapshot();
    assert!(snapshot.row(&old.key()).is_none());
    assert_eq!(world.get(&world.demo, "demo/old/tags/list").await.code(), "NAME_UNKNOWN");
    for kept in [&young, &digest(b"layer"), &late.digest] {
        assert!(snapshot.row(&OciBlob::key_of(&project, kept)).is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn robots_and_hosts_log_in() {
    let world = World::new().await;
    world.push(&world.demo, "demo/web", "v1", b"layer").await;
    let (id, secret) = world.credential("robot", json!([])).await;
    for user in [id.clone(), "demo/robot".to_owned(), "Default/demo/robot".to_owned()] {
        let basic = common::basic(&user, &secret);
        assert_eq!(world.ask("GET", "demo/web/manifests/v1", &basic, "", "").await.status, status(200), "{user}");
        let token = world.ask("GET", "token?service=braid", &basic, "", "").await.json();
        let bearer = world.bearer(token["token"].as_str().unwrap());
        assert_eq!(world.ask("GET", "demo/web/manifests/v1", &bearer, "", "").await.status, status(200));
        assert!(token["expires_in"].as_i64().unwrap() > 0);
    }
    let form = format!("grant_type=password&service=braid&username={id}&password={secret}");
    assert!(world.ask("POST", "token", "", "", &form).await.json()["access_token"].is_string());
    for (user, password) in [(id.as_str(), "wrong"), ("nobody", &secret), ("demo", common::DEMO_PASSWORD)] {
        let refused = world.ask("GET", "token?service=braid", &common::basic(user, password), "", "").await;
        assert_eq!(refused.status, status(401), "{user}");
    }
    let token = common::basic("token", &world.demo);
    assert_eq!(world.ask("GET", "", &token, "", "").await.status, status(200), "a Keystone token as the password");

    // What clients get for either opens the registry and nothing else, however it is cut.
    for basic in [token, common::basic(&id, &secret)] {
        let given = world.ask("GET", "token?service=braid", &basic, "", "").await.json();
        let given = given["token"].as_str().unwrap();
        assert_eq!(world.get(given, "demo/web/manifests/v1").await.status, status(200));
        let again = common::basic("token", given);
        assert_eq!(world.ask("GET", "demo/web/manifests/v1", &again, "", "").await.status, status(200));
        let asked = Asked { service: "compute", method: "GET", path: "/v2.1/servers" };
        for token in [given, given.split_once('.').unwrap().1] {
            assert!(world.gate.token(token, &asked).await.is_err(), "of a service's");
            assert!(world.gate.inspect_bearer(token, "").await.is_err(), "of a cluster's");
        }
        let other = format!("other.{}", given.split_once('.').unwrap().1);
        assert_eq!(world.get(&other, "demo/web/manifests/v1").await.status, status(401));
    }

    // Access rules hold here too.
    let rule = json!({"id": "r", "service": "registry", "method": "GET", "path": "/v2/demo/web/manifests/*"});
    let (id, secret) = world.credential("narrow", json!([rule])).await;
    let basic = common::basic(&id, &secret);
    assert_eq!(world.ask("GET", "demo/web/manifests/v1", &basic, "", "").await.status, status(200));
    for (method, path) in
        [("GET", "demo/web/tags/list"), ("POST", "demo/web/blobs/uploads/"), ("DELETE", "demo/web/manifests/v1")]
    {
        assert_eq!(world.ask(method, path, &basic, "", "").await.status, status(401), "{method} {path}");
    }

    let snapshot = world.store.snapshot();
    for (repository, readable) in [("demo/web", true), ("other/web", false), ("tiny", true), ("absent/web", true)] {
        assert_eq!(face_registry::is_readable(&snapshot, repository, &world.project("demo")), readable, "{repository}");
    }
    // A host reads the repositories of a pod's project.
    let hour = Time::now() + jiff::SignedDuration::from_hours(1);
    let pull = world.gate.pull_token(&world.project("demo"), hour).unwrap();
    let basic = common::basic("host", &pull);
    let token =
        world.ask("GET", "token?service=braid", &basic, "", "").await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(world.get(&token, "demo/web/manifests/v1").await.status, status(200));
    assert_eq!(world.post(&token, "demo/web/blobs/uploads/", "").await.status, status(403));
    let theirs = world.gate.pull_token(&world.project("other"), hour).unwrap();
    assert_eq!(world.get(&theirs, "demo/web/manifests/v1").await.status, status(404));
    let past = world.gate.pull_token(&world.project("demo"), Time::UNIX_EPOCH).unwrap();
    assert_eq!(world.get(&past, "demo/web/manifests/v1").await.status, status(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_older_store_are_adopted() {
    let world = World::new().await;
    let project = world.project("demo");
    let layer = world.blobs.put(b"layer of old").unwrap();
    let text =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [{"digest": format!("sha256:{}", layer.sha256)}]})
            .to_string();
    let manifest = world.blobs.put(text.as_bytes()).unwrap();
    let row: OciManifest = serde_json::from_value(json!({
        "project_id": project, "repository": "demo/web", "digest": format!("sha256:{}", manifest.sha256), "media_type": MANIFEST,
        "size": manifest.size, "refers": [format!("sha256:{}", layer.sha256)], "created_at": Time::now(),
    }))
    .unwrap();
    let tag = OciTag {
        project_id: project.clone(),
        repository: "demo/web".into(),
        tag: "v1".into(),
        digest: row.digest.clone(),
        updated_at: Time::now(),
    };
    let mut change = Change::from(row);
    change.create(tag);
    world.store.commit(&change).await.unwrap();
    world.limit("demo", "registry_size_total", 0).await;
    assert_eq!(world.get(&world.demo, "demo/web/manifests/v1").await.status, status(404));
    face_registry::adopt(&world.registry).await.unwrap();
    face_registry::adopt(&world.registry).await.unwrap();
    assert_eq!(world.get(&world.demo, "demo/web/manifests/v1").await.text(), text);
    let blob = format!("sha256:{}", layer.sha256);
    assert_eq!(world.get(&world.demo, &format!("demo/web/blobs/{blob}")).await.text(), "layer of old");
    assert_eq!(world.get(&world.other, &format!("demo/web/blobs/{blob}")).await.status, status(404));
    let pool = world.store.pool(&model::quota::pool(&project, "registry_size_total"));
    assert_eq!((pool.used, pool.limit), (layer.size + manifest.size, Some(1 << 20)), "what it has stays its own");
}
