//! What one project, or one user, may make the cloud keep and do: each row, list and log has an end, and whatever somebody
//! made can be deleted again.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use common::{Harness, text};
use futures_util::{StreamExt, stream};
use http::Request;
use http_body::{Frame, SizeHint};
use model::{Actor, Assignment, Change, Image, Keypair, ServerAction, Time, Trust, User, VmPhase};
use rows::Rows;
use serde_json::{Value, json};
use tokio::sync::oneshot;

const SERVERS: &str = "/compute/v2.1/servers";

async fn user_id(h: &Harness, token: &str) -> String {
    h.cloud.gate.inspect(token).await.expect("a valid token").user_id
}

#[tokio::test]
async fn a_servers_log_has_an_end() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let server = json!({"server": {"name": "a", "imageRef": rows.image, "flavorRef": rows.small}});
    let (_, _, made) = h.ok("POST", SERVERS, &h.demo, server).await;
    let id = text(&made["server"]["id"]);
    rows.place(&h, id, "node1", VmPhase::Running).await;
    let act = format!("{SERVERS}/{id}/action");
    for n in 0..ServerAction::MOST + 5 {
        h.ok("POST", &act, &h.demo, json!({if n % 2 == 0 { "lock" } else { "unlock" }: null})).await;
    }
    let (_, _, log) = h.ok("GET", &format!("{SERVERS}/{id}/os-instance-actions"), &h.demo, Value::Null).await;
    let log = log["instanceActions"].as_array().expect("a list");
    assert_eq!(log.len(), ServerAction::MOST);
    assert!(log.iter().all(|entry| entry["action"] != "create"), "the oldest made room");
}

#[tokio::test]
async fn a_user_has_so_many_application_credentials() {
    let h = Harness::new().await;
    let path = format!("/identity/v3/users/{}/application_credentials", user_id(&h, &h.demo).await);
    let make = async |with: Value| {
        let (status, _, body) = h.call("POST", &path, &h.demo, json!({"application_credential": with})).await;
        (status, body)
    };
    let long = "x".repeat(5000);
    for odd in [
        json!({"name": "a", "description": long}),
        json!({"name": "a", "access_rules": [{"service": "compute", "method": "GET", "path": format!("/{long}")}]}),
        json!({"name": "a", "access_rules": [{"service": long, "method": "GET", "path": "/"}]}),
    ] {
        assert_eq!(make(odd).await.0, 400);
    }
    let mut first = String::new();
    for n in 0..model::AppCredential::MOST {
        let (status, body) = make(json!({"name": n.to_string()})).await;
        assert_eq!(status, 201, "{body}");
        first = text(&body["application_credential"]["id"]).to_owned();
    }
    let (status, body) = make(json!({"name": "more"})).await;
    assert_eq!(status, 403, "{body}");
    h.ok("DELETE", &format!("{path}/{first}"), &h.demo, Value::Null).await;
    assert_eq!(make(json!({"name": "more"})).await.0, 201);
}

/// Sends a body in two parts; what happens between them happens when the request was let in. The answer's status.
async fn slowly(
    h: &Harness,
    (method, path, token): (&str, &str, &str),
    kind: &str,
    body: &str,
    between: Change,
) -> u16 {
    let (begun, begins) = oneshot::channel();
    let (go, goes) = oneshot::channel::<()>();
    let (first, second) = body.split_at(body.len() / 2);
    let parts = [Bytes::copy_from_slice(first.as_bytes()), Bytes::copy_from_slice(second.as_bytes())];
    let sent = stream::unfold((0, Some(begun), Some(goes)), move |(at, mut begun, mut goes)| {
        let parts = parts.clone();
        async move {
            if let Some(begun) = begun.take() {
                let _ = begun.send(());
            }
            if at == 1
                && let Some(goes) = goes.take()
            {
                let _ = goes.await;
            }
            Some((Ok::<_, std::io::Error>(parts.get(at)?.clone()), (at + 1, begun, goes)))
        }
    });
    let request = Request::builder().method(method).uri(path).header("x-auth-token", token);
    let request = request.header("content-type", kind).body(Body::from_stream(sent)).expect("a request");
    let answer = tokio::spawn(h.face.clone().dispatch(request));
    begins.await.expect("the body is read");
    h.cloud.store.commit(&between).await.expect("a commit");
    go.send(()).expect("the body is read on");
    answer.await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn who_loses_a_role_while_a_body_comes_has_lost_it() {
    let h = Harness::new().await;
    let taken = |token: String| {
        let (h, now) = (&h, h.cloud.store.snapshot());
        async move {
            let user = user_id(h, &token).await;
            let mut change = Change::new();
            for given in now.all::<Assignment>().filter(|a| a.value.actor == Actor::User(user.clone())) {
                change.delete(given);
            }
            change
        }
    };
    let json = "application/json";
    let one = h.tenant("one", "member").await;
    let network = json!({"network": {"name": "n"}}).to_string();
    let request = ("POST", "/network/v2.0/networks", one.as_str());
    assert_eq!(slowly(&h, request, json, &network, taken(one.clone()).await).await, 401);
    assert!(h.cloud.store.snapshot().all::<model::Network>().all(|network| network.value.name != "n"));

    let two = h.tenant("two", "member").await;
    let new = json!({"name": "i", "disk_format": "raw", "container_format": "bare"});
    let (_, _, image) = h.ok("POST", "/image/v2/images", &two, new).await;
    let file = format!("/image/v2/images/{}/file", text(&image["id"]));
    let request = ("PUT", file.as_str(), two.as_str());
    assert_eq!(slowly(&h, request, "application/octet-stream", "bytes", taken(two.clone()).await).await, 401);
    let snapshot = h.cloud.store.snapshot();
    assert_eq!(snapshot.get::<Image>(text(&image["id"])).expect("a row").size, None);

    // Whoever has what they had goes on, whatever else happens meanwhile.
    let other = Change::from(Keypair {
        user_id: "x".into(),
        name: "x".into(),
        kind: "ssh".into(),
        public_key: String::new(),
        fingerprint: String::new(),
        created_at: Time::now(),
    });
    let request = ("POST", "/network/v2.0/networks", h.demo.as_str());
    assert_eq!(slowly(&h, request, json, &network, other).await, 201);
}

#[tokio::test]
async fn what_others_gave_keeps_nobody_from_being_deleted() {
    let h = Harness::new().await;
    h.tenant("victim", "member").await;
    let named = |name: &str| {
        let snapshot = h.cloud.store.snapshot();
        let found = snapshot.all::<User>().find(|user| user.value.name == name).map(|user| user.id.clone());
        found.expect("a user")
    };
    let (victim, giver) = (named("victim"), named("demo"));
    // More than a commit takes: Harness has no user who gives so many, so a few rows are given twice the places.
    let trust = |n: u32, above: Option<String>| Trust {
        id: format!("trust-{n}"),
        trustor_user_id: if above.is_some() { victim.clone() } else { giver.clone() },
        trustee_user_id: victim.clone(),
        project_id: None,
        impersonation: false,
        role_ids: Vec::new(),
        expires_at: None,
        remaining_uses: None,
        redelegation_count: 0,
        redelegated_trust_id: above,
        place: n,
    };
    for some in (0..5000).collect::<Vec<u32>>().chunks(1000) {
        let mut change = Change::new();
        for n in some {
            change.create(trust(*n, (*n > 4000).then(|| format!("trust-{}", n - 4000))));
        }
        h.cloud.store.commit(&change).await.expect("a commit");
    }
    h.cloud
        .store
        .commit(&Change::from(Keypair {
            user_id: victim.clone(),
            name: "k".into(),
            kind: "ssh".into(),
            public_key: String::new(),
            fingerprint: String::new(),
            created_at: Time::now(),
        }))
        .await
        .expect("a commit");
    h.ok("DELETE", &format!("/identity/v3/users/{victim}"), &h.admin, Value::Null).await;
    let snapshot = h.cloud.store.snapshot();
    assert!(snapshot.all::<Trust>().next().is_none());
    assert!(snapshot.all::<Keypair>().next().is_none(), "key pairs go with their user");
}

#[tokio::test]
async fn an_image_says_so_much() {
    let h = Harness::new().await;
    let long = "x".repeat(60_000);
    let (_, _, image) = h.ok("POST", "/image/v2/images", &h.demo, json!({"name": "i", "a": long, "b": long})).await;
    let path = format!("/image/v2/images/{}", text(&image["id"]));
    let patch = async |operation: Value| {
        let kind = [("content-type", "application/openstack-images-v2.1-json-patch")];
        h.raw("PATCH", &path, &h.demo, &kind, json!([operation]).to_string().into_bytes()).await.0
    };
    let more = json!({"op": "add", "path": "/c", "value": long});
    assert_eq!(patch(more.clone()).await, 413);
    let body = json!({"name": "i", "a": long, "b": long, "c": long});
    assert_eq!(h.call("POST", "/image/v2/images", &h.demo, body).await.0, 413);
    assert_eq!(patch(json!({"op": "remove", "path": "/a"})).await, 200);
    assert_eq!(patch(more).await, 200);
}

#[tokio::test]
async fn what_keystone_does_not_know_has_an_end() {
    let h = Harness::new().await;
    let (long, longer) = ("x".repeat(40_000), "x".repeat(70_000));
    let resources = [
        ("user", "users", json!({"name": "x"})),
        ("project", "projects", json!({"name": "x"})),
        ("region", "regions", json!({"id": "x"})),
        ("service", "services", json!({"type": "x"})),
    ];
    for (one, many, mut body) in resources {
        let many = format!("/identity/v3/{many}");
        body["a"] = json!(longer);
        assert_eq!(h.call("POST", &many, &h.admin, json!({one: body})).await.0, 400, "{one}");
        body["a"] = json!(long);
        let (_, _, made) = h.ok("POST", &many, &h.admin, json!({one: body})).await;
        let path = format!("{many}/{}", text(&made[one]["id"]));
        let patch = async |change: Value| h.call("PATCH", &path, &h.admin, json!({one: change})).await;
        let (status, _, answer) = patch(json!({"b": long})).await;
        assert_eq!(status, 400, "{one}: {answer}");
        assert!(text(&answer["error"]["message"]).contains("80015 bytes together, of at most 65535"), "{answer}");
        assert_eq!(patch(json!({"description": longer})).await.0, 400, "{one}");
        assert_eq!(patch(json!({"a": null, "b": long})).await.0, 200, "{one}");
    }
}

#[tokio::test]
async fn who_says_too_much_already_is_disabled_all_the_same() {
    let h = Harness::new().await;
    let user = async || {
        let demo = user_id(&h, &h.demo).await;
        h.cloud.store.snapshot().get::<User>(&demo).expect("the user").value.clone()
    };
    let mut large = user().await;
    let path = format!("/identity/v3/users/{}", large.id);
    large.extra.insert("a".into(), json!("x".repeat(1 << 20)));
    let written = h.cloud.store.transact(|rows| {
        let mut change = Change::new();
        change.update(rows.get::<User>(&large.id).expect("the user"), large.clone());
        Ok((change, ()))
    });
    written.await.expect("written");
    let patch = async |change: Value| h.call("PATCH", &path, &h.admin, json!({"user": change})).await.0;
    assert_eq!(patch(json!({"b": "more"})).await, 400);
    assert_eq!(patch(json!({"enabled": false})).await, 200);
    assert_eq!(patch(json!({"a": "less"})).await, 200);
}

#[tokio::test]
async fn an_upload_ends_where_the_quota_does() {
    let h = Harness::new().await;
    let quota = json!({"quota": {"image_size_total": 1}});
    h.ok("PUT", &format!("/network/v2.0/quotas/{}", h.demo_project), &h.admin, quota).await;
    let new = json!({"name": "i", "disk_format": "raw", "container_format": "bare"});
    let (_, _, image) = h.ok("POST", "/image/v2/images", &h.demo, new).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let endless = stream::repeat_with(move || {
        // Far more than what is left to the project, and no end of a test.
        let end = count.fetch_add(1, Ordering::Relaxed) > 1000;
        if end { Err(std::io::Error::other("nobody said stop")) } else { Ok(Bytes::from(vec![7; 64 << 10])) }
    });
    let request = Request::builder().method("PUT").uri(format!("/image/v2/images/{}/file", text(&image["id"])));
    let request = request.header("x-auth-token", &h.demo).header("content-type", "application/octet-stream");
    let answer = h.face.clone().dispatch(request.body(Body::from_stream(endless)).expect("a request")).await;
    assert_eq!(answer.status().as_u16(), 413);
    assert!(asked.load(Ordering::Relaxed) < 100, "{asked:?}");

    // What says at the beginning that it is too long is not read at all.
    let asked = Arc::new(AtomicUsize::new(0));
    let long = Announced { bytes: 2 << 20, asked: asked.clone() };
    let request = Request::builder().method("PUT").uri(format!("/image/v2/images/{}/file", text(&image["id"])));
    let request = request.header("x-auth-token", &h.demo).header("content-type", "application/octet-stream");
    let answer = h.face.clone().dispatch(request.body(Body::new(long)).expect("a request")).await;
    assert_eq!((answer.status().as_u16(), asked.load(Ordering::Relaxed)), (413, 0));
}

/// A body whose length is known before it comes.
struct Announced {
    bytes: u64,
    asked: Arc<AtomicUsize>,
}

impl HttpBody for Announced {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Err(std::io::Error::other("it was read"))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes)
    }
}

#[tokio::test]
async fn an_upload_ends_with_its_image() {
    let h = Harness::new().await;
    let new = json!({"name": "i", "disk_format": "raw", "container_format": "bare"});
    let (_, _, image) = h.ok("POST", "/image/v2/images", &h.demo, new).await;
    let path = format!("/image/v2/images/{}", text(&image["id"]));
    let (begun, waited) = oneshot::channel();
    let first = stream::once(async move {
        begun.send(()).expect("somebody waits");
        Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
    });
    let request = Request::builder().method("PUT").uri(format!("{path}/file"));
    let request = request.header("x-auth-token", &h.demo).header("content-type", "application/octet-stream");
    let silent = Body::from_stream(first.chain(stream::pending()));
    let upload = tokio::spawn(h.face.clone().dispatch(request.body(silent).expect("a request")));
    waited.await.expect("it began");
    h.ok("DELETE", &path, &h.demo, Value::Null).await;
    assert_eq!(upload.await.expect("an answer").status().as_u16(), 410);
}

#[tokio::test]
async fn queries_cost_what_they_say() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    for name in ["b", "a", "c"] {
        let server = json!({"server": {"name": name, "imageRef": rows.image, "flavorRef": rows.small}});
        h.ok("POST", SERVERS, &h.demo, server).await;
        h.ok("POST", "/image/v2/images", &h.demo, json!({"name": name, "tags": ["t", name]})).await;
    }
    let get = async |path: String| {
        let (status, _, body) = h.call("GET", &path, &h.demo, Value::Null).await;
        (status, body)
    };
    let names = |list: &Value| -> Vec<String> {
        list.as_array().expect("a list").iter().map(|item| text(&item["name"]).to_owned()).collect()
    };
    // A pattern is as large as what it is compiled to.
    let (status, body) = get(format!("{SERVERS}?name=(a%7B0,99%7D)%7B99%7D")).await;
    assert_eq!(status, 400, "{body}");
    assert_eq!(get(format!("{SERVERS}?name={}", "x".repeat(255))).await.0, 200);
    let (_, body) = get(format!("{SERVERS}?name=%5EA%7CB$")).await;
    assert_eq!(names(&body["servers"]), ["a", "b"]);
    // What is said again changes nothing, the order of it included.
    let again = |pair: &str| vec![pair; 500].join("&");
    let keys = again("sort_key=display_name&sort_dir=asc");
    let (_, body) = get(format!("{SERVERS}?{keys}&{}", again("sort_key=uuid&sort_dir=desc"))).await;
    assert_eq!(names(&body["servers"]), ["a", "b", "c"]);
    let (_, body) =
        get(format!("/image/v2/images?visibility=shared&sort={},id:asc", vec!["name:asc"; 500].join(","))).await;
    assert_eq!(names(&body["images"]), ["a", "b", "c"]);
    let filters = format!("{}&tag=a&name=in:{}", again("tag=t"), vec!["a"; 500].join(","));
    let (_, body) = get(format!("/image/v2/images?{filters}")).await;
    assert_eq!(names(&body["images"]), ["a"]);
}
