//! What Nova has and this cloud has not: each answers as Nova does that has none of it, and by its own name.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use common::{Harness, text};
use model::VmPhase;
use rows::Rows;
use serde_json::{Value, json};

const V: &str = "/compute/v2.1";

/// A call in a microversion by the administrator, and the message if it was refused.
async fn at(h: &Harness, version: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let header = format!("compute {version}");
    let (status, _, body) = h.call_with(method, path, &h.admin, &[("openstack-api-version", &header)], body).await;
    match body.as_object().and_then(|map| map.values().next()).map(|fault| &fault["message"]) {
        Some(message) if status >= 400 => (status, message.clone()),
        _ => (status, body),
    }
}

async fn booted(h: &Harness, rows: &Rows, phase: VmPhase) -> String {
    let server = json!({"name": "web", "imageRef": rows.image, "flavorRef": rows.small});
    let (_, _, body) = h.ok("POST", &format!("{V}/servers"), &h.demo, json!({"server": server})).await;
    let id = text(&body["server"]["id"]).to_owned();
    rows.place(h, &id, "node1", phase).await;
    id
}

#[tokio::test]
async fn consoles_are_unavailable_by_type() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = booted(&h, &rows, VmPhase::Running).await;
    let (ask, act) = (format!("{V}/servers/{id}/remote-consoles"), format!("{V}/servers/{id}/action"));
    let of = |protocol: &str, kind: &str| json!({"remote_console": {"protocol": protocol, "type": kind}});
    for (version, protocol, kind) in [
        ("2.6", "vnc", "novnc"),
        ("2.8", "mks", "webmks"),
        ("2.99", "spice", "spice-direct"),
        ("2.104", "serial", "serial"),
    ] {
        let words = json!(format!("Unavailable console type {kind}."));
        assert_eq!(at(&h, version, "POST", &ask, of(protocol, kind)).await, (400, words));
    }
    for (version, protocol, kind) in
        [("2.7", "mks", "webmks"), ("2.98", "spice", "spice-direct"), ("2.104", "vnc", "telepathy")]
    {
        let (status, message) = at(&h, version, "POST", &ask, of(protocol, kind)).await;
        assert!(status == 400 && text(&message).contains("It is not one of"), "{version} {kind}: {message}");
    }
    let old = json!({"os-getVNCConsole": {"type": "novnc"}});
    assert_eq!(at(&h, "2.5", "POST", &act, old.clone()).await, (400, json!("Unavailable console type novnc.")));
    assert_eq!(at(&h, "2.6", "POST", &act, old).await.0, 404);
    let token = format!("{V}/os-console-auth-tokens/abc");
    assert_eq!(at(&h, "2.31", "GET", &token, Value::Null).await, (404, json!("Token not found")));
    assert_eq!(at(&h, "2.30", "GET", &token, Value::Null).await.0, 400);
}

#[tokio::test]
async fn shares_and_migrations_are_none() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let (runs, stopped) = (booted(&h, &rows, VmPhase::Running).await, booted(&h, &rows, VmPhase::Stopped).await);
    rows.edit::<model::Server>(&h, &stopped, |server| server.power = false).await;
    let share = uuid::Uuid::new_v4().to_string();
    let shares = |id: &str| format!("{V}/servers/{id}/shares");
    let unknown = (404, json!(format!("Share {share} could not be found.")));
    assert_eq!(at(&h, "2.97", "GET", &shares(&runs), Value::Null).await, (200, json!({"shares": []})));
    assert_eq!(at(&h, "2.96", "GET", &shares(&runs), Value::Null).await.0, 404);
    let one = format!("{}/{share}", shares(&stopped));
    assert_eq!(at(&h, "2.97", "GET", &one, Value::Null).await, unknown);
    assert_eq!(at(&h, "2.97", "DELETE", &one, Value::Null).await, unknown);
    let asked = json!({"share": {"share_id": share, "tag": "data"}});
    assert_eq!(at(&h, "2.97", "POST", &shares(&stopped), asked.clone()).await, unknown);
    assert_eq!(at(&h, "2.97", "POST", &shares(&runs), asked).await.0, 409, "it runs");
    for asked in [json!({"share_id": "x"}), json!({}), json!({"share_id": share, "tag": "a b"}), json!({"x": 1})] {
        assert_eq!(at(&h, "2.97", "POST", &shares(&stopped), json!({"share": asked})).await.0, 400, "{asked}");
    }

    let none = (200, json!({"migrations": []}));
    let (all, of_server) = (format!("{V}/os-migrations"), format!("{V}/servers/{runs}/migrations"));
    assert_eq!(at(&h, "2.1", "GET", &all, Value::Null).await, none);
    assert_eq!(at(&h, "2.104", "GET", &format!("{all}?user_id=x&limit=1"), Value::Null).await, none);
    assert_eq!(at(&h, "2.104", "GET", &format!("{all}?changes-since=never"), Value::Null).await.0, 400);
    assert_eq!(at(&h, "2.104", "GET", &format!("{all}?marker=x"), Value::Null).await.0, 400);
    assert_eq!(at(&h, "2.23", "GET", &of_server, Value::Null).await, none);
    let one = format!("{of_server}/7");
    for (method, path, body, status) in [
        ("GET", one.clone(), Value::Null, 404),
        ("DELETE", one.clone(), Value::Null, 404),
        ("POST", format!("{one}/action"), json!({"force_complete": null}), 400),
    ] {
        let (got, message) = at(&h, "2.24", method, &path, body).await;
        assert!(got == status && text(&message).contains("igration 7"), "{method}: {got} {message}");
    }
    let topology = format!("{V}/servers/{runs}/topology");
    assert_eq!(at(&h, "2.78", "GET", &topology, Value::Null).await, (200, json!({"nodes": [], "pagesize_kb": null})));
}

#[tokio::test]
async fn what_is_gone_says_so() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = booted(&h, &rows, VmPhase::Running).await;
    for (method, path) in [
        ("GET", format!("{V}/os-fping")),
        ("POST", format!("{V}/os-certificates")),
        ("GET", format!("{V}/servers/{id}/os-virtual-interfaces")),
        ("GET", format!("{V}/os-floating-ip-dns/a/entries/b")),
    ] {
        let (status, message) = at(&h, "2.1", method, &path, json!({})).await;
        let name = path.split('/').find(|part| part.starts_with("os-")).unwrap();
        assert!(status == 410 && text(&message).contains(name), "{path}: {status} {message}");
    }
    let act = format!("{V}/servers/{id}/action");
    for (body, status, says) in [
        (json!({"resetNetwork": null}), 410, "resetNetwork"),
        (json!({"restore": null}), 409, "Cannot 'restore' instance"),
        (json!({"trigger_crash_dump": null}), 400, "Triggering crash dump is not supported"),
        (json!({"dance": null}), 400, "There is no such action: dance"),
    ] {
        let (got, message) = at(&h, "2.104", "POST", &act, body).await;
        assert!(got == status && text(&message).contains(says), "{says}: {got} {message}");
    }
    let (_, list) = at(&h, "2.53", "GET", &format!("{V}/os-services"), Value::Null).await;
    let service = format!("{V}/os-services/{}", text(&list["services"][0]["id"]));
    let (status, message) = at(&h, "2.53", "DELETE", &service, Value::Null).await;
    assert!(status == 409 && text(&message).contains("hosting instances"), "{status} {message}");
    assert_eq!(at(&h, "2.53", "DELETE", &format!("{V}/os-services/none"), Value::Null).await.0, 404);
}
