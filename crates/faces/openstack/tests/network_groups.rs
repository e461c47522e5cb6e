//! Address groups, as clients use them and rules of security groups refer to them; security groups of both sorts.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use common::{Harness, text};
use model::{AddressGroup, Resource};
use serde_json::{Value, json};

const V: &str = "/network/v2.0";

async fn make(cloud: &Harness, many: &str, one: &str, body: Value) -> Value {
    let (_, _, reply) = cloud.ok("POST", &format!("{V}/{many}"), &cloud.demo, json!({ one: body })).await;
    reply[one].clone()
}

/// The status and the type of the error.
async fn refused(cloud: &Harness, method: &str, path: &str, body: Value) -> (u16, String) {
    let (status, _, reply) = cloud.call(method, &format!("{V}/{path}"), &cloud.demo, body).await;
    (status, reply["NeutronError"]["type"].as_str().unwrap_or("").to_owned())
}

#[tokio::test]
async fn address_groups_live() {
    let cloud = Harness::new().await;
    let made = make(
        &cloud,
        "address-groups",
        "address_group",
        json!({"name": "offices", "description": "ours", "addresses": ["10.0.0.7/24", "10.0.0.9/24", "192.0.2.7/32", "2001:DB8::/32"]}),
    )
    .await;
    assert_eq!(made["addresses"], json!(["10.0.0.0/24", "192.0.2.7/32", "2001:db8::/32"]), "each once, in normal form");
    assert_eq!((&made["name"], &made["description"]), (&json!("offices"), &json!("ours")));
    let path = format!("address-groups/{}", text(&made["id"]));
    let put = async |verb: &str, addresses: Value| {
        let path = format!("{V}/{path}/{verb}");
        cloud.call("PUT", &path, &cloud.demo, json!({ "addresses": addresses })).await
    };
    let (status, _, more) = put("add_addresses", json!(["198.51.100.0/24"])).await;
    assert_eq!((status, more["address_group"]["addresses"].as_array().unwrap().len()), (200, 4), "{more}");
    for (verb, addresses, status, kind) in [
        ("add_addresses", json!(["198.51.100.1/24"]), 400, "AddressesAlreadyExist"),
        ("remove_addresses", json!(["198.51.100.1/32"]), 404, "AddressesNotFound"),
        ("add_addresses", json!(["nonsense"]), 400, "HTTPBadRequest"),
        ("add_addresses", json!(["192.0.2.8"]), 400, "HTTPBadRequest"),
        ("add_addresses", json!("10.0.0.0/8"), 400, "HTTPBadRequest"),
        ("add_addresses", json!([7]), 400, "HTTPBadRequest"),
    ] {
        let (is, _, reply) = put(verb, addresses.clone()).await;
        assert_eq!((is, text(&reply["NeutronError"]["type"])), (status, kind), "{verb} {addresses}");
    }
    let many: Vec<String> = (0..model::MAX_ADDRESSES - 3).map(|n| format!("10.9.{}.{}/32", n / 256, n % 256)).collect();
    let (status, _, reply) = put("add_addresses", json!(many)).await;
    assert!(status == 400 && reply.to_string().contains("at most"), "{status} {reply}");
    assert_eq!(put("remove_addresses", json!(["10.0.0.0/24", "2001:db8::/32"])).await.0, 200);
    let (_, _, shown) = cloud.ok("GET", &format!("{V}/{path}"), &cloud.demo, Value::Null).await;
    assert_eq!(shown["address_group"]["addresses"], json!(["192.0.2.7/32", "198.51.100.0/24"]));
    let given = json!({"address_group": {"addresses": []}});
    assert_eq!(refused(&cloud, "PUT", &path, given).await.0, 400, "addresses are added and removed");
    let renamed = json!({"address_group": {"name": "homes", "description": ""}});
    cloud.ok("PUT", &format!("{V}/{path}"), &cloud.demo, renamed).await;
    for (query, found) in [("name=homes", 1), ("name=offices", 0), ("description=", 1), ("addresses=192.0.2.7/32", 1)] {
        let (_, _, list) = cloud.ok("GET", &format!("{V}/address-groups?{query}"), &cloud.demo, Value::Null).await;
        assert_eq!(list["address_groups"].as_array().unwrap().len(), found, "{query} {list}");
    }
    assert_eq!(refused(&cloud, "DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(refused(&cloud, "GET", &path, Value::Null).await, (404, "AddressGroupNotFound".into()));
}

#[tokio::test]
async fn rules_refer_to_address_groups() {
    let cloud = Harness::new().await;
    let group = make(&cloud, "security-groups", "security_group", json!({"name": "g"})).await["id"].clone();
    let addresses = make(&cloud, "address-groups", "address_group", json!({"name": "a"})).await["id"].clone();
    let rule = |more: Value| {
        let mut rule = json!({"security_group_id": group, "direction": "ingress", "protocol": "tcp",
            "port_range_min": 80, "port_range_max": 80, "remote_address_group_id": addresses});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"security_group_rule": rule})
    };
    let made =
        make(&cloud, "security-group-rules", "security_group_rule", rule(json!({}))["security_group_rule"].clone());
    let made = made.await;
    assert_eq!(made["remote_address_group_id"], addresses);
    let path = format!("{V}/security-group-rules?remote_address_group_id={}", text(&addresses));
    let (_, _, list) = cloud.ok("GET", &path, &cloud.demo, Value::Null).await;
    assert_eq!(list["security_group_rules"].as_array().unwrap().len(), 1);
    let other = uuid::Uuid::new_v4();
    for (more, status, kind) in [
        (json!({}), 409, "SecurityGroupRuleExists"),
        (json!({"remote_ip_prefix": "10.0.0.0/8"}), 400, "SecurityGroupMultipleRemoteEntites"),
        (json!({"remote_group_id": group}), 400, "SecurityGroupMultipleRemoteEntites"),
        (json!({"remote_address_group_id": other}), 404, "AddressGroupNotFound"),
    ] {
        let refused = refused(&cloud, "POST", "security-group-rules", rule(more.clone())).await;
        assert_eq!(refused, (status, kind.to_owned()), "{more}");
    }
    make(
        &cloud,
        "security-group-rules",
        "security_group_rule",
        rule(json!({"ethertype": "IPv6"}))["security_group_rule"].clone(),
    )
    .await;
    // A rule that says it of everybody is another one.
    make(
        &cloud,
        "security-group-rules",
        "security_group_rule",
        rule(json!({"remote_address_group_id": null}))["security_group_rule"].clone(),
    )
    .await;

    let path = format!("address-groups/{}", text(&addresses));
    assert_eq!(refused(&cloud, "DELETE", &path, Value::Null).await, (409, "AddressGroupInUse".into()));
    // Whoever deletes it without a look is refused by the rules' claims.
    let snapshot = cloud.cloud.store.snapshot();
    let mut change = model::Change::new();
    change.delete(snapshot.get::<AddressGroup>(text(&addresses)).unwrap());
    let fault = cloud.cloud.store.commit(&change).await.unwrap_err();
    assert!(
        fault.to_string().contains(&*snapshot.get::<AddressGroup>(text(&addresses)).unwrap().value.key().name),
        "{fault}"
    );
    cloud.ok("DELETE", &format!("{V}/security-groups/{}", text(&group)), &cloud.demo, Value::Null).await;
    assert_eq!(refused(&cloud, "DELETE", &path, Value::Null).await.0, 204);
}

#[tokio::test]
async fn a_port_is_in_groups_of_one_sort() {
    let cloud = Harness::new().await;
    let rows = rows::Rows::new(&cloud).await;
    let group = async |body: Value| make(&cloud, "security-groups", "security_group", body).await;
    let stateful = group(json!({"name": "stateful"})).await;
    let stateless = group(json!({"name": "stateless", "stateful": false})).await;
    assert_eq!((&stateful["stateful"], &stateless["stateful"]), (&json!(true), &json!(false)));
    for (query, found) in [("false", 1), ("true", 2)] {
        let path = format!("{V}/security-groups?stateful={query}");
        let (_, _, list) = cloud.ok("GET", &path, &cloud.demo, Value::Null).await;
        assert_eq!(list["security_groups"].as_array().unwrap().len(), found, "{query}");
    }
    let network = make(&cloud, "networks", "network", json!({"name": "n"})).await["id"].clone();
    make(&cloud, "subnets", "subnet", json!({"network_id": network, "cidr": "10.0.0.0/24", "ip_version": 4})).await;
    let both = json!([stateful["id"], stateless["id"]]);
    let port = |groups: &Value| json!({"port": {"network_id": network, "security_groups": groups}});
    let conflict = (409, "SecurityGroupConflict".to_owned());
    assert_eq!(refused(&cloud, "POST", "ports", port(&both)).await, conflict);
    let made = make(&cloud, "ports", "port", port(&json!([stateless["id"]]))["port"].clone()).await;
    let path = format!("ports/{}", text(&made["id"]));
    assert_eq!(refused(&cloud, "PUT", &path, json!({"port": {"security_groups": both}})).await, conflict);
    // A group that a port has stays of its sort.
    let of = |group: &Value| format!("security-groups/{}", text(&group["id"]));
    let turn = |stateful: bool| json!({"security_group": {"stateful": stateful}});
    let used = (409, "SecurityGroupInUse".to_owned());
    assert_eq!(refused(&cloud, "PUT", &of(&stateless), turn(true)).await, used);
    assert_eq!(refused(&cloud, "PUT", &of(&stateless), turn(false)).await.0, 200, "that is what it is");
    assert_eq!(refused(&cloud, "PUT", &of(&stateful), turn(false)).await.0, 200);
    assert_eq!(refused(&cloud, "PUT", &path, json!({"port": {"security_groups": both}})).await.0, 200);

    // Nor by Nova.
    let server = |groups: Value| {
        json!({"server": {"name": "s", "imageRef": rows.image, "flavorRef": rows.small,
        "networks": "none", "security_groups": groups}})
    };
    let mixed = server(json!([{"name": "default"}, {"name": "stateless"}]));
    let headers = [("openstack-api-version", "compute 2.60")];
    let boot = async |body: Value| cloud.call_with("POST", "/compute/v2.1/servers", &cloud.demo, &headers, body).await;
    let (status, _, reply) = boot(mixed).await;
    assert!(status == 400 && reply.to_string().contains("both stateful and stateless"), "{status} {reply}");
    let (status, _, reply) = boot(server(json!([{"name": "stateless"}]))).await;
    assert_eq!(status, 202, "{reply}");
    let id = text(&reply["server"]["id"]).to_owned();
    rows.place(&cloud, &id, "node1", model::VmPhase::Running).await;
    let body = json!({"interfaceAttachment": {"port_id": made["id"]}});
    let attach = format!("/compute/v2.1/servers/{id}/os-interface");
    let (status, _, reply) = cloud.call("POST", &attach, &cloud.demo, body).await;
    assert!(status == 200, "{status} {reply}");
    let add = json!({"addSecurityGroup": {"name": "default"}});
    let (status, _, reply) = cloud.call("POST", &format!("/compute/v2.1/servers/{id}/action"), &cloud.demo, add).await;
    assert!(status == 400 && reply.to_string().contains("both stateful and stateless"), "{status} {reply}");
}
