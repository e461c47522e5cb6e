//! QoS policies and their rules, and what has them.

mod common;
#[path = "common/cloud.rs"]
mod rows;

use common::{Harness, text};
use model::{QosPolicy, Resource};
use serde_json::{Value, json};

const V: &str = "/network/v2.0";

struct World {
    cloud: Harness,
}

impl World {
    async fn new() -> Self {
        Self { cloud: Harness::new().await }
    }

    /// An administrator makes something.
    async fn make(&self, path: &str, body: Value) -> Value {
        let one = body.as_object().unwrap().keys().next().unwrap().clone();
        let (_, _, reply) = self.cloud.ok("POST", &format!("{V}/{path}"), &self.cloud.admin, body).await;
        reply[&one].clone()
    }

    async fn policy(&self, more: Value) -> Value {
        let mut policy = json!({"name": "slow", "project_id": self.cloud.demo_project});
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.make("qos/policies", json!({ "policy": policy })).await
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, _, reply) = self.cloud.call(method, &format!("{V}/{path}"), token, body).await;
        (status, reply)
    }

    async fn demo(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.call(&self.cloud.demo, method, path, body).await
    }

    /// The status and the type of an administrator's error.
    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, reply) = self.call(&self.cloud.admin, method, path, body).await;
        (status, reply["NeutronError"]["type"].as_str().unwrap_or("").to_owned())
    }
}

fn limit(kbps: u32, direction: &str) -> Value {
    json!({"bandwidth_limit_rule": {"max_kbps": kbps, "direction": direction}})
}

#[tokio::test]
async fn rules_live_in_their_policy() {
    let world = World::new().await;
    let policy = world.policy(json!({"description": "for guests"})).await;
    assert_eq!(
        (&policy["rules"], &policy["shared"], &policy["is_default"]),
        (&json!([]), &json!(false), &json!(false))
    );
    assert_eq!(policy["project_id"], json!(world.cloud.demo_project));
    let path = format!("qos/policies/{}", text(&policy["id"]));
    let limits = format!("{path}/bandwidth_limit_rules");
    let made = world.make(&limits, limit(1000, "ingress")).await;
    let expected = json!({"id": made["id"], "qos_policy_id": policy["id"], "max_kbps": 1000, "max_burst_kbps": 0,
        "direction": "ingress"});
    assert_eq!(made, expected);
    let sent = json!({"bandwidth_limit_rule": {"max_kbps": "500", "max_burst_kbps": 50}});
    assert_eq!(world.make(&limits, sent).await["direction"], "egress");
    let mark = world.make(&format!("{path}/dscp_marking_rules"), json!({"dscp_marking_rule": {"dscp_mark": 46}})).await;
    assert_eq!(mark["dscp_mark"], 46);

    let (_, shown) = world.demo("GET", &path, Value::Null).await;
    let rules = shown["policy"]["rules"].as_array().unwrap();
    let kinds: Vec<&str> = rules.iter().map(|rule| text(&rule["type"])).collect();
    assert_eq!(kinds, ["bandwidth_limit", "bandwidth_limit", "dscp_marking"]);
    assert_eq!((&rules[0]["max_kbps"], &rules[2]["dscp_mark"]), (&json!(1000), &json!(46)));
    for (query, found) in [("", 2), ("?max_kbps=500", 1), ("?direction=ingress", 1), ("?max_kbps=7", 0)] {
        let (_, list) = world.demo("GET", &format!("{limits}{query}"), Value::Null).await;
        assert_eq!(list["bandwidth_limit_rules"].as_array().unwrap().len(), found, "{query} {list}");
    }
    // Pages lead on from where they were asked for.
    for (list, many) in [("qos/policies", "policies"), (limits.as_str(), "bandwidth_limit_rules")] {
        let (_, page) = world.demo("GET", &format!("{list}?limit=1"), Value::Null).await;
        let next = text(&page[format!("{many}_links")][0]["href"]);
        assert!(next.contains(&format!("{V}/{list}?limit=1&marker=")), "{next}");
    }
    let one = format!("{limits}/{}", text(&made["id"]));
    assert_eq!(world.demo("GET", &one, Value::Null).await.1["bandwidth_limit_rule"], expected);
    let other = format!("{path}/dscp_marking_rules/{}", text(&made["id"]));
    assert_eq!(world.refused("GET", &other, Value::Null).await, (404, "QosRuleNotFound".into()));

    for (path, body, status, kind) in [
        (&limits, limit(5, "ingress"), 409, "QoSRulesConflict"),
        (&limits, json!({"bandwidth_limit_rule": {"direction": "egress"}}), 400, "HTTPBadRequest"),
        (&limits, limit(1, "sideways"), 400, "HTTPBadRequest"),
        (&limits, json!({"bandwidth_limit_rule": {"max_kbps": -1}}), 400, "HTTPBadRequest"),
        (&limits, json!({"bandwidth_limit_rule": {"max_kbps": 1_u64 << 31}}), 400, "HTTPBadRequest"),
        (&limits, json!({"bandwidth_limit_rule": {"max_kbps": 1, "min_kbps": 1}}), 400, "HTTPBadRequest"),
        (
            &format!("{path}/minimum_bandwidth_rules"),
            json!({"minimum_bandwidth_rule": {"min_kbps": 1}}),
            404,
            "HTTPNotFound",
        ),
        (
            &format!("{path}/dscp_marking_rules"),
            json!({"dscp_marking_rule": {"dscp_mark": 10}}),
            409,
            "QoSRulesConflict",
        ),
        (&format!("{path}/dscp_marking_rules"), json!({"dscp_marking_rule": {"dscp_mark": 5}}), 400, "HTTPBadRequest"),
    ] {
        assert_eq!(world.refused("POST", path, body.clone()).await, (status, kind.to_owned()), "{path} {body}");
    }
    let admin = &world.cloud.admin;
    let turned = json!({"bandwidth_limit_rule": {"direction": "egress"}});
    assert_eq!(world.refused("PUT", &one, turned).await, (409, "QoSRulesConflict".into()));
    let (_, changed) = world.call(admin, "PUT", &one, json!({"bandwidth_limit_rule": {"max_kbps": 2000}})).await;
    let changed = &changed["bandwidth_limit_rule"];
    assert_eq!((&changed["max_kbps"], &changed["direction"]), (&json!(2000), &json!("ingress")));

    // By their ids alone.
    let alias = format!("qos/alias_bandwidth_limit_rules/{}", text(&made["id"]));
    let (_, shown) = world.demo("GET", &alias, Value::Null).await;
    assert_eq!(&shown["alias_bandwidth_limit_rule"], changed);
    let sent = json!({"alias_bandwidth_limit_rule": {"max_burst_kbps": 9}});
    let (status, changed) = world.call(admin, "PUT", &alias, sent).await;
    assert_eq!((status, &changed["alias_bandwidth_limit_rule"]["max_burst_kbps"]), (200, &json!(9)), "{changed}");
    assert_eq!(world.refused("DELETE", &alias, Value::Null).await.0, 204);
    assert_eq!(world.refused("GET", &one, Value::Null).await, (404, "QosRuleNotFound".into()));
    let mark = format!("{path}/dscp_marking_rules/{}", text(&mark["id"]));
    assert_eq!(world.refused("DELETE", &mark, Value::Null).await.0, 204);
    let (_, shown) = world.demo("GET", &path, Value::Null).await;
    assert_eq!(shown["policy"]["rules"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn hosts_obey_two_sorts_of_rules() {
    let world = World::new().await;
    for query in ["", "?all_supported=True", "?all_rules=True"] {
        let (_, list) = world.demo("GET", &format!("qos/rule-types{query}"), Value::Null).await;
        assert_eq!(list["rule_types"], json!([{"type": "bandwidth_limit"}, {"type": "dscp_marking"}]), "{query}");
    }
    let (_, shown) = world.call(&world.cloud.admin, "GET", "qos/rule-types/dscp_marking", Value::Null).await;
    let driver = &shown["rule_type"]["drivers"][0];
    assert_eq!(driver["supported_parameters"][0]["parameter_values"][1], 8, "{shown}");
    assert_eq!(world.demo("GET", "qos/rule-types/dscp_marking", Value::Null).await.0, 403);
    assert_eq!(world.refused("GET", "qos/rule-types/minimum_bandwidth", Value::Null).await.0, 404);
}

#[tokio::test]
async fn what_has_a_policy_keeps_it() {
    let world = World::new().await;
    let own = world.policy(json!({})).await["id"].clone();
    let path = format!("qos/policies/{}", text(&own));
    let net = world.demo("POST", "networks", json!({"network": {"qos_policy_id": own}})).await.1["network"].clone();
    assert_eq!(net["qos_policy_id"], own);
    let subnet = json!({"subnet": {"network_id": net["id"], "ip_version": 4, "cidr": "10.5.0.0/24"}});
    assert_eq!(world.demo("POST", "subnets", subnet).await.0, 201);
    let port = world.demo("POST", "ports", json!({"port": {"network_id": net["id"]}})).await.1["port"].clone();
    assert_eq!((&port["qos_policy_id"], &port["qos_network_policy_id"]), (&Value::Null, &own));
    let (net, port) = (format!("networks/{}", text(&net["id"])), format!("ports/{}", text(&port["id"])));
    assert_eq!(world.refused("DELETE", &path, Value::Null).await, (409, "QosPolicyInUse".into()));
    // Whoever deletes it without a look is refused by the claims.
    let snapshot = world.cloud.cloud.store.snapshot();
    let mut change = model::Change::new();
    change.delete(snapshot.get::<QosPolicy>(text(&own)).unwrap());
    let fault = world.cloud.cloud.store.commit(&change).await.unwrap_err();
    assert!(fault.to_string().contains(&*snapshot.get::<QosPolicy>(text(&own)).unwrap().value.key().name), "{fault}");

    let none = json!({"network": {"qos_policy_id": null}});
    assert_eq!(world.demo("PUT", &net, none).await.1["network"]["qos_policy_id"], Value::Null);
    let (_, moved) = world.demo("PUT", &port, json!({"port": {"qos_policy_id": own}})).await;
    assert_eq!((&moved["port"]["qos_policy_id"], &moved["port"]["qos_network_policy_id"]), (&own, &Value::Null));
    assert_eq!(world.refused("DELETE", &path, Value::Null).await, (409, "QosPolicyInUse".into()));
    for (query, found) in [(text(&own), 1), ("00000000-0000-4000-8000-000000000000", 0)] {
        let (_, list) = world.demo("GET", &format!("ports?qos_policy_id={query}"), Value::Null).await;
        assert_eq!(list["ports"].as_array().unwrap().len(), found);
    }
    let unknown = json!({"port": {"qos_policy_id": "00000000-0000-4000-8000-000000000000"}});
    assert_eq!(world.refused("PUT", &port, unknown).await, (404, "QosPolicyNotFound".into()));
    assert_eq!(world.demo("PUT", &port, json!({"port": {"qos_policy_id": "nonsense"}})).await.0, 400);

    // A router's port has none: nothing would obey it.
    let router = world.demo("POST", "routers", json!({"router": {}})).await.1["router"]["id"].clone();
    let join = format!("routers/{}/add_router_interface", text(&router));
    let subnet = world.demo("GET", "subnets?cidr=10.5.0.0/24", Value::Null).await.1["subnets"][0]["id"].clone();
    let (_, joined) = world.demo("PUT", &join, json!({"subnet_id": subnet})).await;
    let inner = format!("ports/{}", text(&joined["port_id"]));
    let refused = world.refused("PUT", &inner, json!({"port": {"qos_policy_id": own}})).await;
    assert_eq!(refused, (409, "QosRuleNotSupported".into()));

    let public = world.make("networks", json!({"network": {"router:external": true}})).await["id"].clone();
    world.make("subnets", json!({"subnet": {"network_id": public, "ip_version": 4, "cidr": "172.30.0.0/24"}})).await;
    let floating = json!({"floatingip": {"floating_network_id": public, "qos_policy_id": own}});
    let (_, floating) = world.demo("POST", "floatingips", floating).await;
    assert_eq!(floating["floatingip"]["qos_policy_id"], own);
    let way =
        |policy: Value| json!({"router": {"external_gateway_info": {"network_id": public, "qos_policy_id": policy}}});
    let router = format!("routers/{}", text(&router));
    let (_, shown) = world.demo("PUT", &router, way(own.clone())).await;
    assert_eq!(shown["router"]["external_gateway_info"]["qos_policy_id"], own, "{shown}");
    assert_eq!(world.demo("PUT", &router, way(json!(7))).await.0, 400);
    let keep = json!({"router": {"external_gateway_info": {"network_id": public}}});
    let (_, shown) = world.demo("PUT", &router, keep).await;
    assert_eq!(shown["router"]["external_gateway_info"]["qos_policy_id"], own, "what is not named stays");
    let freed = format!("floatingips/{}", text(&floating["floatingip"]["id"]));
    world.demo("PUT", &freed, json!({"floatingip": {"qos_policy_id": null}})).await;
    assert_eq!(world.demo("PUT", &port, json!({"port": {"qos_policy_id": null}})).await.0, 200);
    let (_, reply) = world.call(&world.cloud.admin, "DELETE", &path, Value::Null).await;
    assert!(text(&reply["NeutronError"]["message"]).contains("is used by router"), "{reply}");
    let (_, shown) = world.demo("PUT", &router, way(Value::Null)).await;
    assert_eq!(shown["router"]["external_gateway_info"]["qos_policy_id"], Value::Null);
    world.demo("PUT", &freed, json!({"floatingip": {"qos_policy_id": own}})).await;
    assert_eq!(world.demo("DELETE", &port, Value::Null).await.0, 204);
    assert_eq!(world.refused("DELETE", &path, Value::Null).await, (409, "QosPolicyInUse".into()));
    let floating = format!("floatingips/{}", text(&floating["floatingip"]["id"]));
    let (_, freed) = world.demo("PUT", &floating, json!({"floatingip": {"qos_policy_id": null}})).await;
    assert_eq!(freed["floatingip"]["qos_policy_id"], Value::Null);
    assert_eq!(world.refused("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(world.refused("GET", &path, Value::Null).await, (404, "QosPolicyNotFound".into()));
}

#[tokio::test]
async fn a_default_policy_is_that_of_new_networks() {
    let world = World::new().await;
    let network =
        async || world.demo("POST", "networks", json!({"network": {}})).await.1["network"]["qos_policy_id"].clone();
    assert_eq!(network().await, Value::Null);
    let first = world.policy(json!({"is_default": true})).await["id"].clone();
    assert_eq!(network().await, first);
    let second = world.policy(json!({})).await["id"].clone();
    let path = format!("qos/policies/{}", text(&second));
    let default = json!({"policy": {"is_default": true}});
    assert_eq!(world.refused("PUT", &path, default.clone()).await, (409, "QoSPolicyDefaultAlreadyExists".into()));
    let no_more = json!({"policy": {"is_default": false}});
    assert_eq!(world.refused("PUT", &format!("qos/policies/{}", text(&first)), no_more).await.0, 200);
    assert_eq!(network().await, Value::Null);
    assert_eq!(world.refused("PUT", &path, default).await.0, 200);
    assert_eq!(network().await, second);
}

#[tokio::test]
async fn policies_have_tags() {
    let world = World::new().await;
    let policy = world.policy(json!({"tags": ["gold"]})).await;
    assert_eq!(policy["tags"], json!(["gold"]));
    let path = format!("policies/{}/tags", text(&policy["id"]));
    assert_eq!(world.refused("PUT", &path, json!({"tags": ["blue", "red"]})).await.0, 200);
    assert_eq!(world.demo("GET", &path, Value::Null).await.1, json!({"tags": ["blue", "red"]}));
    assert_eq!(world.demo("PUT", &path, json!({"tags": []})).await.0, 403);
    for (tags, found) in [("blue", 1), ("gold", 0)] {
        let (_, list) = world.demo("GET", &format!("qos/policies?tags={tags}"), Value::Null).await;
        assert_eq!(list["policies"].as_array().unwrap().len(), found, "{tags}");
    }
}

#[tokio::test]
async fn policies_are_shared_with_all_or_some() {
    let world = World::new().await;
    let policy = world.make("qos/policies", json!({"policy": {"name": "admins"}})).await["id"].clone();
    let path = format!("qos/policies/{}", text(&policy));
    world.make(&format!("{path}/bandwidth_limit_rules"), limit(1, "egress")).await;
    let net = world.demo("POST", "networks", json!({"network": {}})).await.1["network"]["id"].clone();
    let net = format!("networks/{}", text(&net));
    let take = json!({"network": {"qos_policy_id": policy}});
    assert_eq!(world.demo("GET", &path, Value::Null).await.0, 404);
    assert_eq!(world.demo("PUT", &net, take.clone()).await.0, 404);

    let share = json!({"object_type": "qos_policy", "object_id": policy, "action": "access_as_shared",
        "target_tenant": world.cloud.demo_project});
    let rbac = world.make("rbac-policies", json!({ "rbac_policy": share })).await["id"].clone();
    let rbac = format!("rbac-policies/{}", text(&rbac));
    let (_, shown) = world.demo("GET", &path, Value::Null).await;
    assert_eq!((&shown["policy"]["shared"], &shown["policy"]["rules"][0]["max_kbps"]), (&json!(true), &json!(1)));
    let (status, list) = world.demo("GET", &format!("{path}/bandwidth_limit_rules"), Value::Null).await;
    assert_eq!((status, &list["bandwidth_limit_rules"]), (200, &json!([])), "rules by themselves are the owner's");
    assert_eq!(world.demo("PUT", &path, json!({"policy": {"name": "mine"}})).await.0, 403);
    assert_eq!(world.demo("PUT", &net, take.clone()).await.0, 200);
    assert_eq!(world.refused("DELETE", &rbac, Value::Null).await, (409, "RbacPolicyInUse".into()));
    assert_eq!(world.demo("PUT", &net, json!({"network": {"qos_policy_id": null}})).await.0, 200);
    assert_eq!(world.refused("DELETE", &rbac, Value::Null).await.0, 204);

    let all = |shared: bool| json!({"policy": {"shared": shared}});
    assert_eq!(world.refused("PUT", &path, all(true)).await.0, 200);
    assert_eq!(world.demo("PUT", &net, take.clone()).await.0, 200);
    assert_eq!(world.refused("PUT", &path, all(false)).await, (409, "RbacPolicyInUse".into()));
    // What an administrator has limited, its owner cannot take off.
    assert_eq!(world.demo("PUT", &net, json!({"network": {"qos_policy_id": null}})).await.0, 200);
    assert_eq!(world.refused("PUT", &path, all(false)).await.0, 200);
    assert_eq!(world.refused("PUT", &net, take).await.0, 200);
    let (status, reply) = world.demo("PUT", &net, json!({"network": {"qos_policy_id": null}})).await;
    assert_eq!((status, text(&reply["NeutronError"]["type"])), (403, "PolicyRemoveAuthorizationError"));
}
