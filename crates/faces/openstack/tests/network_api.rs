//! Networks, subnets, ports, pools, lists, tags and quotas of the network service, as its clients use them.

mod common;

use common::{Harness, text};
use serde_json::{Value, json};

const V: &str = "/network/v2.0";

async fn make(cloud: &Harness, token: &str, many: &str, one: &str, body: Value) -> Value {
    let (status, _, reply) = cloud.call("POST", &format!("{V}/{many}"), token, json!({ one: body })).await;
    assert_eq!(status, 201, "{many} {body}: {reply}");
    reply[one].clone()
}

async fn network(cloud: &Harness) -> String {
    let made = make(cloud, &cloud.demo, "networks", "network", json!({"name": "n"})).await;
    text(&made["id"]).to_owned()
}

async fn subnet(cloud: &Harness, body: Value) -> Value {
    make(cloud, &cloud.demo, "subnets", "subnet", body).await
}

/// The status and the type of the error.
async fn refused(cloud: &Harness, method: &str, path: &str, body: Value) -> (u16, String) {
    let (status, _, reply) = cloud.call(method, &format!("{V}/{path}"), &cloud.demo, body).await;
    (status, reply["NeutronError"]["type"].as_str().unwrap_or("").to_owned())
}

#[tokio::test]
async fn versions_and_extensions() {
    let cloud = Harness::new().await;
    let (status, _, versions) = cloud.call("GET", "/network/", "", Value::Null).await;
    assert_eq!((status, &versions["versions"][0]["id"]), (200, &json!("v2.0")));
    let (_, _, v2) = cloud.ok("GET", "/network/v2.0/", &cloud.demo, Value::Null).await;
    assert!(v2["resources"].as_array().unwrap().iter().any(|r| r["name"] == "port"));
    let (_, _, all) = cloud.ok("GET", &format!("{V}/extensions"), &cloud.demo, Value::Null).await;
    assert!(all["extensions"].as_array().unwrap().iter().any(|e| e["alias"] == "router"));
    assert_eq!(refused(&cloud, "GET", "extensions/segment", Value::Null).await.0, 404);
    assert_eq!(refused(&cloud, "GET", "segments", Value::Null).await, (404, "HTTPNotFound".into()));
    let (status, _, _) = cloud.call("GET", &format!("{V}/networks"), "", Value::Null).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_network_lives() {
    let cloud = Harness::new().await;
    let id = network(&cloud).await;
    let path = format!("{V}/networks/{id}");
    let (_, _, shown) = cloud.ok("GET", &path, &cloud.demo, Value::Null).await;
    assert_eq!(shown["network"]["status"], "ACTIVE");
    assert!(shown["network"].get("provider:network_type").is_none(), "administrators alone see that");
    let (_, _, admin) = cloud.ok("GET", &path, &cloud.admin, Value::Null).await;
    assert_eq!(admin["network"]["provider:network_type"], "vxlan");
    let (_, _, fields) = cloud.ok("GET", &format!("{path}?fields=id&fields=mtu"), &cloud.demo, Value::Null).await;
    assert_eq!(fields, json!({"network": {"id": id, "mtu": 1450}}));

    let body = json!({"network": {"name": "New_network"}});
    let (_, _, renamed) = cloud.ok("PUT", &path, &cloud.demo, body).await;
    assert_eq!(renamed["network"]["name"], "New_network");
    let stale = shown["network"]["revision_number"].as_u64().unwrap();
    let header = format!("revision_number={stale}");
    let body = json!({"network": {"name": "late"}});
    let (status, _, _) = cloud.call_with("PUT", &path, &cloud.demo, &[("if-match", &header)], body).await;
    assert_eq!(status, 412);

    let sub = subnet(&cloud, json!({"network_id": id, "cidr": "10.0.0.0/24", "ip_version": 4})).await;
    let port = make(&cloud, &cloud.demo, "ports", "port", json!({"network_id": id})).await;
    assert_eq!(refused(&cloud, "DELETE", &format!("networks/{id}"), Value::Null).await, (409, "NetworkInUse".into()));
    cloud.ok("DELETE", &format!("{V}/ports/{}", text(&port["id"])), &cloud.demo, Value::Null).await;
    let (status, _, _) = cloud.call("DELETE", &path, &cloud.demo, Value::Null).await;
    assert_eq!(status, 204);
    let gone = refused(&cloud, "GET", &format!("subnets/{}", text(&sub["id"])), Value::Null).await;
    assert_eq!(gone, (404, "SubnetNotFound".into()));
}

#[tokio::test]
async fn bad_bodies_are_told_so() {
    let cloud = Harness::new().await;
    for (body, part) in [
        (json!({}), "Unable to find 'network'"),
        (json!({"network": 7}), "Unable to find 'network'"),
        (json!({"networks": []}), "Resources required"),
        (json!({"network": {"nonsense": 1}}), "Unrecognized attribute(s) 'nonsense'"),
        (json!({"network": {"id": "x"}}), "not allowed in POST"),
        (json!({"network": {"name": 7}}), "'7' is not a valid string"),
        (json!({"network": {"name": "x".repeat(256)}}), "exceeds maximum length of 255"),
        (json!({"network": {"admin_state_up": "perhaps"}}), "cannot be converted to boolean"),
        (json!({"network": {"mtu": 9000}}), "Requested MTU is too big"),
        (json!({"network": {"project_id": "other"}}), "requires admin privileges"),
    ] {
        let (status, _, reply) = cloud.call("POST", &format!("{V}/networks"), &cloud.demo, body.clone()).await;
        let message = text(&reply["NeutronError"]["message"]);
        assert!(status == 400 && message.contains(part), "{body}: {status} {message}");
    }
    let shared = json!({"network": {"shared": true}});
    assert_eq!(refused(&cloud, "POST", "networks", shared).await, (403, "PolicyNotAuthorized".into()));
    assert_eq!(refused(&cloud, "GET", "networks/nope", Value::Null).await, (404, "NetworkNotFound".into()));
}

#[tokio::test]
async fn subnets_are_checked() {
    let cloud = Harness::new().await;
    let id = network(&cloud).await;
    let made = subnet(
        &cloud,
        json!({"network_id": id, "cidr": "10.100.0.0/28", "ip_version": 4, "gateway_ip": "10.100.0.1",
               "allocation_pools": [{"start": "10.100.0.3", "end": "10.100.0.7"}],
               "dns_nameservers": ["8.8.4.4", "8.8.8.8"],
               "host_routes": [{"destination": "10.20.0.0/32", "nexthop": "10.100.1.1"}]}),
    )
    .await;
    assert_eq!(made["allocation_pools"], json!([{"start": "10.100.0.3", "end": "10.100.0.7"}]));
    assert_eq!(made["host_routes"], json!([{"destination": "10.20.0.0/32", "nexthop": "10.100.1.1"}]));
    let body = json!({"subnet": {"gateway_ip": "10.100.0.2", "dns_nameservers": ["7.8.8.8"], "host_routes": []}});
    let path = format!("{V}/subnets/{}", text(&made["id"]));
    let (_, _, updated) = cloud.ok("PUT", &path, &cloud.demo, body).await;
    assert_eq!(updated["subnet"]["gateway_ip"], "10.100.0.2");
    let body = json!({"subnet": {"gateway_ip": "10.100.0.4"}});
    let (status, _, _) = cloud.call("PUT", &path, &cloud.demo, body).await;
    assert_eq!(status, 409);

    let base = json!({"network_id": id, "ip_version": 4});
    for (more, expected, part) in [
        (json!({"cidr": "10.100.0.0/24"}), 400, "overlaps with another subnet"),
        (json!({"cidr": "10.100.1.0/33"}), 400, "not a valid IP subnet"),
        (json!({"cidr": "0.0.0.0/0"}), 400, "0 is not allowed"),
        (json!({"cidr": "2001:db8::/64"}), 400, "does not match the ip_version"),
        (json!({}), 400, "subnetpool"),
        (json!({"cidr": "10.1.0.0/24", "gateway_ip": "10.1.0.0"}), 400, "Gateway is not valid"),
        (json!({"cidr": "10.1.0.0/24", "gateway_ip": "fe80::1"}), 400, "does not match the ip_version"),
        (
            json!({"cidr": "10.1.0.0/24", "allocation_pools": [{"start": "10.1.0.1", "end": "10.1.0.9"}]}),
            409,
            "conflicts with allocation pool",
        ),
        (
            json!({"cidr": "10.1.0.0/24", "allocation_pools": [{"start": "10.1.0.9", "end": "10.1.1.9"}]}),
            400,
            "spans beyond",
        ),
        (json!({"cidr": "10.1.0.0/24", "ipv6_ra_mode": "slaac"}), 400, "not valid when ip_version is 4"),
        (
            json!({"cidr": "10.1.0.0/24", "host_routes": [{"destination": "10.9.0.1/24", "nexthop": "10.1.0.1"}]}),
            400,
            "recommended",
        ),
    ] {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, _, reply) =
            cloud.call("POST", &format!("{V}/subnets"), &cloud.demo, json!({"subnet": body})).await;
        let message = text(&reply["NeutronError"]["message"]);
        assert!(status == expected && message.contains(part), "{more}: {status} {message}");
    }
}

#[tokio::test]
async fn ipv6_addresses_follow_the_mode() {
    let cloud = Harness::new().await;
    let mac = "fa:16:3e:aa:bb:01";
    for mode in ["slaac", "dhcpv6-stateless"] {
        let id = network(&cloud).await;
        for other in ["dhcpv6-stateful", if mode == "slaac" { "dhcpv6-stateless" } else { "slaac" }] {
            let body = json!({"subnet": {"network_id": id, "ip_version": 6, "cidr": "2003::/64",
                "ipv6_ra_mode": mode, "ipv6_address_mode": other}});
            assert_eq!(refused(&cloud, "POST", "subnets", body).await.0, 400);
        }
        let auto = subnet(
            &cloud,
            json!({"network_id": id, "ip_version": 6, "cidr": "2003::/64", "gateway_ip": "2003::1",
                   "ipv6_ra_mode": mode, "ipv6_address_mode": mode}),
        )
        .await;
        let stateful = json!({"network_id": id, "ip_version": 6, "cidr": "2003:0:0:1::/64",
            "ipv6_address_mode": "dhcpv6-stateful"});
        let stateful = subnet(&cloud, stateful).await;
        let body = json!({"network_id": id, "mac_address": mac});
        let port = make(&cloud, &cloud.demo, "ports", "port", body).await;
        let on = |sub: &Value| {
            let ips = port["fixed_ips"].as_array().unwrap();
            ips.iter().find(|f| f["subnet_id"] == sub["id"]).map(|f| text(&f["ip_address"]).to_owned())
        };
        assert_eq!(on(&auto).as_deref(), Some("2003::f816:3eff:feaa:bb01"));
        assert_eq!(on(&stateful).as_deref(), Some("2003:0:0:1::2"));
        // Its hosts make their addresses themselves, so the subnet can go under their feet.
        cloud.ok("DELETE", &format!("{V}/subnets/{}", text(&auto["id"])), &cloud.demo, Value::Null).await;
        let used = refused(&cloud, "DELETE", &format!("subnets/{}", text(&stateful["id"])), Value::Null).await;
        assert_eq!(used, (409, "SubnetInUse".into()));
    }
}

#[tokio::test]
async fn addresses_of_ports() {
    let cloud = Harness::new().await;
    let id = network(&cloud).await;
    let sub = subnet(&cloud, json!({"network_id": id, "cidr": "10.0.0.0/29", "ip_version": 4})).await;
    let with = |fixed: Value| json!({"port": {"network_id": id, "fixed_ips": fixed}});
    let port = make(&cloud, &cloud.demo, "ports", "port", json!({"network_id": id, "name": "one"})).await;
    assert_eq!(port["fixed_ips"], json!([{"subnet_id": sub["id"], "ip_address": "10.0.0.2"}]));
    assert_eq!(port["status"], "DOWN");
    assert_eq!(port["security_groups"].as_array().unwrap().len(), 1, "the default group");
    assert!(port.get("binding:host_id").is_none());

    let taken = refused(&cloud, "POST", "ports", with(json!([{"ip_address": "10.0.0.2"}]))).await;
    assert_eq!(taken, (409, "IpAddressAlreadyAllocated".into()));
    let outside = json!([{"subnet_id": sub["id"], "ip_address": "10.0.0.9"}]);
    assert_eq!(refused(&cloud, "POST", "ports", with(outside)).await, (400, "InvalidIpForSubnet".into()));
    let nowhere = json!([{"ip_address": "10.9.0.9"}]);
    assert_eq!(refused(&cloud, "POST", "ports", with(nowhere)).await, (400, "InvalidIpForNetwork".into()));
    assert_eq!(refused(&cloud, "POST", "ports", with(json!([{"ip_address": "x"}]))).await.0, 400);
    let body = json!({"port": {"network_id": id, "mac_address": port["mac_address"]}});
    assert_eq!(refused(&cloud, "POST", "ports", body).await, (409, "MacAddressInUse".into()));

    // Six addresses less the gateway's and the one in use: a bulk of five is one too many and leaves nothing behind.
    let bulk = |n: usize| json!({"ports": vec![json!({"network_id": id}); n]});
    assert_eq!(refused(&cloud, "POST", "ports", bulk(5)).await, (409, "IpAddressGenerationFailure".into()));
    let (_, _, made) = cloud.ok("POST", &format!("{V}/ports"), &cloud.demo, bulk(4)).await;
    let mut ips: Vec<&str> =
        made["ports"].as_array().unwrap().iter().map(|p| text(&p["fixed_ips"][0]["ip_address"])).collect();
    ips.sort_unstable();
    assert_eq!(ips, ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);

    let path = format!("{V}/ports?fixed_ips=ip_address%3D10.0.0.2&fixed_ips=subnet_id%3D{}", text(&sub["id"]));
    let (_, _, found) = cloud.ok("GET", &path, &cloud.demo, Value::Null).await;
    assert_eq!(found["ports"].as_array().unwrap().len(), 1);
    let path = format!("{V}/ports?fixed_ips=ip_address_substr%3D0.0.");
    let (_, _, found) = cloud.ok("GET", &path, &cloud.demo, Value::Null).await;
    assert_eq!(found["ports"].as_array().unwrap().len(), 5);

    let body = json!({"port": {"name": "New_Port", "admin_state_up": false, "port_security_enabled": false}});
    let path = format!("ports/{}", text(&port["id"]));
    assert_eq!(refused(&cloud, "PUT", &path, body).await, (409, "PortSecurityPortHasSecurityGroup".into()));
    let body = json!({"port": {"port_security_enabled": false, "security_groups": [], "fixed_ips": []}});
    let (_, _, bare) = cloud.ok("PUT", &format!("{V}/{path}"), &cloud.demo, body).await;
    assert_eq!((&bare["port"]["fixed_ips"], &bare["port"]["port_security_enabled"]), (&json!([]), &json!(false)));
    let body = json!({"port": {"network_id": id, "device_owner": "network:router_interface", "device_id": "r"}});
    assert_eq!(refused(&cloud, "POST", "ports", body).await.0, 409);
}

#[tokio::test]
async fn dhcp_options_are_those_that_can_be_sent() {
    let cloud = Harness::new().await;
    let id = network(&cloud).await;
    let with = |options: Value| json!({"port": {"network_id": id, "extra_dhcp_opts": options}});
    let options = json!([
        {"opt_name": "bootfile-name", "opt_value": "pxelinux.0"},
        {"opt_name": "dns-server", "opt_value": "[fd00::1]", "ip_version": 6},
    ]);
    let (_, _, made) = cloud.ok("POST", &format!("{V}/ports"), &cloud.demo, with(options)).await;
    assert_eq!(made["port"]["extra_dhcp_opts"][0]["ip_version"], 4);
    for (option, part) in [
        (json!({"opt_name": "no-such", "opt_value": "x"}), "'no-such' is no DHCPv4 option that is known"),
        (json!({"opt_name": "mtu", "opt_value": "1400", "ip_version": 6}), "'mtu' is no DHCPv6 option that is known"),
        (json!({"opt_name": "mtu", "opt_value": "big"}), "'big' is not a value of the DHCP option 'mtu'"),
        (json!({"opt_name": "53", "opt_value": "5"}), "the DHCPv4 option 53 is the server's own"),
    ] {
        let (status, _, reply) = cloud.call("POST", &format!("{V}/ports"), &cloud.demo, with(json!([option]))).await;
        let message = text(&reply["NeutronError"]["message"]);
        assert!(status == 400 && message.contains(part), "{option}: {status} {message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_ports_never_share_an_address() {
    let cloud = std::sync::Arc::new(Harness::new().await);
    let id = network(&cloud).await;
    subnet(&cloud, json!({"network_id": id, "cidr": "10.0.0.0/24", "ip_version": 4})).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (cloud, id) = (cloud.clone(), id.clone());
        tasks.spawn(async move {
            let body = json!({"port": {"network_id": id}});
            let (_, _, made) = cloud.ok("POST", &format!("{V}/ports"), &cloud.demo, body).await;
            text(&made["port"]["fixed_ips"][0]["ip_address"]).to_owned()
        });
    }
    let mut ips = tasks.join_all().await;
    ips.sort();
    ips.dedup();
    assert_eq!(ips.len(), 32);
}

#[tokio::test]
async fn of_many_default_pools_at_once_there_is_one() {
    let cloud = std::sync::Arc::new(Harness::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let cloud = cloud.clone();
        tasks.spawn(async move {
            let pool = json!({"name": n.to_string(), "prefixes": ["10.0.0.0/16"], "default_prefixlen": 24, "is_default": true});
            cloud.call("POST", &format!("{V}/subnetpools"), &cloud.admin, json!({"subnetpool": pool})).await.0
        });
    }
    let made = tasks.join_all().await;
    assert_eq!(made.iter().filter(|status| **status == 201).count(), 1, "{made:?}");
    assert!(made.iter().all(|status| matches!(status, 201 | 400)), "{made:?}");
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_cut() {
    let cloud = Harness::new().await;
    for name in ["a", "b", "c"] {
        make(&cloud, &cloud.demo, "networks", "network", json!({"name": name, "tags": ["t", name]})).await;
    }
    let names = |reply: &Value| -> Vec<String> {
        reply["networks"].as_array().unwrap().iter().map(|n| text(&n["name"]).to_owned()).collect()
    };
    let project = format!("project_id={}", cloud.demo_project);
    let get = async |query: &str| {
        cloud.ok("GET", &format!("{V}/networks?{project}&tags=t&{query}"), &cloud.demo, Value::Null).await.2
    };
    assert_eq!(names(&get("name=a&name=c&sort_key=name&sort_dir=desc").await), ["c", "a"]);
    assert_eq!(names(&get("tags=t,b").await), ["b"]);
    assert_eq!(names(&get("not-tags-any=a,b").await), ["c"]);
    assert_eq!(names(&get("admin_state_up=True&sort_key=name").await), ["a", "b", "c"]);
    let first = get("sort_key=name&limit=2").await;
    assert_eq!(names(&first), ["a", "b"]);
    let next = first["networks_links"].as_array().unwrap().iter().find(|l| l["rel"] == "next").unwrap();
    let path = text(&next["href"]).strip_prefix("https://127.0.0.1:8443").unwrap();
    let (_, _, second) = cloud.ok("GET", path, &cloud.demo, Value::Null).await;
    assert_eq!(names(&second), ["c"]);
    assert!(second["networks_links"].as_array().unwrap().iter().all(|l| l["rel"] == "previous"));
    let back = text(&second["networks_links"][0]["href"]).strip_prefix("https://127.0.0.1:8443").unwrap();
    assert_eq!(names(&cloud.ok("GET", back, &cloud.demo, Value::Null).await.2), ["a", "b"]);
    for query in ["nonsense=1", "sort_key=nonsense", "limit=x", "limit=-1", "sort_key=name&sort_dir=up"] {
        assert_eq!(refused(&cloud, "GET", &format!("networks?{query}"), Value::Null).await.0, 400, "{query}");
    }
    assert_eq!(refused(&cloud, "GET", "networks?limit=1&marker=nope", Value::Null).await.0, 404);
}

#[tokio::test]
async fn tags_of_a_resource() {
    let cloud = Harness::new().await;
    let path = format!("{V}/networks/{}/tags", network(&cloud).await);
    cloud.ok("PUT", &path, &cloud.demo, json!({"tags": ["red", "blue"]})).await;
    cloud.ok("PUT", &format!("{path}/green"), &cloud.demo, Value::Null).await;
    let (status, _, tags) = cloud.ok("POST", &path, &cloud.demo, json!({"tags": ["red", "white"]})).await;
    assert_eq!((status, &tags["tags"]), (201, &json!(["blue", "green", "red", "white"])));
    cloud.ok("DELETE", &format!("{path}/white"), &cloud.demo, Value::Null).await;
    cloud.ok("DELETE", &format!("{path}/red"), &cloud.demo, Value::Null).await;
    let (_, _, tags) = cloud.ok("GET", &path, &cloud.demo, Value::Null).await;
    assert_eq!(tags["tags"], json!(["blue", "green"]));
    assert_eq!(cloud.call("GET", &format!("{path}/green"), &cloud.demo, Value::Null).await.0, 204);
    assert_eq!(cloud.call("GET", &format!("{path}/red"), &cloud.demo, Value::Null).await.0, 404);
    assert_eq!(cloud.call("DELETE", &path, &cloud.demo, Value::Null).await.0, 204);
}

#[tokio::test]
async fn pools_of_subnets() {
    let cloud = Harness::new().await;
    let body = json!({"name": "pool", "prefixes": ["10.0.0.0/24", "10.0.1.0/24"], "default_prefixlen": 25});
    let pool = make(&cloud, &cloud.demo, "subnetpools", "subnetpool", body).await;
    let id = network(&cloud).await;
    let mut cidrs = Vec::new();
    for length in [json!({}), json!({"prefixlen": 24}), json!({})] {
        let mut body = json!({"network_id": id, "subnetpool_id": pool["id"], "ip_version": 4});
        body.as_object_mut().unwrap().extend(length.as_object().unwrap().clone());
        cidrs.push(text(&subnet(&cloud, body).await["cidr"]).to_owned());
    }
    assert_eq!(cidrs, ["10.0.0.0/25", "10.0.1.0/24", "10.0.0.128/25"]);
    let full = json!({"subnet": {"network_id": id, "subnetpool_id": pool["id"]}});
    assert_eq!(refused(&cloud, "POST", "subnets", full).await, (409, "SubnetAllocationError".into()));
    let path = format!("subnetpools/{}", text(&pool["id"]));
    assert_eq!(refused(&cloud, "DELETE", &path, Value::Null).await, (400, "SubnetPoolDeleteError".into()));
    for (body, kind) in [
        (json!({"name": "x", "prefixes": []}), "EmptySubnetPoolPrefixList"),
        (json!({"name": "x", "prefixes": ["10.0.0.0/8", "2001:db8::/48"]}), "PrefixVersionMismatch"),
        (json!({"name": "x", "prefixes": ["10.0.0.0/8"], "max_prefixlen": 33}), "IllegalSubnetPoolPrefixBounds"),
    ] {
        let answer = refused(&cloud, "POST", "subnetpools", json!({"subnetpool": body})).await;
        assert_eq!(answer, (400, kind.into()), "{body}");
    }
}

#[tokio::test]
async fn quotas_are_exact() {
    let cloud = Harness::new().await;
    let path = format!("{V}/quotas/{}", cloud.demo_project);
    let details = async || {
        let (_, _, reply) = cloud.ok("GET", &format!("{path}/details.json"), &cloud.demo, Value::Null).await;
        reply["quota"]["network"].clone()
    };
    let used = details().await["used"].as_u64().unwrap();
    let body = json!({"quota": {"network": used + 1}});
    assert_eq!(cloud.call("PUT", &path, &cloud.demo, body.clone()).await.0, 403);
    cloud.ok("PUT", &path, &cloud.admin, body).await;
    network(&cloud).await;
    let (status, _, reply) = cloud.call("POST", &format!("{V}/networks"), &cloud.demo, json!({"network": {}})).await;
    assert_eq!((status, &reply["NeutronError"]["type"]), (409, &json!("OverQuota")));
    let message = text(&reply["NeutronError"]["message"]);
    assert!(message.contains("['network']") && message.contains(&format!("limit {}", used + 1)), "{message}");
    assert_eq!(details().await, json!({"limit": used + 1, "used": used + 1, "reserved": 0}));
    assert_eq!(cloud.call("DELETE", &path, &cloud.admin, Value::Null).await.0, 204);
    network(&cloud).await;
    let other = format!("{V}/quotas/{}", cloud.admin_project);
    assert_eq!(cloud.call("GET", &other, &cloud.demo, Value::Null).await.0, 403);
    let bad = json!({"quota": {"network": -2}});
    assert_eq!(cloud.call("PUT", &path, &cloud.admin, bad).await.0, 400);
}

#[tokio::test]
async fn projects_are_apart_but_share_what_is_shared() {
    let cloud = Harness::new().await;
    let id = network(&cloud).await;
    let other = cloud.tenant("other", "member").await;
    let path = format!("{V}/networks/{id}");
    assert_eq!(cloud.call("GET", &path, &other, Value::Null).await.0, 404);
    assert_eq!(cloud.call("DELETE", &path, &other, Value::Null).await.0, 404);
    let body = json!({"port": {"network_id": id}});
    assert_eq!(cloud.call("POST", &format!("{V}/ports"), &other, body.clone()).await.0, 404);
    cloud.ok("PUT", &path, &cloud.admin, json!({"network": {"shared": true}})).await;
    assert_eq!(cloud.call("GET", &path, &other, Value::Null).await.0, 200);
    assert_eq!(cloud.call("DELETE", &path, &other, Value::Null).await.0, 403);
    let (_, _, port) = cloud.ok("POST", &format!("{V}/ports"), &other, body).await;
    let pinned = json!({"port": {"network_id": id, "fixed_ips": [{"ip_address": "10.0.0.9"}]}});
    assert_eq!(cloud.call("POST", &format!("{V}/ports"), &other, pinned).await.0, 403);
    let unshare = json!({"network": {"shared": false}});
    assert_eq!(cloud.call("PUT", &path, &cloud.admin, unshare).await.0, 409);
    // The owner of the network may clear it of others' ports.
    let port = format!("{V}/ports/{}", text(&port["port"]["id"]));
    assert_eq!(cloud.call("DELETE", &port, &cloud.demo, Value::Null).await.0, 204);
}

/// Real clients send what would be so anyway: Ansible `shared: false`, Terraform an empty profile.
#[tokio::test]
async fn a_member_may_send_an_administrators_attribute_at_its_default() {
    let cloud = Harness::new().await;
    let body =
        json!({"network": {"name": "n", "shared": false, "router:external": false, "port_security_enabled": true}});
    let (_, _, made) = cloud.ok("POST", &format!("{V}/networks"), &cloud.demo, body).await;
    let body = json!({"port": {"network_id": made["network"]["id"], "binding:profile": {}, "binding:host_id": ""}});
    cloud.ok("POST", &format!("{V}/ports"), &cloud.demo, body).await;
    for other in [json!({"shared": true}), json!({"router:external": true}), json!({"provider:segmentation_id": 7})] {
        assert_eq!(refused(&cloud, "POST", "networks", json!({"network": other})).await.0, 403, "{other}");
    }
}

#[tokio::test]
async fn quotas_take_what_the_stock_client_sends() {
    let cloud = Harness::new().await;
    network(&cloud).await;
    let path = format!("{V}/quotas/{}", cloud.demo_project);
    let set = async |quota: Value| cloud.call("PUT", &path, &cloud.admin, json!({"quota": quota})).await;
    let (status, _, answer) = set(json!({"network": 91, "check_limit": true})).await;
    assert_eq!((status, &answer["quota"]["network"]), (200, &json!(91)), "{answer}");
    let (status, _, answer) = set(json!({"network": 0, "check_limit": true})).await;
    assert_eq!(status, 400, "below what is used: {answer}");
    let (status, _, answer) = set(json!({"network": 0, "force": true})).await;
    assert_eq!((status, &answer["quota"]["network"]), (200, &json!(0)), "{answer}");
}

#[tokio::test]
async fn pages_are_those_of_the_whole_list() {
    let cloud = Harness::new().await;
    let id = network(&cloud).await;
    let ports: Vec<Value> =
        (0..25).map(|n| json!({"network_id": id, "name": if n % 2 == 0 { "even" } else { "odd" }})).collect();
    cloud.ok("POST", &format!("{V}/ports"), &cloud.demo, json!({"ports": ports})).await;
    let list = async |query: &str| {
        let (_, _, answer) = cloud.ok("GET", &format!("{V}/ports?fields=id&{query}"), &cloud.demo, Value::Null).await;
        answer["ports"].as_array().unwrap().iter().map(|port| text(&port["id"]).to_owned()).collect::<Vec<_>>()
    };
    for filter in ["name=even", "name=odd&name=even", &format!("network_id={id}&name=odd")] {
        let whole = list(filter).await;
        assert!(whole.len() >= 12 && whole.is_sorted(), "{filter}: {whole:?}");
        let (mut forth, mut page) = (Vec::new(), list(&format!("{filter}&limit=5")).await);
        while let Some(last) = page.last().cloned() {
            forth.append(&mut page);
            page = list(&format!("{filter}&limit=5&marker={last}")).await;
        }
        assert_eq!(forth, whole, "{filter}");
        let back = list(&format!("{filter}&limit=5&page_reverse=true&marker={}", whole[7])).await;
        assert_eq!(back, whole[2..7], "{filter}");
        let sorted = list(&format!("{filter}&limit=5&sort_key=id&sort_dir=desc")).await;
        assert_eq!(sorted, whole.iter().rev().take(5).cloned().collect::<Vec<_>>(), "{filter}");
    }
    assert_eq!(list(&format!("id={}", list("limit=1").await[0])).await.len(), 1);
    let missing = format!("{V}/ports?limit=1&marker={}", uuid::Uuid::new_v4());
    assert_eq!(cloud.call("GET", &missing, &cloud.demo, Value::Null).await.0, 404);
}

#[tokio::test]
async fn habits_of_old_clients() {
    let cloud = Harness::new().await;
    let id = network(&cloud).await;
    let own = subnet(&cloud, json!({"network_id": id, "cidr": "10.0.0.0/24", "ip_version": 4})).await;
    assert!(own.get("shared").is_none(), "subnets are filtered by it and do not show it: {own}");
    let found = |shared: &str| format!("{V}/subnets?shared={shared}&network_id={id}");
    for (shared, count) in [("False", 1), ("true", 0)] {
        let (_, _, list) = cloud.ok("GET", &found(shared), &cloud.demo, Value::Null).await;
        assert_eq!(list["subnets"].as_array().unwrap().len(), count, "shared={shared}: {list}");
        assert!(list["subnets"].as_array().unwrap().iter().all(|subnet| subnet.get("shared").is_none()), "{list}");
    }

    let many = json!({"security_groups": [{"security_group": {"name": "a"}}, {"name": "b"}]});
    let (status, _, made) = cloud.call("POST", &format!("{V}/security-groups"), &cloud.demo, many).await;
    assert_eq!((status, &made["security_groups"][0]["name"]), (201, &json!("a")), "{made}");
    let group = text(&made["security_groups"][0]["id"]).to_owned();
    for protocol in [41, 43, 44, 58, 59, 60] {
        let rule = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress", "ethertype": "IPv4",
            "protocol": protocol}});
        let answer = refused(&cloud, "POST", "security-group-rules", rule).await;
        assert_eq!(answer, (400, "SecurityGroupEthertypeConflictWithProtocol".into()), "{protocol}");
    }

    let pool = json!({"name": "p", "prefixes": ["2001:db8::/32"], "min_prefixlen": "48", "max_prefixlen": 64});
    let pool = make(&cloud, &cloud.demo, "subnetpools", "subnetpool", pool).await;
    let lengths = ["min_prefixlen", "default_prefixlen", "max_prefixlen"].map(|name| pool[name].clone());
    assert_eq!(lengths, [json!("48"), json!("48"), json!("64")]);

    let port = make(&cloud, &cloud.demo, "ports", "port", json!({"network_id": id})).await;
    let ip = text(&port["fixed_ips"][0]["ip_address"]).replace('.', "-");
    assert_eq!(port["dns_assignment"][0]["fqdn"], format!("host-{ip}.braid.internal."), "{port}");
    let path = format!("{V}/ports/{}", text(&port["id"]));
    let body = json!({"port": {"binding:host_id": "nowhere"}});
    let (_, _, bound) = cloud.ok("PUT", &path, &cloud.admin, body).await;
    assert_eq!(bound["port"]["binding:vif_type"], "binding_failed");
}

#[tokio::test]
async fn packets_fit_their_subnets() {
    let cloud = Harness::new().await;
    for (mtu, version, cidr) in [(67, 4, "10.0.0.0/24"), (1279, 6, "2001:db8::/64")] {
        let small = make(&cloud, &cloud.demo, "networks", "network", json!({"mtu": mtu})).await;
        let body = json!({"subnet": {"network_id": small["id"], "cidr": cidr, "ip_version": version}});
        assert_eq!(refused(&cloud, "POST", "subnets", body.clone()).await, (409, "NetworkMTUSubnetConflict".into()));
        let path = format!("networks/{}", text(&small["id"]));
        let grow = json!({"network": {"mtu": mtu + 1}});
        assert_eq!(refused(&cloud, "PUT", &path, grow).await.0, 200);
        assert_eq!(refused(&cloud, "POST", "subnets", body).await.0, 201);
        let shrink = json!({"network": {"mtu": mtu}});
        assert_eq!(refused(&cloud, "PUT", &path, shrink).await, (409, "NetworkMTUSubnetConflict".into()));
    }
}
