//! Keystone's catalog: the cloud's own part, what an administrator adds to it, and who sees what of it where.

mod common;

use common::{Harness, text};
use serde_json::{Value, json};

const V3: &str = "/identity/v3";

async fn make(h: &Harness, what: &str, body: Value) -> Value {
    let (status, _, made) = h.call("POST", &format!("{V3}/{what}s"), &h.admin, json!({ what: body })).await;
    assert_eq!(status, 201, "{made}");
    made[what].clone()
}

async fn listed(h: &Harness, what: &str, query: &str) -> Vec<String> {
    let (_, _, found) = h.ok("GET", &format!("{V3}/{what}s{query}"), &h.admin, Value::Null).await;
    let found = found[format!("{what}s")].as_array().unwrap().clone();
    found.iter().map(|item| text(&item["id"]).to_owned()).collect()
}

/// The endpoints of a service in the catalog of somebody's token.
async fn seen(h: &Harness, token: &str, service_type: &str) -> Option<Vec<Value>> {
    let (_, _, body) = h.ok("GET", &format!("{V3}/auth/catalog"), token, Value::Null).await;
    let services = body["catalog"].as_array().unwrap().clone();
    let service = services.into_iter().find(|service| service["type"] == service_type);
    service.map(|service| service["endpoints"].as_array().unwrap().clone())
}

#[tokio::test]
async fn regions_are_named_and_nested() {
    let h = Harness::new().await;
    let first = make(&h, "region", json!({"description": "first"})).await;
    let id = text(&first["id"]).to_owned();
    assert_eq!((id.len(), &first["parent_region_id"], text(&first["description"])), (32, &Value::Null, "first"));
    let below = make(&h, "region", json!({"id": "below", "parent_region_id": id, "colour": "red"})).await;
    assert_eq!((&below["id"], &below["colour"], &below["description"]), (&json!("below"), &json!("red"), &json!("")));
    assert_eq!(listed(&h, "region", &format!("?parent_region_id={id}")).await, ["below"]);
    make(&h, "region", json!({"id": "edge", "parent_region_id": "RegionOne"})).await;
    let (status, _, put) = h.call("PUT", &format!("{V3}/regions/put"), &h.admin, json!({"region": {}})).await;
    assert_eq!((status, &put["region"]["id"]), (201, &json!("put")));

    for (method, path, body, wanted) in [
        ("PUT", "regions/put", json!({}), 409),
        ("PUT", "regions/other", json!({"id": "another"}), 400),
        ("POST", "regions", json!({"id": "below"}), 409),
        ("POST", "regions", json!({"id": "RegionOne"}), 409),
        ("POST", "regions", json!({"id": "x".repeat(256)}), 400),
        ("POST", "regions", json!({"parent_region_id": "nowhere"}), 404),
        ("POST", "regions", json!({"description": 5}), 400),
        ("PATCH", "regions/below", json!({"id": "other"}), 400),
        ("PATCH", "regions/nowhere", json!({"description": "x"}), 404),
        ("PATCH", "regions/RegionOne", json!({"description": "x"}), 403),
        ("PATCH", format!("regions/{id}").as_str(), json!({"parent_region_id": "below"}), 400),
        ("PATCH", "regions/below", json!({"parent_region_id": "below"}), 400),
    ] {
        let (status, _, answer) = h.call(method, &format!("{V3}/{path}"), &h.admin, json!({"region": body})).await;
        assert_eq!(status, wanted, "{method} {path} {body}: {answer}");
    }
    let (status, _, refused) = h.call("DELETE", &format!("{V3}/regions/RegionOne"), &h.admin, Value::Null).await;
    assert!(status == 403 && refused.to_string().contains("this cloud's own"), "{refused}");
    let body = json!({"region": {"description": "second", "parent_region_id": null}});
    let (_, _, changed) = h.ok("PATCH", &format!("{V3}/regions/edge"), &h.admin, body).await;
    assert_eq!(
        (&changed["region"]["description"], &changed["region"]["parent_region_id"]),
        (&json!("second"), &Value::Null)
    );
    h.ok("DELETE", &format!("{V3}/regions/{id}"), &h.admin, Value::Null).await;
    assert_eq!(listed(&h, "region", "").await, ["RegionOne", "edge", "put"], "what is below goes too");
    assert_eq!(h.call("POST", &format!("{V3}/regions"), &h.demo, json!({"region": {}})).await.0, 403);
    h.ok("GET", &format!("{V3}/regions/edge"), &h.demo, Value::Null).await;
}

#[tokio::test]
async fn services_and_endpoints_come_into_tokens() {
    let h = Harness::new().await;
    let service = make(&h, "service", json!({"type": "dns", "name": "names", "description": "first"})).await;
    let id = text(&service["id"]).to_owned();
    assert_eq!((&service["enabled"], &service["description"]), (&json!(true), &json!("first")));
    assert_eq!(listed(&h, "service", "?type=dns").await, [id.as_str()]);
    assert_eq!(seen(&h, &h.demo, "dns").await, Some(vec![]));
    let url = "https://dns.example/$(project_id)s/%(user_id)s";
    let body = json!({"service_id": id, "interface": "public", "url": url, "region": "Elsewhere"});
    let endpoint = make(&h, "endpoint", body).await;
    assert_eq!((&endpoint["region"], &endpoint["region_id"]), (&json!("Elsewhere"), &json!("Elsewhere")));
    assert_eq!((&endpoint["url"], &endpoint["enabled"]), (&json!(url), &json!(true)));
    let user = h.cloud.gate.inspect(&h.demo).await.unwrap().user_id;
    let shown = &seen(&h, &h.demo, "dns").await.unwrap()[0];
    assert_eq!(shown["url"], json!(format!("https://dns.example/{}/{user}", h.demo_project)));
    assert_eq!(shown["region_id"], "Elsewhere");
    let (_, headers, token) = {
        let domain = json!({"id": "default"});
        let user = json!({"name": "demo", "password": common::DEMO_PASSWORD, "domain": domain});
        let auth = json!({"identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": "demo", "domain": domain}}});
        h.call("POST", &format!("{V3}/auth/tokens"), "", json!({"auth": auth})).await
    };
    assert!(headers.contains_key("x-subject-token") && token.to_string().contains("dns.example"), "{token}");

    // An endpoint of the cloud's own service, somewhere else.
    let compute = listed(&h, "service", "?type=compute").await.remove(0);
    let body =
        json!({"service_id": compute, "interface": "internal", "url": "http://far/compute", "region_id": "Elsewhere"});
    let far = make(&h, "endpoint", body).await;
    let all = seen(&h, &h.demo, "compute").await.unwrap();
    assert_eq!((all.len(), &all[3]["url"]), (4, &json!("http://far/compute")), "the cloud's own come first");
    assert_eq!(all[0]["url"], "https://127.0.0.1:8443/compute/v2.1");
    let path = format!("?service_id={compute}&interface=internal&region_id=Elsewhere");
    assert_eq!(listed(&h, "endpoint", &path).await, [text(&far["id"])]);
    // Nowhere in particular.
    let nowhere = make(&h, "endpoint", json!({"service_id": id, "interface": "admin", "url": "http://any"})).await;
    assert_eq!(nowhere["region"], Value::Null);

    let disable = |what: &str, id: &str, enabled: bool| {
        let (path, body) = (format!("{V3}/{what}s/{id}"), json!({ what: {"enabled": enabled} }));
        let h = &h;
        async move { h.ok("PATCH", &path, &h.admin, body).await }
    };
    disable("endpoint", text(&endpoint["id"]), false).await;
    assert_eq!(seen(&h, &h.demo, "dns").await.unwrap().len(), 1);
    disable("service", &id, false).await;
    assert_eq!(seen(&h, &h.demo, "dns").await, None);
    assert_eq!(listed(&h, "endpoint", &format!("?service_id={id}")).await.len(), 2, "they are only not in tokens");
    disable("service", &id, true).await;

    let region = format!("{V3}/regions/Elsewhere");
    let (status, _, refused) = h.call("DELETE", &region, &h.admin, Value::Null).await;
    assert!(status == 403 && refused.to_string().contains("associated endpoints"), "{refused}");
    h.ok("DELETE", &format!("{V3}/endpoints/{}", text(&far["id"])), &h.admin, Value::Null).await;
    h.ok("DELETE", &format!("{V3}/services/{id}"), &h.admin, Value::Null).await;
    assert_eq!(listed(&h, "endpoint", &format!("?service_id={id}")).await, [""; 0], "they go with their service");
    h.ok("DELETE", &region, &h.admin, Value::Null).await;
    assert_eq!(h.call("GET", &format!("{V3}/services/{id}"), &h.admin, Value::Null).await.0, 404);
}

#[tokio::test]
async fn what_is_wrong_or_the_clouds_own_is_refused() {
    let h = Harness::new().await;
    let compute = listed(&h, "service", "?type=compute").await.remove(0);
    let own = listed(&h, "endpoint", "?interface=public").await.remove(0);
    let endpoint = |more: Value| {
        let mut body = json!({"service_id": compute, "interface": "public", "url": "http://a"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"endpoint": body})
    };
    for (method, path, body, wanted) in [
        ("POST", "services".to_owned(), json!({"service": {"name": "x"}}), 400),
        ("POST", "services".into(), json!({"service": {"type": ""}}), 400),
        ("POST", "services".into(), json!({"service": {"type": "x", "enabled": "yes"}}), 400),
        ("PATCH", format!("services/{compute}"), json!({"service": {"enabled": false}}), 403),
        ("DELETE", format!("services/{compute}"), Value::Null, 403),
        ("PATCH", format!("endpoints/{own}"), json!({"endpoint": {"url": "http://a"}}), 403),
        ("DELETE", format!("endpoints/{own}"), Value::Null, 403),
        ("DELETE", "endpoints/none".into(), Value::Null, 404),
        ("PATCH", "services/none".into(), json!({"service": {"name": "x"}}), 404),
        ("POST", "endpoints".into(), endpoint(json!({"interface": "private"})), 400),
        ("POST", "endpoints".into(), endpoint(json!({"service_id": "none"})), 400),
        ("POST", "endpoints".into(), endpoint(json!({"region_id": "none"})), 400),
        ("POST", "endpoints".into(), endpoint(json!({"url": "nothing"})), 400),
        ("POST", "endpoints".into(), endpoint(json!({"url": "http://$(password)s"})), 400),
        ("POST", "endpoints".into(), endpoint(json!({"url": format!("http://{}", "x".repeat(220))})), 400),
        ("POST", "endpoints".into(), json!({"endpoint": {"interface": "public", "url": "http://a"}}), 400),
    ] {
        let (status, _, answer) = h.call(method, &format!("{V3}/{path}"), &h.admin, body.clone()).await;
        assert_eq!(status, wanted, "{method} {path} {body}: {answer}");
    }
    let own = face_openstack::SERVICES.len();
    assert_eq!((listed(&h, "service", "").await.len(), listed(&h, "endpoint", "").await.len()), (own, 3 * own));
}
