//! Nova around the servers, and Placement.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use common::{Harness, text};
use model::VmPhase;
use rows::Rows;
use serde_json::{Value, json};

const V: &str = "/compute/v2.1";

/// A call in a microversion.
async fn at(h: &Harness, version: &str, method: &str, path: &str, token: &str, body: Value) -> (u16, Value) {
    let service = if path.starts_with("/placement") { "placement" } else { "compute" };
    let header = format!("{service} {version}");
    let (status, _, body) = h.call_with(method, path, token, &[("openstack-api-version", &header)], body).await;
    (status, body)
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> =
        value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn versions_need_no_token() {
    let h = Harness::new().await;
    for path in ["/compute", "/compute/"] {
        let (status, headers, body) = h.call("GET", path, "", Value::Null).await;
        assert_eq!((status, &body["versions"][0]["id"]), (200, &json!("v2.0")));
        assert_eq!(body["versions"][1]["id"], "v2.1");
        assert!(headers.contains_key("x-compute-request-id"));
    }
    let (_, _, body) = h.ok("GET", "/compute/v2.1/", "", Value::Null).await;
    assert_eq!((&body["version"]["min_version"], &body["version"]["version"]), (&json!("2.1"), &json!("2.104")));
    let (_, _, body) = h.ok("GET", "/placement/", "", Value::Null).await;
    assert_eq!(body["versions"][0]["max_version"], "1.39");
    assert_eq!(h.call("GET", "/compute/v2.1/servers", "", Value::Null).await.0, 401);
    h.ok("GET", "/compute/v2/servers", &h.demo, Value::Null).await;
    assert_eq!(h.call("DELETE", "/compute/v2.1/os-keypairs/", &h.demo, Value::Null).await.0, 404);
}

#[tokio::test]
async fn flavors() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let (_, _, list) = h.ok("GET", &format!("{V}/flavors/detail?minRam=500"), &h.demo, Value::Null).await;
    assert_eq!(list["flavors"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        keys(&list["flavors"][0]),
        [
            "OS-FLV-DISABLED:disabled",
            "OS-FLV-EXT-DATA:ephemeral",
            "disk",
            "id",
            "links",
            "name",
            "os-flavor-access:is_public",
            "ram",
            "rxtx_factor",
            "swap",
            "vcpus"
        ]
    );
    let (_, shown) = at(&h, "2.75", "GET", &format!("{V}/flavors/{}", rows.small), &h.demo, Value::Null).await;
    assert_eq!(shown["flavor"]["swap"], 0);
    assert_eq!(shown["flavor"]["extra_specs"], json!({}));

    let asked = json!({"flavor": {"name": "private", "id": "42", "ram": 64, "vcpus": 1, "disk": 0,
        "os-flavor-access:is_public": false}});
    assert_eq!(h.call("POST", &format!("{V}/flavors"), &h.demo, asked.clone()).await.0, 403);
    h.ok("POST", &format!("{V}/flavors"), &h.admin, asked.clone()).await;
    assert_eq!(h.call("POST", &format!("{V}/flavors"), &h.admin, asked).await.0, 409);
    assert_eq!(h.call("GET", &format!("{V}/flavors/42"), &h.demo, Value::Null).await.0, 404);
    let grant = json!({"addTenantAccess": {"tenant": h.demo_project}});
    h.ok("POST", &format!("{V}/flavors/42/action"), &h.admin, grant.clone()).await;
    assert_eq!(h.call("POST", &format!("{V}/flavors/42/action"), &h.admin, grant).await.0, 409);
    h.ok("GET", &format!("{V}/flavors/42"), &h.demo, Value::Null).await;
    let (_, _, access) = h.ok("GET", &format!("{V}/flavors/42/os-flavor-access"), &h.admin, Value::Null).await;
    assert_eq!(access["flavor_access"], json!([{"flavor_id": "42", "tenant_id": h.demo_project}]));

    let specs = format!("{V}/flavors/42/os-extra_specs");
    h.ok("POST", &specs, &h.admin, json!({"extra_specs": {"trait:HW_CPU_X86_AVX2": "required"}})).await;
    let (_, _, spec) = h.ok("GET", &format!("{specs}/trait:HW_CPU_X86_AVX2"), &h.demo, Value::Null).await;
    assert_eq!(spec, json!({"trait:HW_CPU_X86_AVX2": "required"}));
    assert_eq!(h.call("DELETE", &format!("{specs}/trait:HW_CPU_X86_AVX2"), &h.admin, Value::Null).await.0, 200);
    assert_eq!(h.call("GET", &format!("{specs}/trait:HW_CPU_X86_AVX2"), &h.demo, Value::Null).await.0, 404);
    assert_eq!(h.call("DELETE", &format!("{V}/flavors/42"), &h.admin, Value::Null).await.0, 202);
    for (name, value) in [("ram", json!(0)), ("vcpus", json!("many")), ("disk", json!(-1)), ("name", json!(" x"))] {
        let mut flavor = json!({"name": "bad", "ram": 1, "vcpus": 1, "disk": 0});
        flavor[name] = value;
        let (status, _, body) = h.call("POST", &format!("{V}/flavors"), &h.admin, json!({"flavor": flavor})).await;
        assert_eq!(status, 400, "{name}: {body}");
    }
}

#[tokio::test]
async fn keypairs() {
    let h = Harness::new().await;
    let path = format!("{V}/os-keypairs");
    let (status, _, made) = h.call("POST", &path, &h.demo, json!({"keypair": {"name": "mine"}})).await;
    assert_eq!(status, 200);
    assert_eq!(keys(&made["keypair"]), ["fingerprint", "name", "private_key", "public_key", "user_id"]);
    assert_eq!(h.call("POST", &path, &h.demo, json!({"keypair": {"name": "mine"}})).await.0, 409);
    let text = format!(" {}  ann@home\n", text(&made["keypair"]["public_key"]));
    let asked = json!({"keypair": {"name": "import", "type": "ssh", "public_key": text}});
    let (status, body) = at(&h, "2.2", "POST", &path, &h.demo, asked).await;
    assert_eq!((status, &body["keypair"]["type"]), (201, &json!("ssh")));
    assert_eq!(body["keypair"]["fingerprint"], made["keypair"]["fingerprint"]);
    assert_eq!(body["keypair"]["public_key"], json!(text), "as it was given");
    for asked in
        [json!({"name": "x", "public_key": "ssh-rsa JUNK"}), json!({"name": "a/b"}), json!({"name": ""}), json!({})]
    {
        assert_eq!(h.call("POST", &path, &h.demo, json!({"keypair": asked})).await.0, 400);
    }
    let (status, body) = at(&h, "2.92", "POST", &path, &h.demo, json!({"keypair": {"name": "new"}})).await;
    assert_eq!(status, 400, "{body}");
    let asked = json!({"keypair": {"name": "windows", "type": "x509"}});
    let (status, body) = at(&h, "2.2", "POST", &path, &h.demo, asked).await;
    assert_eq!((status, &body["keypair"]["type"]), (201, &json!("x509")));
    let (_, _, list) = h.ok("GET", &path, &h.demo, Value::Null).await;
    assert_eq!(list["keypairs"].as_array().map(Vec::len), Some(3));
    let (_, _, one) = h.ok("GET", &format!("{path}/mine"), &h.demo, Value::Null).await;
    assert_eq!(
        keys(&one["keypair"]),
        ["created_at", "deleted", "deleted_at", "fingerprint", "id", "name", "public_key", "updated_at", "user_id"]
    );
    let (_, _, list) = h.ok("GET", &path, &h.admin, Value::Null).await;
    assert_eq!(list["keypairs"], json!([]), "key pairs are a user's own");
    assert_eq!(h.call("DELETE", &format!("{path}/mine"), &h.demo, Value::Null).await.0, 202);
    assert_eq!(at(&h, "2.2", "DELETE", &format!("{path}/import"), &h.demo, Value::Null).await.0, 204);
    assert_eq!(h.call("GET", &format!("{path}/mine"), &h.demo, Value::Null).await.0, 404);
}

#[tokio::test]
async fn quotas_and_limits() {
    let h = Harness::new().await;
    let path = format!("{V}/os-quota-sets/{}", h.demo_project);
    let (_, _, body) = h.ok("GET", &path, &h.demo, Value::Null).await;
    for name in
        ["instances", "cores", "ram", "metadata_items", "key_pairs", "fixed_ips", "floating_ips", "injected_files"]
    {
        assert!(body["quota_set"][name].is_i64() || body["quota_set"][name].is_u64(), "{name}: {body}");
    }
    assert_eq!(body["quota_set"]["id"], h.demo_project.as_str());
    let (_, body) = at(&h, "2.57", "GET", &format!("{path}/defaults"), &h.demo, Value::Null).await;
    assert_eq!(
        keys(&body["quota_set"]),
        ["cores", "id", "instances", "key_pairs", "metadata_items", "ram", "server_group_members", "server_groups"]
    );
    assert_eq!(h.call("GET", &format!("{V}/os-quota-sets/nobody"), &h.demo, Value::Null).await.0, 403);
    h.ok("PUT", &path, &h.admin, json!({"quota_set": {"key_pairs": 1, "instances": -1}})).await;
    let keypairs = format!("{V}/os-keypairs");
    h.ok("POST", &keypairs, &h.demo, json!({"keypair": {"name": "one"}})).await;
    let (status, _, body) = h.call("POST", &keypairs, &h.demo, json!({"keypair": {"name": "two"}})).await;
    let words = "Quota exceeded for key_pairs: Requested 1, but already used 1 of 1 key_pairs";
    assert_eq!((status, &body["forbidden"]["message"]), (403, &json!(words)));
    let (_, _, body) = h.ok("GET", &path, &h.demo, Value::Null).await;
    assert_eq!(body["quota_set"]["instances"], -1);
    assert_eq!(h.call("DELETE", &path, &h.admin, Value::Null).await.0, 202);
    let (_, _, body) = h.ok("GET", &path, &h.demo, Value::Null).await;
    assert_eq!((&body["quota_set"]["instances"], &body["quota_set"]["key_pairs"]), (&json!(10), &json!(100)));
    let (_, body) = at(&h, "2.57", "GET", &format!("{V}/limits"), &h.demo, Value::Null).await;
    assert!(body["limits"]["absolute"].get("maxTotalFloatingIps").is_none());
    let (_, _, body) = h.ok("GET", &format!("{V}/os-quota-class-sets/default"), &h.admin, Value::Null).await;
    assert_eq!(body["quota_class_set"]["cores"], 20);
}

#[tokio::test]
async fn the_default_class_is_every_projects_limit() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let (class, of) = (format!("{V}/os-quota-class-sets/default"), |id: &str| format!("{V}/os-quota-sets/{id}"));
    h.ok("PUT", &of(&h.admin_project), &h.admin, json!({"quota_set": {"instances": 7}})).await;
    let asked = json!({"quota_class_set": {"instances": 1, "key_pairs": 3, "ram": -1}});
    let (_, _, set) = h.ok("PUT", &class, &h.admin, asked).await;
    let set = &set["quota_class_set"];
    assert_eq!(
        (&set["instances"], &set["ram"], &set["cores"], set.get("id")),
        (&json!(1), &json!(-1), &json!(20), None)
    );
    let server = json!({"server": {"name": "x", "imageRef": rows.image, "flavorRef": rows.small}});
    h.ok("POST", &format!("{V}/servers"), &h.demo, server.clone()).await;
    let (status, _, body) = h.call("POST", &format!("{V}/servers"), &h.demo, server.clone()).await;
    assert!(status == 403 && body.to_string().contains("used 1 of 1 instances"), "{status} {body}");
    let new = h.tenant("new", "member").await;
    for (project, instances) in
        [(h.demo_project.clone(), 1), (h.admin_project.clone(), 7), (h.project_of(&new).await, 1)]
    {
        let (_, _, shown) = h.ok("GET", &of(&project), &h.admin, Value::Null).await;
        let shown = &shown["quota_set"];
        assert_eq!((&shown["instances"], &shown["key_pairs"]), (&json!(instances), &json!(3)), "{shown}");
    }
    h.ok("POST", &format!("{V}/servers"), &new, server.clone()).await;
    assert_eq!(h.call("POST", &format!("{V}/servers"), &new, server.clone()).await.0, 403);
    let (_, _, shown) = h.ok("GET", &format!("{}/defaults", of(&h.demo_project)), &h.demo, Value::Null).await;
    assert_eq!(shown["quota_set"]["instances"], 1);
    // Back to the default is back to this one.
    h.ok("DELETE", &of(&h.admin_project), &h.admin, Value::Null).await;
    let (_, _, shown) = h.ok("GET", &of(&h.admin_project), &h.admin, Value::Null).await;
    assert_eq!(shown["quota_set"]["instances"], 1);
    h.ok("PUT", &class, &h.admin, json!({"quota_class_set": {"instances": 2}})).await;
    h.ok("POST", &format!("{V}/servers"), &new, server).await;

    for (path, body) in [
        (class.clone(), json!({"quota_class_set": {"instances": -2}})),
        (class.clone(), json!({"quota_class_set": {"colours": 1}})),
        (class.clone(), json!({"quota_class_set": {"server_groups": 1}})),
        (class.clone(), json!({"quota_class_set": {"id": "default"}})),
        (format!("{V}/os-quota-class-sets/other"), json!({"quota_class_set": {"instances": 1}})),
    ] {
        assert_eq!(h.call("PUT", &path, &h.admin, body.clone()).await.0, 400, "{path} {body}");
    }
    // What it shows, it takes.
    for (version, count) in [("2.1", 12), ("2.49", 12), ("2.50", 10), ("2.57", 7)] {
        let (_, mut shown) = at(&h, version, "GET", &class, &h.admin, Value::Null).await;
        shown["quota_class_set"].as_object_mut().unwrap().remove("id");
        assert_eq!(shown["quota_class_set"].as_object().unwrap().len(), count, "{version}: {shown}");
        assert_eq!(at(&h, version, "PUT", &class, &h.admin, shown.clone()).await, (200, shown), "{version}");
    }
    let asked = json!({"quota_class_set": {"server_groups": 5}});
    let (status, set) = at(&h, "2.50", "PUT", &class, &h.admin, asked).await;
    assert_eq!((status, &set["quota_class_set"]["server_groups"]), (200, &json!(5)));
}

#[tokio::test]
async fn server_groups() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let path = format!("{V}/os-server-groups");
    let (_, _, made) =
        h.ok("POST", &path, &h.demo, json!({"server_group": {"name": "g", "policies": ["affinity"]}})).await;
    let id = text(&made["server_group"]["id"]).to_owned();
    let (status, body) = at(&h, "2.64", "GET", &format!("{path}/{id}"), &h.demo, Value::Null).await;
    assert_eq!((status, &body["server_group"]["policy"]), (200, &json!("affinity")));
    let server = json!({"server": {"name": "s", "imageRef": rows.image, "flavorRef": rows.small},
        "os:scheduler_hints": {"group": id}});
    let (_, _, made) = h.ok("POST", &format!("{V}/servers"), &h.demo, server.clone()).await;
    let (_, _, body) = h.ok("GET", &format!("{path}/{id}"), &h.demo, Value::Null).await;
    assert_eq!(body["server_group"]["members"], json!([made["server"]["id"]]));
    // A limit of members is one of those that are asked for at once, too.
    let quota = format!("{V}/os-quota-sets/{}", h.demo_project);
    h.ok("PUT", &quota, &h.admin, json!({"quota_set": {"server_group_members": 2}})).await;
    for (count, status) in [(2, 403), (1, 202)] {
        let mut several = server.clone();
        several["server"]["max_count"] = json!(count);
        assert_eq!(h.call("POST", &format!("{V}/servers"), &h.demo, several).await.0, status, "{count}");
    }
    for asked in [
        json!({"name": "g", "policies": []}),
        json!({"name": "g", "policies": ["love"]}),
        json!({"policies": ["affinity"]}),
    ] {
        assert_eq!(h.call("POST", &path, &h.demo, json!({"server_group": asked})).await.0, 400);
    }
    assert_eq!(h.call("DELETE", &format!("{path}/{id}"), &h.demo, Value::Null).await.0, 204);
    assert_eq!(h.call("DELETE", &format!("{path}/{id}"), &h.demo, Value::Null).await.0, 404);
}

#[tokio::test]
async fn hosts_in_nova() {
    let h = Harness::new().await;
    Rows::new(&h).await;
    let (_, body) = at(&h, "2.88", "GET", &format!("{V}/os-hypervisors/detail"), &h.admin, Value::Null).await;
    let one = &body["hypervisors"][0];
    assert_eq!(
        keys(one),
        [
            "host_ip",
            "hypervisor_hostname",
            "hypervisor_type",
            "hypervisor_version",
            "id",
            "service",
            "state",
            "status",
            "uptime"
        ]
    );
    assert_eq!((&one["state"], &one["hypervisor_version"]), (&json!("up"), &json!(10_000_002)));
    let path = format!("{V}/os-hypervisors/{}", text(&one["id"]));
    assert_eq!(at(&h, "2.88", "GET", &path, &h.admin, Value::Null).await.0, 200);
    let (_, _, body) = h.ok("GET", &format!("{V}/os-hypervisors/statistics"), &h.admin, Value::Null).await;
    assert_eq!(body["hypervisor_statistics"]["vcpus"], 4);
    assert_eq!(h.call("GET", &format!("{V}/os-hypervisors"), &h.demo, Value::Null).await.0, 403);
    let (_, body) = at(&h, "2.53", "GET", &format!("{V}/os-services"), &h.admin, Value::Null).await;
    let path = format!("{V}/os-services/{}", text(&body["services"][0]["id"]));
    let asked = json!({"status": "disabled", "disabled_reason": "repair"});
    let (status, body) = at(&h, "2.53", "PUT", &path, &h.admin, asked).await;
    assert_eq!(
        (status, &body["service"]["status"], &body["service"]["disabled_reason"]),
        (200, &json!("disabled"), &json!("repair"))
    );
    let (_, _, body) = h.ok("GET", &format!("{V}/os-availability-zone"), &h.demo, Value::Null).await;
    assert_eq!(
        body["availabilityZoneInfo"],
        json!([{"zoneName": "nova", "zoneState": {"available": false}, "hosts": null}])
    );
    let asked = json!({"host": "node1", "binary": "nova-compute"});
    h.ok("PUT", &format!("{V}/os-services/enable"), &h.admin, asked).await;
    let (_, _, body) = h.ok("GET", &format!("{V}/os-availability-zone/detail"), &h.admin, Value::Null).await;
    assert_eq!(body["availabilityZoneInfo"][0]["hosts"]["node1"]["nova-compute"]["active"], true);
    assert_eq!(h.ok("GET", &format!("{V}/os-aggregates"), &h.admin, Value::Null).await.2, json!({"aggregates": []}));
}

#[tokio::test]
async fn aggregates_are_zones_and_reservations() {
    let h = Harness::new().await;
    Rows::new(&h).await;
    let path = format!("{V}/os-aggregates");
    let asked = |name: &str, zone: Value| json!({"aggregate": {"name": name, "availability_zone": zone}});
    let (_, made) = at(&h, "2.41", "POST", &path, &h.admin, asked("rack", json!("east"))).await;
    assert_eq!((&made["aggregate"]["id"], &made["aggregate"]["availability_zone"]), (&json!(1), &json!("east")));
    assert!(made["aggregate"]["uuid"].is_string());
    let action = async |id: u32, body: Value| h.call("POST", &format!("{path}/{id}/action"), &h.admin, body).await;
    for (body, status) in [
        (json!({"add_host": {"host": "node1"}}), 200),
        (json!({"add_host": {"host": "node1"}}), 409),
        (json!({"add_host": {"host": "nowhere"}}), 404),
        (json!({"remove_host": {"host": "nowhere"}}), 404),
        (json!({"set_metadata": {"metadata": {"ssd": "true", "none": null}}}), 200),
        (json!({"set_metadata": {"metadata": {"ssd": 1}}}), 400),
        (json!({"set_metadata": {"metadata": {"x": "y"}}, "add_host": {"host": "node1"}}), 400),
        (json!({"explode": {}}), 400),
    ] {
        assert_eq!(action(1, body.clone()).await.0, status, "{body}");
    }
    assert_eq!(action(7, json!({"add_host": {"host": "node1"}})).await.0, 404);
    // A host is in one zone, whichever way it would get into another.
    for zone in [json!("east"), json!("west")] {
        assert_eq!(h.call("POST", &path, &h.admin, asked("other", zone)).await.0, 200);
        assert_eq!(action(2, json!({"add_host": {"host": "node1"}})).await.0, 409);
        h.ok("DELETE", &format!("{path}/2"), &h.admin, Value::Null).await;
    }
    h.ok("POST", &path, &h.admin, asked("open", Value::Null)).await;
    assert_eq!(action(2, json!({"add_host": {"host": "node1"}})).await.0, 200);
    assert_eq!(h.call("PUT", &format!("{path}/2"), &h.admin, asked("open", json!("west"))).await.0, 409);
    assert_eq!(h.call("POST", &path, &h.admin, asked("rack", Value::Null)).await.0, 409, "names are unique");
    assert_eq!(h.call("POST", &path, &h.admin, asked("a", json!("b:c"))).await.0, 400, "a zone is no host");
    assert_eq!(h.call("DELETE", &format!("{path}/1"), &h.admin, Value::Null).await.0, 400, "it has a host");
    let (_, _, zones) = h.ok("GET", &format!("{V}/os-availability-zone"), &h.demo, Value::Null).await;
    assert_eq!(zones["availabilityZoneInfo"][0]["zoneName"], "east");
    let (_, _, hosts) = h.ok("GET", &format!("{V}/os-services"), &h.admin, Value::Null).await;
    assert_eq!(hosts["services"][0]["zone"], "east");
    let (_, _, shown) = h.ok("GET", &format!("{path}/1"), &h.admin, Value::Null).await;
    assert_eq!(shown["aggregate"]["metadata"], json!({"availability_zone": "east", "ssd": "true"}));
    assert_eq!(shown["aggregate"]["hosts"], json!(["node1"]));
}

#[tokio::test]
async fn security_groups_of_old() {
    let h = Harness::new().await;
    let path = format!("{V}/os-security-groups");
    let (_, _, made) = h.ok("POST", &path, &h.demo, json!({"security_group": {"name": "g", "description": "d"}})).await;
    assert_eq!(keys(&made["security_group"]), ["description", "id", "name", "rules", "tenant_id"]);
    let id = text(&made["security_group"]["id"]).to_owned();
    let rules = format!("{V}/os-security-group-rules");
    let asked =
        json!({"security_group_rule": {"parent_group_id": id, "ip_protocol": "tcp", "from_port": 22, "to_port": 22}});
    let (_, _, rule) = h.ok("POST", &rules, &h.demo, asked.clone()).await;
    assert_eq!(rule["security_group_rule"]["ip_range"], json!({"cidr": "0.0.0.0/0"}));
    assert_eq!(h.call("POST", &rules, &h.demo, asked).await.0, 400, "the same again");
    for (field, value) in [("from_port", json!(70000)), ("ip_protocol", json!("999")), ("cidr", json!("1.2.3.4/99"))] {
        let mut asked = json!({"parent_group_id": id, "ip_protocol": "tcp", "from_port": 23, "to_port": 23});
        asked[field] = value;
        assert_eq!(h.call("POST", &rules, &h.demo, json!({"security_group_rule": asked})).await.0, 400, "{field}");
    }
    let (_, _, shown) = h.ok("GET", &format!("{path}/{id}"), &h.demo, Value::Null).await;
    assert_eq!(shown["security_group"]["rules"].as_array().map(Vec::len), Some(1));
    let (_, _, body) = h
        .ok("PUT", &format!("{path}/{id}"), &h.demo, json!({"security_group": {"name": "h", "description": "e"}}))
        .await;
    assert_eq!(body["security_group"]["name"], "h");
    let nobody = uuid::Uuid::new_v4();
    for method in ["GET", "DELETE"] {
        assert_eq!(h.call(method, &format!("{path}/{nobody}"), &h.demo, Value::Null).await.0, 404);
    }
    let rule = text(&rule["security_group_rule"]["id"]).to_owned();
    assert_eq!(h.call("DELETE", &format!("{rules}/{rule}"), &h.demo, Value::Null).await.0, 202);
    assert_eq!(h.call("DELETE", &format!("{path}/{id}"), &h.demo, Value::Null).await.0, 202);
    assert_eq!(at(&h, "2.36", "GET", &path, &h.demo, Value::Null).await.0, 404, "gone since 2.36");
}

#[tokio::test]
async fn operators_give_traits_to_hosts() {
    let h = Harness::new().await;
    Rows::new(&h).await;
    let call = async |method: &str, path: &str, body: Value| {
        at(&h, "1.39", method, &format!("/placement{path}"), &h.admin, body).await
    };
    assert_eq!(call("PUT", "/traits/CUSTOM_gold", Value::Null).await.0, 400);
    assert_eq!(call("PUT", "/traits/CUSTOM_GOLD", Value::Null).await.0, 201);
    assert_eq!(call("PUT", "/traits/CUSTOM_GOLD", Value::Null).await.0, 204);
    assert_eq!(call("GET", "/traits?associated=false", Value::Null).await.1["traits"], json!(["CUSTOM_GOLD"]));
    let (_, body) = call("GET", "/resource_providers", Value::Null).await;
    let path = format!("/resource_providers/{}/traits", text(&body["resource_providers"][0]["uuid"]));
    let (_, before) = call("GET", &path, Value::Null).await;
    let ask = |generation: &Value, name: &str| json!({"resource_provider_generation": generation, "traits": [name]});
    let generation = &before["resource_provider_generation"];
    assert_eq!(call("PUT", &path, ask(generation, "CUSTOM_NONE")).await.0, 400);
    let (status, body) = call("PUT", &path, ask(generation, "CUSTOM_GOLD")).await;
    assert_eq!((status, &body["traits"]), (200, &json!(["COMPUTE_NODE", "CUSTOM_GOLD", "HW_CPU_X86_AVX2"])));
    assert_eq!(call("PUT", &path, ask(generation, "CUSTOM_GOLD")).await.0, 409, "somebody else was there first");
    assert_eq!(call("DELETE", "/traits/CUSTOM_GOLD", Value::Null).await.0, 409);
    assert_eq!(call("DELETE", "/traits/COMPUTE_NODE", Value::Null).await.0, 400);
    assert_eq!(call("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(call("GET", &path, Value::Null).await.1, before);
    assert_eq!(call("DELETE", "/traits/CUSTOM_GOLD", Value::Null).await.0, 204);
    assert_eq!(call("DELETE", "/traits/CUSTOM_GOLD", Value::Null).await.0, 404);
}

#[tokio::test]
async fn placement_is_a_view_of_hosts() {
    let h = Harness::new().await;
    let rows = Rows::new(&h).await;
    let server = json!({"server": {"name": "s", "imageRef": rows.image, "flavorRef": rows.small}});
    let (_, _, made) = h.ok("POST", &format!("{V}/servers"), &h.demo, server).await;
    let server = text(&made["server"]["id"]).to_owned();
    rows.place(&h, &server, "node1", VmPhase::Running).await;

    assert_eq!(h.call("GET", "/placement/resource_providers", &h.demo, Value::Null).await.0, 403);
    let (_, body) = at(&h, "1.39", "GET", "/placement/resource_providers", &h.admin, Value::Null).await;
    let provider = &body["resource_providers"][0];
    assert_eq!(provider["name"], "node1");
    let id = text(&provider["uuid"]).to_owned();
    let base = format!("/placement/resource_providers/{id}");
    let (_, body) = at(&h, "1.39", "GET", &format!("{base}/inventories"), &h.admin, Value::Null).await;
    assert_eq!(body["inventories"]["VCPU"]["total"], 4);
    assert_eq!(body["inventories"]["VCPU"]["allocation_ratio"], 4.0);
    let (_, body) = at(&h, "1.39", "GET", &format!("{base}/usages"), &h.admin, Value::Null).await;
    assert_eq!(body["usages"], json!({"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 1}));
    let (_, body) = at(&h, "1.39", "GET", &format!("/placement/allocations/{server}"), &h.admin, Value::Null).await;
    assert_eq!(body["allocations"][&id]["resources"]["MEMORY_MB"], 256);
    assert_eq!((&body["project_id"], &body["consumer_type"]), (&json!(h.demo_project), &json!("INSTANCE")));
    let path = format!("/placement/usages?project_id={}", h.demo_project);
    let (_, body) = at(&h, "1.37", "GET", &path, &h.admin, Value::Null).await;
    assert_eq!(body["usages"]["VCPU"], 1);

    let path = "/placement/allocation_candidates?resources=VCPU:1,MEMORY_MB:64&required=HW_CPU_X86_AVX2";
    let (_, body) = at(&h, "1.39", "GET", path, &h.admin, Value::Null).await;
    assert_eq!(body["allocation_requests"][0]["mappings"], json!({"": [id]}));
    assert_eq!(body["provider_summaries"][&id]["resources"]["MEMORY_MB"], json!({"capacity": 8192, "used": 256}));
    for query in ["resources=VCPU:5", "resources=MEMORY_MB:8000", "resources=VCPU:1&required=!COMPUTE_NODE"] {
        let path = format!("/placement/allocation_candidates?{query}");
        let (_, body) = at(&h, "1.39", "GET", &path, &h.admin, Value::Null).await;
        assert_eq!(body["allocation_requests"], json!([]), "{query}");
    }
    let (status, body) =
        at(&h, "1.39", "GET", "/placement/allocation_candidates?resources=LOVE:1", &h.admin, Value::Null).await;
    assert_eq!(status, 400, "{body}");
    let (_, body) = at(&h, "1.39", "GET", "/placement/traits?name=startswith:HW", &h.admin, Value::Null).await;
    assert_eq!(body, json!({"traits": ["HW_CPU_X86_AVX2"]}));
    let (status, body) = at(&h, "1.0", "GET", "/placement/resource_providers/nope", &h.admin, Value::Null).await;
    assert_eq!(status, 404);
    assert_eq!(
        body["errors"][0]["detail"],
        "The resource could not be found.\n\n No resource provider with uuid nope found  "
    );
    assert_eq!(at(&h, "1.39", "PUT", &format!("/placement/allocations/{server}"), &h.admin, json!({})).await.0, 403);
    let (_, body) = at(&h, "1.39", "GET", "/placement/resource_classes", &h.admin, Value::Null).await;
    assert_eq!(body["resource_classes"].as_array().map(Vec::len), Some(21));
}
