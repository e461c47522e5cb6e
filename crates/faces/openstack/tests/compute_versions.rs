//! What Nova's newest microversions changed, and scheduler hints, which they show.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use std::collections::BTreeMap;

use common::{Harness, text};
use face_openstack::service::Property;
use model::{Image, Server, VmPhase};
use rows::Rows;
use serde_json::{Value, json};

const V: &str = "/compute/v2.1";
const SERVERS: &str = "/compute/v2.1/servers";

/// A call in a microversion.
async fn at(h: &Harness, version: &str, method: &str, path: &str, token: &str, body: Value) -> (u16, Value) {
    let header = format!("compute {version}");
    let (status, _, body) = h.call_with(method, path, token, &[("openstack-api-version", &header)], body).await;
    (status, body)
}

async fn boot(h: &Harness, rows: &Rows, hints: Value) -> (u16, Value) {
    let server = json!({"name": "web", "imageRef": rows.image, "flavorRef": rows.small});
    let (status, _, body) =
        h.call("POST", SERVERS, &h.demo, json!({"server": server, "os:scheduler_hints": hints})).await;
    (status, body)
}

async fn booted(h: &Harness, rows: &Rows, hints: Value) -> String {
    let (status, body) = boot(h, rows, hints).await;
    assert_eq!(status, 202, "{body}");
    let id = text(&body["server"]["id"]).to_owned();
    rows.place(h, &id, "node1", VmPhase::Running).await;
    id
}

#[tokio::test]
async fn unknown_parameters_are_refused_when_nova_does() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = booted(&h, &rows, Value::Null).await;
    let server = format!("{SERVERS}/{id}");
    for (path, open, closed) in [
        (SERVERS.to_owned(), "2.74", "2.75"),
        (format!("{V}/flavors"), "2.74", "2.75"),
        (format!("{V}/os-hypervisors"), "2.52", "2.53"),
        (format!("{server}/os-instance-actions"), "2.57", "2.58"),
        (server.clone(), "2.101", "2.102"),
        (format!("{server}/ips"), "2.101", "2.102"),
    ] {
        let path = format!("{path}?nonsense=1");
        assert_eq!(at(&h, open, "GET", &path, &h.admin, Value::Null).await.0, 200, "{path} {open}");
        let (status, body) = at(&h, closed, "GET", &path, &h.admin, Value::Null).await;
        let words = "Additional properties are not allowed ('nonsense' was unexpected)";
        assert_eq!((status, &body["badRequest"]["message"]), (400, &json!(words)), "{path} {closed}");
    }
    let tags = format!("{server}/tags?nonsense=1");
    assert_eq!(at(&h, "2.104", "GET", &tags, &h.demo, Value::Null).await.0, 200, "tags take anything still");
    let known = format!("{SERVERS}?_internal=1&sort_key=uuid&changes-before=2099-01-01");
    assert_eq!(at(&h, "2.104", "GET", &known, &h.demo, Value::Null).await.0, 200);
}

#[tokio::test]
async fn flavors_lose_what_no_driver_heeds() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let path = format!("{V}/flavors");
    let flavor = json!({"flavor": {"name": "fast", "id": "7", "ram": 64, "vcpus": 1, "disk": 1, "rxtx_factor": "2.5"}});
    let (status, body) = at(&h, "2.102", "POST", &path, &h.admin, flavor.clone()).await;
    assert!(status == 400 && body.to_string().contains("'rxtx_factor' was unexpected"), "{body}");
    let (status, made) = at(&h, "2.101", "POST", &path, &h.admin, flavor).await;
    assert_eq!((status, &made["flavor"]["rxtx_factor"]), (200, &json!(2.5)));
    for bad in [json!(0), json!(-1), json!("much"), json!(1e39)] {
        let flavor = json!({"flavor": {"name": "bad", "ram": 64, "vcpus": 1, "disk": 1, "rxtx_factor": bad}});
        assert_eq!(at(&h, "2.101", "POST", &path, &h.admin, flavor).await.0, 400, "{bad}");
    }
    for version in ["2.101", "2.102"] {
        let (_, shown) = at(&h, version, "GET", &format!("{path}/7"), &h.admin, Value::Null).await;
        for name in ["rxtx_factor", "OS-FLV-DISABLED:disabled"] {
            assert_eq!(shown["flavor"].get(name).is_some(), version == "2.101", "{version} {name}");
        }
    }
    let named = format!("{path}?name=m1.small");
    let (_, list) = at(&h, "2.102", "GET", &named, &h.demo, Value::Null).await;
    let ids: Vec<&str> = list["flavors"].as_array().unwrap().iter().map(|flavor| text(&flavor["id"])).collect();
    assert_eq!(ids, [rows.small.as_str()]);
    assert_eq!(at(&h, "2.101", "GET", &named, &h.demo, Value::Null).await.0, 400);
}

#[tokio::test]
async fn a_server_shows_what_its_image_said() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let said =
        |os: &str| BTreeMap::from([("os_type".to_owned(), os.to_owned()), ("colour".to_owned(), "red".to_owned())]);
    rows.edit::<Image>(&h, &rows.image, |image| image.properties = said("linux")).await;
    let id = booted(&h, &rows, Value::Null).await;
    rows.edit::<Image>(&h, &rows.image, |image| image.properties = said("windows")).await;
    let path = format!("{SERVERS}/{id}");
    let show = async |version: &str| at(&h, version, "GET", &path, &h.demo, Value::Null).await.1["server"].clone();
    assert_eq!(show("2.98").await["image"]["properties"], json!({"os_type": "linux"}));
    assert!(show("2.97").await["image"].get("properties").is_none());
    let rebuild = json!({"rebuild": {"imageRef": rows.image}});
    let (status, body) = at(&h, "2.98", "POST", &format!("{path}/action"), &h.demo, rebuild).await;
    assert_eq!((status, &body["server"]["image"]["properties"]), (202, &json!({"os_type": "windows"})));
}

#[tokio::test]
async fn hints_name_servers_of_the_project_alone() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let one = booted(&h, &rows, Value::Null).await;
    let two = booted(&h, &rows, json!({"same_host": one, "different_host": []})).await;
    let row = h.cloud.store.snapshot().get::<Server>(&two).unwrap().value.clone();
    assert_eq!((row.same_host, row.different_host), (Some(vec![one.clone()]), vec![]));
    for (path, version) in [(format!("{SERVERS}/{two}"), "2.100"), (format!("{SERVERS}/{two}"), "2.99")] {
        let (_, shown) = at(&h, version, "GET", &path, &h.demo, Value::Null).await;
        let hints = json!({"same_host": [one], "different_host": []});
        assert_eq!(shown["server"].get("scheduler_hints"), (version == "2.100").then_some(&hints));
    }
    let (_, plain) = at(&h, "2.104", "GET", &format!("{SERVERS}/{one}"), &h.demo, Value::Null).await;
    assert_eq!(plain["server"]["scheduler_hints"], json!({}));

    let stranger = h.tenant("stranger", "member").await;
    let server = json!({"name": "x", "imageRef": rows.image, "flavorRef": rows.small, "networks": "none"});
    let (_, theirs) = at(&h, "2.37", "POST", SERVERS, &stranger, json!({"server": server})).await;
    let theirs = text(&theirs["server"]["id"]).to_owned();
    for (hints, status, says) in [
        (json!({"same_host": [one, theirs]}), 400, format!("Instance {theirs} could not be found.")),
        (json!({"different_host": theirs}), 400, format!("Instance {theirs} could not be found.")),
        (json!({"different_host": [7]}), 400, "uuid".into()),
        (json!({"same_host": vec![one.clone(); 101]}), 400, "more than 100 servers".into()),
        (json!({"query": "[\">=\", \"$free_ram_mb\", 1]"}), 501, "'query'".into()),
        (json!({"build_near_host_ip": "10.0.0.1", "cidr": "/24"}), 501, "'build_near_host_ip'".into()),
        (json!({"colour": "red"}), 501, "The scheduler hint 'colour'".into()),
    ] {
        let (got, body) = boot(&h, &rows, hints.clone()).await;
        assert!(got == status && body.to_string().contains(&says), "{hints}: {got} {body}");
    }
}

#[tokio::test]
async fn a_server_is_pinned_to_its_zone_and_freed() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let id = booted(&h, &rows, Value::Null).await;
    let path = format!("{SERVERS}/{id}");
    let pin = async |version: &str, zone: Value| {
        let body = json!({"server": {"pinned_availability_zone": zone}});
        let (status, body) = at(&h, version, "PUT", &path, &h.demo, body).await;
        (status, body["server"]["pinned_availability_zone"].clone())
    };
    assert_eq!(pin("2.103", json!("nova")).await.0, 400);
    assert_eq!(pin("2.104", json!("mars")).await.0, 409, "it is not there");
    assert_eq!(pin("2.104", json!("nova")).await, (200, json!("nova")));
    assert_eq!(pin("2.104", json!("nova")).await, (200, json!("nova")));
    assert_eq!(pin("2.104", json!("mars")).await.0, 409);
    assert_eq!(pin("2.104", Value::Null).await, (200, Value::Null));
    assert_eq!(h.cloud.store.snapshot().get::<Server>(&id).unwrap().availability_zone, None);
}

#[tokio::test]
async fn limits_of_old_versions_are_limits() {
    let h = Harness::new().await;
    let quota = format!("{V}/os-quota-sets/{}", h.demo_project);
    let set = |name: &str, limit: u64| json!({"quota_set": {name: limit}});
    for (name, limit) in [("floating_ips", 0), ("fixed_ips", 9), ("security_groups", 1), ("injected_files", 2)] {
        let (_, _, shown) = h.ok("PUT", &quota, &h.admin, set(name, limit)).await;
        assert_eq!(shown["quota_set"][name], limit, "{name}");
    }
    // One number, by whichever name it is set.
    let neutron = format!("/network/v2.0/quotas/{}", h.demo_project);
    let (_, _, shown) = h.ok("GET", &neutron, &h.demo, Value::Null).await;
    assert_eq!((&shown["quota"]["floatingip"], &shown["quota"]["security_group"]), (&json!(0), &json!(1)));
    let group = |name: &str| json!({"security_group": {"name": name, "description": ""}});
    let groups = format!("{V}/os-security-groups");
    let made = h.call("POST", &groups, &h.demo, group("one")).await;
    let (status, _, body) = h.call("POST", &groups, &h.demo, group("two")).await;
    assert!(status == 403 && body.to_string().contains("1 of 1"), "{} {}: {status} {body}", made.0, made.2);
    assert_eq!(at(&h, "2.36", "PUT", &quota, &h.admin, set("floating_ips", 1)).await.0, 400);

    // The newer versions say nothing of it, and leave it.
    assert_eq!(at(&h, "2.36", "DELETE", &quota, &h.admin, Value::Null).await.0, 202);
    let (_, _, shown) = h.ok("GET", &quota, &h.demo, Value::Null).await;
    assert_eq!((&shown["quota_set"]["injected_files"], &shown["quota_set"]["floating_ips"]), (&json!(5), &json!(0)));
    assert_eq!(h.call("DELETE", &quota, &h.admin, Value::Null).await.0, 202);
    let (_, _, shown) = h.ok("GET", &quota, &h.demo, Value::Null).await;
    assert_eq!((&shown["quota_set"]["fixed_ips"], &shown["quota_set"]["floating_ips"]), (&json!(-1), &json!(50)));
}

#[tokio::test]
async fn files_are_kept_within_the_quota() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let create = async |version: &str, files: Value| {
        let server = json!({"name": "web", "imageRef": rows.image, "flavorRef": rows.small, "personality": files,
            "networks": "none"});
        at(&h, version, "POST", SERVERS, &h.demo, json!({"server": server})).await
    };
    let file = |path: &str, length: usize| json!({"path": path, "contents": "A".repeat(length)});
    let (status, made) = create("2.56", json!([{"path": "/etc/motd", "contents": "aGVs\nbG8K"}])).await;
    assert_eq!(status, 202, "{made}");
    let id = text(&made["server"]["id"]).to_owned();
    let files = |h: &Harness| h.cloud.store.snapshot().get::<Server>(&id).unwrap().files.clone();
    assert_eq!((files(&h)[0].path.as_str(), files(&h)[0].contents.as_str()), ("/etc/motd", "aGVsbG8K"));
    for (version, asked, status, says) in [
        ("2.56", json!(vec![file("/a", 4); 6]), 403, "Personality file limit exceeded"),
        ("2.56", json!([file("/a", 10244)]), 403, "Personality file content exceeds maximum 10240"),
        ("2.56", json!([file(&"p".repeat(256), 4)]), 403, "Personality file path exceeds maximum 255"),
        ("2.56", json!([{"path": "/a", "contents": "no base64!"}]), 400, "base64"),
        ("2.56", json!([{"path": "/a"}]), 400, "'contents' is a required property"),
        ("2.56", json!("files"), 400, "array"),
        ("2.57", json!([]), 400, "'personality' was unexpected"),
    ] {
        let (got, body) = create(version, asked).await;
        assert!(got == status && body.to_string().contains(says), "{says}: {got} {body}");
    }
    let none = json!({"quota_set": {"injected_files": -1, "injected_file_content_bytes": -1}});
    h.ok("PUT", &format!("{V}/os-quota-sets/{}", h.demo_project), &h.admin, none).await;
    let (status, body) = create("2.56", json!(vec![file("/a", 100_000); 3])).await;
    assert!(status == 400 && body.to_string().contains("262144"), "{status} {body}");

    // A new disk has what is asked for with it.
    let act = format!("{SERVERS}/{id}/action");
    for (personality, count) in [(json!([file("/b", 4), file("/c", 4)]), 2), (Value::Null, 0)] {
        rows.place(&h, &id, "node1", VmPhase::Running).await;
        let mut rebuild = json!({"rebuild": {"imageRef": rows.image}});
        if !personality.is_null() {
            rebuild["rebuild"]["personality"] = personality;
        }
        assert_eq!(at(&h, "2.56", "POST", &act, &h.demo, rebuild).await.0, 202);
        assert_eq!(files(&h).len(), count);
    }
}

/// What is declared of a body is all that it may say, in each version that it has it.
#[tokio::test]
async fn what_no_schema_has_is_refused() {
    let h = Harness::new().await;
    let mut tried = 0;
    let table = (face_openstack::compute::SERVICE.table)();
    for endpoint in table.iter().filter(|row| row.until > (2, 1) && !row.path.contains('{')) {
        for takes in endpoint.bodies.iter().filter(|takes| !takes.name.is_empty()) {
            let refused = async |version: (u16, u16), property: &str, value: &Value| {
                let version = format!("compute {}.{}", version.0, version.1);
                let path = format!("/compute{}", endpoint.path);
                let body = json!({takes.name: {property: value}});
                let headers = [("openstack-api-version", version.as_str())];
                let (status, _, answer) = h.call_with(endpoint.method.as_str(), &path, &h.admin, &headers, body).await;
                let words = format!("('{property}' was unexpected)");
                assert!(status == 400 && answer.to_string().contains(&words), "{version} {path} {property}: {answer}");
            };
            refused((2, 104), "nobodys", &json!(1)).await;
            for property in takes.properties.iter().filter(|property| property.since > (2, 1)) {
                let before = (2, property.since.1 - 1);
                let here = |other: &Property| other.name == property.name && other.until == before;
                if !takes.properties.iter().any(here) {
                    refused(before, property.name, &property.sample).await;
                    tried += 1;
                }
            }
            for property in takes.properties.iter().filter(|property| property.until < (2, 104)) {
                let after = (2, property.until.1 + 1);
                if !takes.properties.iter().any(|other| other.name == property.name && other.since == after) {
                    refused(after, property.name, &property.sample).await;
                    tried += 1;
                }
            }
        }
    }
    assert!(tried >= 10, "{tried}");
    // Nothing is no value of what is required.
    let flavor = json!({"flavor": {"name": "x", "vcpus": 1, "disk": 1, "ram": null}});
    let (status, answer) = at(&h, "2.104", "POST", &format!("{V}/flavors"), &h.admin, flavor).await;
    assert!(status == 400 && answer.to_string().contains("ram. Value: null. It is not of type 'integer'"), "{answer}");
}
