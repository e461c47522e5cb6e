//! Usage reports: what they count, whose they are, and that they come in pages.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use common::{Harness, text};
use jiff::SignedDuration;
use model::{Server, ServerUsage, Time, VmPhase};
use rows::Rows;
use serde_json::{Value, json};

const USAGE: &str = "/compute/v2.1/os-simple-tenant-usage";

async fn get(h: &Harness, version: &str, path: &str, token: &str) -> (u16, Value) {
    let header = format!("compute {version}");
    let answer = h.call_with("GET", path, token, &[("openstack-api-version", &header)], Value::Null).await;
    (answer.0, answer.2)
}

fn iso(time: Time) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// A server that runs since so many hours.
async fn runs(h: &Harness, rows: &Rows, name: &str, hours: i64) -> String {
    let body = json!({"server": {"name": name, "imageRef": rows.image, "flavorRef": rows.small}});
    let (_, _, made) = h.ok("POST", "/compute/v2.1/servers", &h.demo, body).await;
    let id = text(&made["server"]["id"]).to_owned();
    rows.place(h, &id, "node1", VmPhase::Running).await;
    let begun = Time::now() - SignedDuration::from_hours(hours);
    rows.edit::<Server>(h, &id, |s| (s.launched_at, s.sized_at) = (Some(begun), Some(begun))).await;
    id
}

fn near(value: &Value, wanted: f64) -> bool {
    // The test itself takes some of the time that it measures.
    value.as_f64().is_some_and(|value| value >= wanted - 0.01 && value < wanted + wanted.max(1.0))
}

fn of<'a>(usage: &'a Value, id: &str) -> Vec<&'a Value> {
    usage["server_usages"].as_array().unwrap().iter().filter(|server| server["instance_id"] == id).collect()
}

#[tokio::test]
async fn reports_count_each_size_and_the_dead() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let (stays, resized, dies) =
        (runs(&h, &rows, "stays", 5).await, runs(&h, &rows, "resized", 20).await, runs(&h, &rows, "dies", 3).await);
    let act = |id: &str| format!("/compute/v2.1/servers/{id}/action");
    h.ok("POST", &act(&resized), &h.demo, json!({"resize": {"flavorRef": rows.large}})).await;
    h.ok("POST", &act(&stays), &h.demo, json!({"rebuild": {"imageRef": rows.image}})).await;
    h.ok("DELETE", &format!("/compute/v2.1/servers/{dies}"), &h.demo, Value::Null).await;
    rows.vanish(&h, &dies).await;

    let start = iso(Time::now() - SignedDuration::from_hours(10));
    // The end of the report that clients ask for is tomorrow.
    let end = iso(Time::now() + SignedDuration::from_hours(24));
    let path = format!("{USAGE}/{}?start={start}&end={end}", h.demo_project);
    let (status, shown) = get(&h, "2.96", &path, &h.demo).await;
    assert_eq!(status, 200, "{shown}");
    let usage = &shown["tenant_usage"];
    assert_eq!(usage["tenant_id"], json!(h.demo_project));
    let server = of(usage, &stays)[0];
    assert!(near(&server["hours"], 5.0), "a rebuild ends nothing: {server}");
    assert_eq!(
        (&server["ended_at"], &server["memory_mb"], &server["local_gb"]),
        (&Value::Null, &json!(256), &json!(1))
    );
    assert_eq!(
        (&server["flavor"], &server["name"], &server["vcpus"]),
        (&json!("m1.small"), &json!("stays"), &json!(1))
    );
    let sizes = of(usage, &resized);
    assert_eq!(sizes.iter().map(|s| text(&s["flavor"])).collect::<Vec<_>>(), ["m1.small", "m1.big"]);
    assert!(near(&sizes[0]["hours"], 10.0) && sizes[0]["state"] == "resized", "{sizes:?}: within the report only");
    assert!(sizes[0]["uptime"].as_i64().unwrap() >= 20 * 3600, "{sizes:?}");
    assert!(near(&sizes[1]["hours"], 0.0) && sizes[1]["ended_at"].is_null(), "{sizes:?}");
    let dead = of(usage, &dies)[0];
    assert!(near(&dead["hours"], 3.0) && dead["state"] == "terminated" && dead["ended_at"].is_string(), "{dead}");
    assert!(near(&usage["total_hours"], 18.0) && near(&usage["total_memory_mb_usage"], 18.0 * 256.0), "{usage}");
    assert!(near(&usage["total_vcpus_usage"], 18.0) && near(&usage["total_local_gb_usage"], 18.0), "{usage}");

    // Before all of them, and at no time.
    let past = [100, 90].map(|hours| iso(Time::now() - SignedDuration::from_hours(hours)));
    let path = format!("{USAGE}/{}?start={}&end={}", h.demo_project, past[0], past[1]);
    assert_eq!(get(&h, "2.1", &path, &h.demo).await, (200, json!({"tenant_usage": {}})));
    assert_eq!(get(&h, "2.1", &format!("{USAGE}/{}", h.demo_project), &h.demo).await.0, 200);
    for (version, query) in [
        ("2.1", format!("start={}&end={}", past[1], past[0])),
        ("2.1", "start=yesterday".into()),
        ("2.75", "colour=red".into()),
        ("2.40", format!("start={start}&marker=nobody")),
    ] {
        let (status, body) = get(&h, version, &format!("{USAGE}/{}?{query}", h.demo_project), &h.demo).await;
        assert_eq!(status, 400, "{query}: {body}");
    }
    // The administrator is told of all projects, and of each server where details are asked for.
    let (_, all) = get(&h, "2.1", &format!("{USAGE}?start={start}&detailed=1"), &h.admin).await;
    assert_eq!(of(&all["tenant_usages"][0], &dies).len(), 1, "{all}");
    let (_, brief) = get(&h, "2.1", &format!("{USAGE}?start={start}"), &h.admin).await;
    assert_eq!(brief["tenant_usages"][0].get("server_usages"), None, "{brief}");
}

#[tokio::test]
async fn reports_are_ones_own() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    runs(&h, &rows, "mine", 1).await;
    let stranger = h.tenant("stranger", "member").await;
    let path = format!("{USAGE}/{}?start=2020-01-01T00:00:00", h.demo_project);
    assert_eq!(get(&h, "2.96", &path, &stranger).await.0, 403);
    assert_eq!(get(&h, "2.96", USAGE, &h.demo).await.0, 403);
    let (_, shown) = get(&h, "2.96", &path, &h.admin).await;
    assert_eq!(shown["tenant_usage"]["server_usages"].as_array().map(Vec::len), Some(1));
    let own = format!("{USAGE}/{}?start=2020-01-01T00:00:00", h.project_of(&stranger).await);
    assert_eq!(get(&h, "2.96", &own, &stranger).await, (200, json!({"tenant_usage": {}})));
}

#[tokio::test]
async fn pages_are_of_servers() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(runs(&h, &rows, &n.to_string(), 1).await);
    }
    ids.sort();
    let record = |id: &str, hours: i64| ServerUsage {
        ended: Time::now() - SignedDuration::from_hours(hours),
        ..ServerUsage::of(&h.cloud.store.snapshot().get::<Server>(id).unwrap(), Time::now(), false).unwrap()
    };
    // The first had another size before: both are on its page.
    h.cloud.store.commit(&record(&ids[0], 1).into()).await.unwrap();
    let (mut path, mut seen, mut pages) = (format!("{USAGE}?start=2020-01-01T00:00:00&detailed=1&limit=1"), vec![], 0);
    loop {
        let (status, body) = get(&h, "2.40", &path, &h.admin).await;
        assert_eq!(status, 200, "{body}");
        pages += 1;
        let servers = body["tenant_usages"][0]["server_usages"].as_array().unwrap();
        seen.extend(servers.iter().map(|server| text(&server["instance_id"]).to_owned()));
        let Some(next) = body["tenant_usages_links"][0]["href"].as_str() else { break };
        path = next[next.find("/compute").unwrap()..].to_owned();
    }
    assert_eq!((pages, seen), (3, vec![ids[0].clone(), ids[0].clone(), ids[1].clone(), ids[2].clone()]));
    // Nova has pages of reports since 2.40.
    let (_, body) = get(&h, "2.39", &format!("{USAGE}?start=2020-01-01T00:00:00&detailed=1&limit=1"), &h.admin).await;
    assert_eq!(body["tenant_usages"][0]["server_usages"].as_array().map(Vec::len), Some(4));
}
