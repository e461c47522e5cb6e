//! Keystone's API over the whole face: what clients send, what they get, and what takes effect when.

mod common;

use common::{ADMIN_PASSWORD, DEMO_PASSWORD, Harness, text};
use serde_json::{Value, json};

const TOKENS: &str = "/identity/v3/auth/tokens";

fn password(user: Value, scope: Value) -> Value {
    let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": user}}});
    if !scope.is_null() {
        auth["scope"] = scope;
    }
    json!({"auth": auth})
}

fn admin_user() -> Value {
    json!({"name": "admin", "password": ADMIN_PASSWORD, "domain": {"name": "Default"}})
}

async fn user_id(cloud: &Harness, token: &str) -> String {
    cloud.cloud.gate.inspect(token).await.unwrap().user_id
}

async fn role_id(cloud: &Harness, name: &str) -> String {
    let (_, _, body) = cloud.ok("GET", &format!("/identity/v3/roles?name={name}"), &cloud.admin, Value::Null).await;
    text(&body["roles"][0]["id"]).to_owned()
}

#[tokio::test]
async fn discovery_has_keystones_shape() {
    let cloud = Harness::new().await;
    for path in ["/identity", "/identity/"] {
        let (status, headers, body) = cloud.call("GET", path, "", Value::Null).await;
        assert_eq!(status, 300);
        assert_eq!(headers["location"], "https://127.0.0.1:8443/identity/v3/");
        assert_eq!(body["versions"]["values"][0]["id"], "v3.14");
        assert_eq!(body["versions"]["values"][0]["status"], "stable");
    }
    let (status, _, body) = cloud.call("GET", "/identity/v3/", "", Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(body["version"]["media-types"][0]["type"], "application/vnd.openstack.identity-v3+json");
}

#[tokio::test]
async fn a_password_gives_a_token_in_keystones_shape() {
    let cloud = Harness::new().await;
    let scope = json!({"project": {"name": "admin", "domain": {"id": "default"}}});
    let headers = [("host", "cloud.example:8443")];
    let (status, headers, body) = cloud.call_with("POST", TOKENS, "", &headers, password(admin_user(), scope)).await;
    assert_eq!(status, 201, "{body}");
    let token = headers["x-subject-token"].to_str().unwrap();
    assert!(token.len() < 255 && token.starts_with("gAAAAA"), "{token}");
    let shown = &body["token"];
    assert_eq!(shown["methods"], json!(["password"]));
    assert_eq!(shown["user"]["name"], "admin");
    assert_eq!(shown["user"]["domain"], json!({"id": "default", "name": "Default"}));
    assert_eq!(shown["user"]["password_expires_at"], Value::Null);
    assert_eq!(shown["project"]["domain"], json!({"id": "default", "name": "Default"}));
    assert_eq!(shown["is_domain"], false);
    let mut roles: Vec<&str> = shown["roles"].as_array().unwrap().iter().map(|r| text(&r["name"])).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["admin", "manager", "member", "reader"]);
    assert!(text(&shown["expires_at"]).ends_with(".000000Z"));
    assert_eq!(text(&shown["issued_at"]).len(), 27);
    assert_eq!(text(&shown["audit_ids"][0]).len(), 22);
    let compute = shown["catalog"].as_array().unwrap().iter().find(|s| s["type"] == "compute").unwrap();
    assert_eq!(compute["name"], "nova");
    assert_eq!(compute["endpoints"][0]["url"], "https://cloud.example:8443/compute/v2.1");
    assert_eq!(compute["endpoints"][0]["region_id"], "RegionOne");

    let (status, _, validated) = cloud
        .call_with("GET", TOKENS, token, &[("x-subject-token", token), ("host", "cloud.example:8443")], Value::Null)
        .await;
    assert_eq!((status, &validated["token"]["audit_ids"]), (200, &shown["audit_ids"]));
    let (status, _, validated) =
        cloud.call_with("GET", &format!("{TOKENS}?nocatalog"), token, &[("x-subject-token", token)], Value::Null).await;
    assert_eq!((status, validated["token"].get("catalog")), (200, None));
    let (status, _, nothing) = cloud.call_with("HEAD", TOKENS, token, &[("x-subject-token", token)], Value::Null).await;
    assert_eq!((status, nothing), (200, Value::Null));
}

#[tokio::test]
async fn who_guesses_is_held_back() {
    let cloud = Harness::new().await;
    let login = |name: &str, word: &str| {
        password(json!({"name": name, "password": word, "domain": {"id": "default"}}), Value::Null)
    };
    for _ in 0..10 {
        assert_eq!(cloud.call("POST", TOKENS, "", login("demo", "guess")).await.0, 401);
    }
    let (status, _, body) = cloud.call("POST", TOKENS, "", login("demo", DEMO_PASSWORD)).await;
    assert_eq!(status, 401);
    assert_eq!(body, cloud.call("POST", TOKENS, "", login("nobody", "guess")).await.2, "the answer tells nothing");
    assert_eq!(cloud.call("POST", TOKENS, "", login("admin", ADMIN_PASSWORD)).await.0, 201, "nobody else is");
}

#[tokio::test]
async fn wrong_credentials_get_one_answer() {
    let cloud = Harness::new().await;
    let domain = json!({"id": "default"});
    let scope = json!({"project": {"name": "admin", "domain": {"id": "default"}}});
    for (user, scope) in [
        (json!({"name": "admin", "password": "wrong", "domain": domain}), Value::Null),
        (json!({"name": "nobody", "password": "wrong", "domain": domain}), Value::Null),
        (json!({"name": "admin", "password": ADMIN_PASSWORD, "domain": {"id": "other"}}), Value::Null),
        (json!({"name": "demo", "password": DEMO_PASSWORD, "domain": domain}), scope),
        (json!({"name": "demo", "password": DEMO_PASSWORD, "domain": domain}), json!({"system": {"all": true}})),
        (json!({"name": "demo", "password": DEMO_PASSWORD, "domain": domain}), json!({"domain": {"id": "default"}})),
    ] {
        let (status, headers, body) = cloud.call("POST", TOKENS, "", password(user, scope)).await;
        let error = json!({"error": {
            "code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}});
        assert_eq!((status, body), (401, error));
        assert!(headers["www-authenticate"].to_str().unwrap().starts_with("Keystone uri="));
    }
    for body in [
        Value::Null,
        json!({}),
        json!({"auth": {}}),
        json!({"auth": {"identity": {"methods": []}}}),
        json!({"auth": {"identity": {"methods": ["password"]}}}),
        json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "admin", "password": "x"}}}}}),
        password(admin_user(), json!(7)),
        password(admin_user(), json!({"project": {}})),
        password(admin_user(), json!({"project": {"id": "x"}, "domain": {"id": "x"}})),
    ] {
        assert_eq!(cloud.call("POST", TOKENS, "", body.clone()).await.0, 400, "{body}");
    }
    let totp = json!({"auth": {"identity": {"methods": ["totp"], "totp": {}}}});
    assert_eq!(cloud.call("POST", TOKENS, "", totp).await.0, 401);
}

#[tokio::test]
async fn scopes() {
    let cloud = Harness::new().await;
    let login = async |scope: Value| cloud.ok("POST", TOKENS, "", password(admin_user(), scope)).await;
    let (_, _, body) = login(json!("unscoped")).await;
    assert!(body["token"].get("project").is_none() && body["token"].get("catalog").is_none());
    let (_, _, body) = login(json!({"unscoped": {}})).await;
    assert!(body["token"].get("roles").is_none());
    let (_, headers, body) = login(json!({"system": {"all": true}})).await;
    assert_eq!(body["token"]["system"], json!({"all": true}));
    let system = headers["x-subject-token"].to_str().unwrap().to_owned();
    cloud.ok("GET", "/identity/v3/projects", &system, Value::Null).await;
    let (_, _, body) = login(json!({"domain": {"name": "Default"}})).await;
    assert_eq!(body["token"]["domain"], json!({"id": "default", "name": "Default"}));
    // Without a scope: the user's default project.
    let (_, _, body) = login(Value::Null).await;
    assert_eq!(body["token"]["project"]["name"], "admin");
    let (_, _, systems) = cloud.ok("GET", "/identity/v3/auth/system", &cloud.admin, Value::Null).await;
    assert_eq!(systems["system"], json!([{"all": true}]));
    let (_, _, domains) = cloud.ok("GET", "/identity/v3/auth/domains", &cloud.admin, Value::Null).await;
    assert_eq!(domains["domains"][0]["name"], "Default");
}

#[tokio::test]
async fn a_token_from_a_token_keeps_its_chain_and_end() {
    let cloud = Harness::new().await;
    let rescope = json!({"auth": {
        "identity": {"methods": ["token"], "token": {"id": cloud.admin}},
        "scope": {"project": {"id": cloud.demo_project}},
    }});
    let (_, headers, body) = cloud.ok("POST", TOKENS, "", rescope.clone()).await;
    let first = cloud.cloud.gate.inspect(&cloud.admin).await.unwrap();
    assert_eq!(body["token"]["methods"], json!(["token", "password"]));
    assert_eq!(body["token"]["project"]["name"], "demo");
    assert_eq!(body["token"]["audit_ids"][1], first.audit_ids[0]);
    let second = headers["x-subject-token"].to_str().unwrap();
    assert_eq!(cloud.cloud.gate.inspect(second).await.unwrap().expires_at, first.expires_at);

    // A void token is not found.
    let subject = [("x-subject-token", cloud.admin.as_str())];
    assert_eq!(cloud.call_with("DELETE", TOKENS, second, &subject, Value::Null).await.0, 204);
    let (status, _, body) = cloud.call("POST", TOKENS, "", rescope).await;
    assert_eq!((status, &body["error"]["message"]), (404, &json!("Failed to validate token")));
    assert_eq!(cloud.call("GET", "/identity/v3/auth/projects", &cloud.admin, Value::Null).await.0, 401);
    assert_eq!(cloud.call_with("GET", TOKENS, second, &subject, Value::Null).await.0, 404);
    assert_eq!(cloud.call("GET", "/identity/v3/auth/projects", second, Value::Null).await.0, 200);
}

#[tokio::test]
async fn rights_end_at_once() {
    let cloud = Harness::new().await;
    let admin = &cloud.admin;
    let alive = async |token: &str| cloud.call("GET", "/identity/v3/auth/projects", token, Value::Null).await.0;
    let first = cloud.tenant("ann", "member").await;
    let project = cloud.project_of(&first).await;
    let user = user_id(&cloud, &first).await;
    let (users, projects) = (format!("/identity/v3/users/{user}"), format!("/identity/v3/projects/{project}"));

    cloud.ok("PATCH", &users, admin, json!({"user": {"enabled": false}})).await;
    assert_eq!(alive(&first).await, 401);
    cloud.ok("PATCH", &users, admin, json!({"user": {"enabled": true}})).await;
    assert_eq!(alive(&first).await, 401, "a token of before stays void");

    let second = cloud.login("ann", "ann", "ann").await;
    cloud.ok("PATCH", &users, admin, json!({"user": {"password": "new"}})).await;
    assert_eq!(alive(&second).await, 401);

    let third = cloud.login("ann", "new", "ann").await;
    cloud.ok("PATCH", &projects, admin, json!({"project": {"enabled": false}})).await;
    assert_eq!(alive(&third).await, 401);
    cloud.ok("PATCH", &projects, admin, json!({"project": {"enabled": true}})).await;

    let fourth = cloud.login("ann", "new", "ann").await;
    let member = role_id(&cloud, "member").await;
    let grant = format!("{projects}/users/{user}/roles/{member}");
    assert_eq!(cloud.call("DELETE", &grant, admin, Value::Null).await.0, 204);
    assert_eq!(alive(&fourth).await, 401);
    // The token was good for the role alone; with the role it is good again.
    cloud.ok("PUT", &grant, admin, Value::Null).await;
    assert_eq!(alive(&fourth).await, 200);
    cloud.ok("DELETE", &users, admin, Value::Null).await;
    assert_eq!(alive(&fourth).await, 401);
}

#[tokio::test]
async fn keys_rotate_under_living_tokens() {
    let cloud = Harness::new().await;
    let (now, hour) = (model::Time::now(), jiff::SignedDuration::from_hours(1));
    let keys = || cloud.cloud.store.snapshot().all::<model::TokenKey>().count();
    // Not yet; a new one by which tokens are made; the old one is of no use to any token; the next.
    for (hours, count, alive) in [(23, 1, true), (25, 2, true), (25, 2, true), (27, 1, false), (51, 2, false)] {
        cloud.cloud.gate.rotate_keys(now + hour * hours).await.unwrap();
        assert_eq!((keys(), cloud.cloud.gate.inspect(&cloud.demo).await.is_ok()), (count, alive), "{hours}");
    }
    let new = cloud.login("demo", DEMO_PASSWORD, "demo").await;
    assert!(cloud.cloud.gate.inspect(&new).await.is_ok());
}

#[tokio::test]
async fn a_user_changes_the_own_password() {
    let cloud = Harness::new().await;
    let path = format!("/identity/v3/users/{}/password", user_id(&cloud, &cloud.demo).await);
    let body = |old: &str| json!({"user": {"original_password": old, "password": "another"}});
    assert_eq!(cloud.call("POST", &path, &cloud.demo, body("wrong")).await.0, 401);
    assert_eq!(cloud.call("POST", &path, &cloud.demo, body(DEMO_PASSWORD)).await.0, 204);
    assert!(cloud.cloud.gate.inspect(&cloud.demo).await.is_err());
    cloud.login("demo", "another", "demo").await;
    for used in ["another", DEMO_PASSWORD] {
        let reuse = json!({"user": {"original_password": "another", "password": used}});
        assert_eq!(cloud.call("POST", &path, "", reuse).await.0, 400, "{used}");
    }
    let long = json!({"user": {"original_password": "another", "password": "x".repeat(73)}});
    assert_eq!(cloud.call("POST", &path, "", long).await.0, 403);
}

#[tokio::test]
async fn a_project_is_born_with_its_group_and_limits_and_dies_with_them() {
    let cloud = Harness::new().await;
    let admin = &cloud.admin;
    let body = json!({"project": {"name": "p", "description": "d", "tags": ["a", "b"], "color": "red"}});
    let (status, _, made) = cloud.call("POST", "/identity/v3/projects", admin, body).await;
    assert_eq!(status, 201);
    let project = &made["project"];
    let id = text(&project["id"]);
    let self_link = format!("https://127.0.0.1:8443/identity/v3/projects/{id}");
    for (field, value) in [
        ("domain_id", json!("default")),
        ("parent_id", json!("default")),
        ("enabled", json!(true)),
        ("is_domain", json!(false)),
        ("options", json!({})),
        ("color", json!("red")),
        ("links", json!({"self": self_link})),
    ] {
        assert_eq!(project[field], value, "{field}");
    }
    let snapshot = cloud.cloud.store.snapshot();
    let realm = model::Realm::project(id);
    assert_eq!(snapshot.within::<model::SecurityGroup>(&realm).count(), 1);
    assert_eq!(snapshot.within::<model::SecurityGroupRule>(&realm).count(), 4);
    assert!(snapshot.get::<model::Quota>(id).is_some());

    let (status, _, refused) =
        cloud.call("POST", "/identity/v3/projects", admin, json!({"project": {"name": "p"}})).await;
    let words =
        "Conflict occurred attempting to store project - Duplicate entry found with name p at domain ID default.";
    assert_eq!((status, text(&refused["error"]["message"])), (409, words));
    let (_, _, found) = cloud.ok("GET", "/identity/v3/projects?tags=a,b&name=p&unknown=x", admin, Value::Null).await;
    assert_eq!(found["projects"].as_array().unwrap().len(), 1);
    assert_eq!(found["links"]["next"], Value::Null);
    let (_, _, found) = cloud.ok("GET", "/identity/v3/projects?not-tags-any=a,c", admin, Value::Null).await;
    assert!(found["projects"].as_array().unwrap().iter().all(|p| p["name"] != "p"));

    let path = format!("/identity/v3/projects/{id}");
    let (_, _, child) =
        cloud.ok("POST", "/identity/v3/projects", admin, json!({"project": {"name": "c", "parent_id": id}})).await;
    assert_eq!(cloud.call("DELETE", &path, admin, Value::Null).await.0, 403);
    assert_eq!(cloud.call("PATCH", &path, admin, json!({"project": {"enabled": false}})).await.0, 403);
    let (_, _, tree) = cloud.ok("GET", &format!("{path}?subtree_as_ids"), admin, Value::Null).await;
    assert_eq!(tree["project"]["subtree"], json!({text(&child["project"]["id"]): null}));
    let (demo, member) = (user_id(&cloud, &cloud.demo).await, role_id(&cloud, "member").await);
    cloud.ok("PUT", &format!("{path}/users/{demo}/roles/{member}"), admin, Value::Null).await;
    for (token, count) in [(admin, 1), (&cloud.demo, 0)] {
        let (_, _, tree) = cloud.ok("GET", &format!("{path}?subtree_as_list"), token, Value::Null).await;
        assert_eq!(tree["project"]["subtree"].as_array().map(Vec::len), Some(count), "{tree}");
    }
    cloud.ok("DELETE", &format!("/identity/v3/projects/{}", text(&child["project"]["id"])), admin, Value::Null).await;
    assert_eq!(cloud.call("DELETE", &path, admin, Value::Null).await.0, 204);
    let (status, _, gone) = cloud.call("GET", &path, admin, Value::Null).await;
    assert_eq!((status, text(&gone["error"]["message"])), (404, format!("Could not find project: {id}.").as_str()));
    let snapshot = cloud.cloud.store.snapshot();
    assert!(snapshot.rows().all(|row| row.key.realm != realm));
    assert!(snapshot.get::<model::Quota>(id).is_none());
}

#[tokio::test]
async fn tags() {
    let cloud = Harness::new().await;
    let path = format!("/identity/v3/projects/{}/tags", cloud.demo_project);
    let admin = &cloud.admin;
    assert_eq!(cloud.call("PUT", &path, admin, json!({"tags": ["x", "y"]})).await.0, 200);
    assert_eq!(cloud.call("PUT", &path, admin, json!({"tags": ["x", "x"]})).await.0, 400);
    assert_eq!(cloud.call("PUT", &format!("{path}/z"), admin, Value::Null).await.0, 201);
    assert_eq!(cloud.call("GET", &format!("{path}/z"), &cloud.demo, Value::Null).await.0, 204);
    assert_eq!(cloud.call("DELETE", &format!("{path}/x"), admin, Value::Null).await.0, 204);
    assert_eq!(cloud.call("GET", &format!("{path}/x"), admin, Value::Null).await.0, 404);
    assert_eq!(cloud.call("PUT", &path, &cloud.demo, json!({"tags": []})).await.0, 403);
    let (_, _, body) = cloud.ok("GET", &path, admin, Value::Null).await;
    assert_eq!(body["tags"], json!(["y", "z"]));
}

#[tokio::test]
async fn users_see_themselves_and_nobody_else() {
    let cloud = Harness::new().await;
    let (me, other) = (user_id(&cloud, &cloud.demo).await, user_id(&cloud, &cloud.admin).await);
    let get = async |path: String| cloud.call("GET", &path, &cloud.demo, Value::Null).await;
    for path in ["", "/projects", "/groups", "/application_credentials", "/access_rules"] {
        assert_eq!(get(format!("/identity/v3/users/{me}{path}")).await.0, 200, "{path}");
        assert_eq!(get(format!("/identity/v3/users/{other}{path}")).await.0, 403, "{path}");
    }
    let (_, _, body) = get(format!("/identity/v3/users/{me}/projects")).await;
    assert_eq!(body["projects"].as_array().unwrap().len(), 1);
    for path in ["users", "projects", "domains", "groups", "roles", "role_assignments", "services", "endpoints"] {
        let (status, _, body) = get(format!("/identity/v3/{path}")).await;
        assert_eq!((status, &body["error"]["title"]), (403, &json!("Forbidden")), "{path}");
    }
    assert_eq!(get(format!("/identity/v3/projects/{}", cloud.admin_project)).await.0, 403);
    assert_eq!(get(format!("/identity/v3/projects/{}", cloud.demo_project)).await.0, 200);
    // Not even to learn what is not there.
    assert_eq!(get("/identity/v3/users/nobody".into()).await.0, 403);
    // Another's token is another's.
    let subject = [("x-subject-token", cloud.admin.as_str())];
    assert_eq!(cloud.call_with("GET", TOKENS, &cloud.demo, &subject, Value::Null).await.0, 403);
    assert_eq!(cloud.call_with("DELETE", TOKENS, &cloud.demo, &subject, Value::Null).await.0, 403);
}

#[tokio::test]
async fn groups_and_inherited_roles_count() {
    let cloud = Harness::new().await;
    let admin = &cloud.admin;
    let (_, _, user) =
        cloud.ok("POST", "/identity/v3/users", admin, json!({"user": {"name": "eve", "password": "eve"}})).await;
    let user = text(&user["user"]["id"]).to_owned();
    let (_, _, group) = cloud.ok("POST", "/identity/v3/groups", admin, json!({"group": {"name": "g"}})).await;
    let group = text(&group["group"]["id"]).to_owned();
    let member = role_id(&cloud, "member").await;
    let inherit =
        format!("/identity/v3/OS-INHERIT/domains/default/groups/{group}/roles/{member}/inherited_to_projects");
    assert_eq!(cloud.call("PUT", &inherit, admin, Value::Null).await.0, 204);
    assert_eq!(cloud.call("HEAD", &inherit, admin, Value::Null).await.0, 204);
    let membership = format!("/identity/v3/groups/{group}/users/{user}");
    assert_eq!(cloud.call("GET", &membership, admin, Value::Null).await.0, 404);
    assert_eq!(cloud.call("PUT", &membership, admin, Value::Null).await.0, 204);
    let token = cloud.login("eve", "eve", "demo").await;

    let assignments = "/identity/v3/role_assignments";
    let query = format!("{assignments}?effective&include_names&user.id={user}&scope.project.id={}", cloud.demo_project);
    let (_, _, body) = cloud.ok("GET", &query, admin, Value::Null).await;
    let mut roles: Vec<&str> =
        body["role_assignments"].as_array().unwrap().iter().map(|a| text(&a["role"]["name"])).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["member", "reader"]);
    assert_eq!(body["role_assignments"][0]["scope"]["project"]["domain"]["name"], "Default");
    let (_, _, body) = cloud.ok("GET", &format!("{assignments}?group.id={group}"), admin, Value::Null).await;
    assert_eq!(body["role_assignments"][0]["scope"]["OS-INHERIT:inherited_to"], "projects");

    assert_eq!(cloud.call("DELETE", &membership, admin, Value::Null).await.0, 204);
    assert!(cloud.cloud.gate.inspect(&token).await.is_err());
    assert_eq!(cloud.call("DELETE", &format!("/identity/v3/groups/{group}"), admin, Value::Null).await.0, 204);
    let (_, _, body) = cloud.ok("GET", &format!("{assignments}?role.id={member}"), admin, Value::Null).await;
    assert!(body["role_assignments"].as_array().unwrap().iter().all(|a| a.get("group").is_none()));
}

#[tokio::test]
async fn application_credentials() {
    let cloud = Harness::new().await;
    let me = user_id(&cloud, &cloud.demo).await;
    let path = format!("/identity/v3/users/{me}/application_credentials");
    let body = json!({"application_credential": {
        "name": "app", "description": "d", "roles": [{"name": "reader"}], "expires_at": "2199-01-02T03:04:05.123456"}});
    let (status, _, made) = cloud.call("POST", &path, &cloud.demo, body.clone()).await;
    assert_eq!(status, 201, "{made}");
    let credential = &made["application_credential"];
    assert_eq!(credential["expires_at"], "2199-01-02T03:04:05.123456");
    assert_eq!(credential["roles"].as_array().unwrap().len(), 1);
    assert_eq!(credential["project_id"], cloud.demo_project.as_str());
    let (id, secret) = (text(&credential["id"]), text(&credential["secret"]));
    let (status, _, refused) = cloud.call("POST", &path, &cloud.demo, body).await;
    let words = "Conflict occurred attempting to store application_credential - Duplicate entry found with name app.";
    assert_eq!((status, text(&refused["error"]["message"])), (409, words));
    let (_, _, shown) = cloud.ok("GET", &format!("{path}/{id}"), &cloud.demo, Value::Null).await;
    assert!(shown["application_credential"].get("secret").is_none());

    let login = |with: Value| json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": with}}});
    let (_, headers, body) = cloud.ok("POST", TOKENS, "", login(json!({"id": id, "secret": secret}))).await;
    assert_eq!(body["token"]["methods"], json!(["application_credential"]));
    assert_eq!(body["token"]["application_credential"], json!({"id": id, "name": "app", "restricted": true}));
    assert_eq!(body["token"]["roles"].as_array().unwrap().len(), 1);
    let token = headers["x-subject-token"].to_str().unwrap();
    assert!(token.len() < 255);
    let named = json!({"name": "app", "secret": secret, "user": {"id": me}});
    cloud.ok("POST", TOKENS, "", login(named)).await;
    assert_eq!(cloud.call("POST", TOKENS, "", login(json!({"id": id, "secret": "wrong"}))).await.0, 401);
    let mut scoped = login(json!({"id": id, "secret": secret}));
    scoped["auth"]["scope"] = json!({"project": {"id": cloud.demo_project}});
    assert_eq!(cloud.call("POST", TOKENS, "", scoped).await.0, 401);

    // A restricted credential cannot make or delete credentials, and nobody can give what they have not.
    let another = json!({"application_credential": {"name": "another"}});
    assert_eq!(cloud.call("POST", &path, token, another.clone()).await.0, 403);
    assert_eq!(cloud.call("DELETE", &format!("{path}/{id}"), token, Value::Null).await.0, 403);
    let greedy = json!({"application_credential": {"name": "greedy", "roles": [{"name": "admin"}]}});
    assert_eq!(cloud.call("POST", &path, &cloud.demo, greedy).await.0, 400);
    assert_eq!(cloud.call("POST", &path, &cloud.admin, another).await.0, 403);
    let past = json!({"application_credential": {"name": "past", "expires_at": "2001-01-01T00:00:00"}});
    assert_eq!(cloud.call("POST", &path, &cloud.demo, past).await.0, 400);

    assert_eq!(cloud.call("DELETE", &format!("{path}/{id}"), &cloud.demo, Value::Null).await.0, 204);
    assert!(cloud.cloud.gate.inspect(token).await.is_err());
}

#[tokio::test]
async fn access_rules_bind() {
    let cloud = Harness::new().await;
    let me = user_id(&cloud, &cloud.demo).await;
    let users = format!("/identity/v3/users/{me}");
    let rule = json!({"service": "identity", "method": "GET", "path": "/v3/users/{id}"});
    let body = json!({"application_credential": {"name": "narrow", "access_rules": [rule]}});
    let (_, _, made) = cloud.ok("POST", &format!("{users}/application_credentials"), &cloud.demo, body).await;
    let made = &made["application_credential"];
    let body = json!({"auth": {"identity": {"methods": ["application_credential"],
        "application_credential": {"id": made["id"], "secret": made["secret"]}}}});
    let (_, headers, _) = cloud.ok("POST", TOKENS, "", body).await;
    let token = headers["x-subject-token"].to_str().unwrap();
    assert_eq!(cloud.call("GET", &users, token, Value::Null).await.0, 200);
    assert_eq!(cloud.call("GET", &format!("{users}/projects"), token, Value::Null).await.0, 401);
    let (_, _, rules) = cloud.ok("GET", &format!("{users}/access_rules"), &cloud.demo, Value::Null).await;
    assert_eq!(rules["access_rules"][0]["path"], "/v3/users/{id}");
    let path = format!("{users}/access_rules/{}", text(&rules["access_rules"][0]["id"]));
    assert_eq!(cloud.call("DELETE", &path, &cloud.demo, Value::Null).await.0, 403);
    // The same rule in another credential is the same; it stays when they go, and can be named by its id.
    let rule_id = rules["access_rules"][0]["id"].clone();
    let own = format!("{users}/application_credentials");
    let named = |name: &str, rules: Value| json!({"application_credential": {"name": name, "access_rules": rules}});
    let (_, _, other) = cloud.ok("POST", &own, &cloud.demo, named("same", json!([rule, rule]))).await;
    let other = &other["application_credential"];
    assert_eq!(other["access_rules"][0]["id"], rule_id);
    for credential in [made, other] {
        let credential = format!("{own}/{}", text(&credential["id"]));
        assert_eq!(cloud.call("DELETE", &credential, &cloud.demo, Value::Null).await.0, 204);
    }
    let (_, _, third) = cloud.ok("POST", &own, &cloud.demo, named("third", json!([{"id": rule_id}]))).await;
    let third = format!("{own}/{}", text(&third["application_credential"]["id"]));
    let stranger = cloud.tenant("stranger", "member").await;
    assert_eq!(cloud.call("DELETE", &path, &stranger, Value::Null).await.0, 403);
    assert_eq!(cloud.call("DELETE", &path, &cloud.demo, Value::Null).await.0, 403, "it is in use");
    assert_eq!(cloud.call("DELETE", &third, &cloud.demo, Value::Null).await.0, 204);
    assert_eq!(cloud.call("GET", &path, &cloud.demo, Value::Null).await.0, 200, "it outlives its credentials");
    assert_eq!(cloud.call("DELETE", &path, &cloud.demo, Value::Null).await.0, 204);
    assert_eq!(cloud.call("GET", &path, &cloud.demo, Value::Null).await.0, 404);
    // An empty list, which some clients send when there is nothing to say, restricts nothing.
    let empty = json!({"application_credential": {"name": "none", "access_rules": []}});
    assert_eq!(cloud.call("POST", &format!("{users}/application_credentials"), &cloud.demo, empty).await.0, 201);
}

#[tokio::test]
async fn a_domain_goes_with_all_that_is_in_it() {
    let cloud = Harness::new().await;
    let admin = &cloud.admin;
    let (_, _, domain) = cloud.ok("POST", "/identity/v3/domains", admin, json!({"domain": {"name": "d"}})).await;
    let id = text(&domain["domain"]["id"]).to_owned();
    let (status, _, refused) =
        cloud.call("POST", "/identity/v3/domains", admin, json!({"domain": {"name": "d"}})).await;
    let words = "Conflict occurred attempting to store domain - Duplicate entry found with name d.";
    assert_eq!((status, text(&refused["error"]["message"])), (409, words));
    let within = |name: &str| json!({name: {"name": "x", "domain_id": id, "password": "x"}});
    let (_, _, project) =
        cloud.ok("POST", "/identity/v3/projects", admin, json!({"project": {"name": "x", "domain_id": id}})).await;
    let (_, _, user) = cloud.ok("POST", "/identity/v3/users", admin, within("user")).await;
    let (_, _, group) =
        cloud.ok("POST", "/identity/v3/groups", admin, json!({"group": {"name": "x", "domain_id": id}})).await;
    let (project, user, group) =
        (text(&project["project"]["id"]), text(&user["user"]["id"]), text(&group["group"]["id"]));
    let role = role_id(&cloud, "member").await;
    for path in [
        format!("projects/{project}/users/{user}/roles/{role}"),
        format!("projects/{project}/groups/{group}/roles/{role}"),
        format!("domains/{id}/users/{user}/roles/{role}"),
        format!("system/users/{user}/roles/{role}"),
        format!("groups/{group}/users/{user}"),
    ] {
        let path = format!("/identity/v3/{path}");
        assert_eq!(cloud.call("PUT", &path, admin, Value::Null).await.0, 204, "{path}");
        assert_eq!(cloud.call("PUT", &path, admin, Value::Null).await.0, 204, "again: {path}");
        assert_eq!(cloud.call("HEAD", &path, admin, Value::Null).await.0, 204, "{path}");
    }
    let path = format!("/identity/v3/domains/{id}");
    assert_eq!(cloud.call("DELETE", &path, admin, Value::Null).await.0, 403);
    cloud.ok("PATCH", &path, admin, json!({"domain": {"enabled": false}})).await;
    assert_eq!(cloud.call("DELETE", &path, admin, Value::Null).await.0, 204);
    for path in [format!("users/{user}"), format!("projects/{project}"), format!("groups/{group}")] {
        assert_eq!(cloud.call("GET", &format!("/identity/v3/{path}"), admin, Value::Null).await.0, 404);
    }
}

#[tokio::test]
async fn roles_and_catalog() {
    let cloud = Harness::new().await;
    let admin = &cloud.admin;
    let path = format!("/identity/v3/roles/{}", role_id(&cloud, "admin").await);
    let (_, _, shown) = cloud.ok("GET", &path, admin, Value::Null).await;
    assert_eq!(shown["role"]["options"], json!({"immutable": true}));
    assert_eq!(cloud.call("DELETE", &path, admin, Value::Null).await.0, 403);
    assert_eq!(cloud.call("PATCH", &path, admin, json!({"role": {"name": "x"}})).await.0, 403);
    let (_, _, made) = cloud.ok("POST", "/identity/v3/roles", admin, json!({"role": {"name": "own"}})).await;
    let own = format!("/identity/v3/roles/{}", text(&made["role"]["id"]));
    cloud.ok("PATCH", &own, admin, json!({"role": {"description": "d"}})).await;
    cloud.ok("DELETE", &own, admin, Value::Null).await;
    let (_, _, inferences) = cloud.ok("GET", "/identity/v3/role_inferences", admin, Value::Null).await;
    assert_eq!(inferences["role_inferences"].as_array().unwrap().len(), 3);

    let (_, _, catalog) = cloud.ok("GET", "/identity/v3/auth/catalog", &cloud.demo, Value::Null).await;
    assert_eq!(catalog["catalog"].as_array().unwrap().len(), 5);
    let (_, _, services) = cloud.ok("GET", "/identity/v3/services?type=image", admin, Value::Null).await;
    let id = text(&services["services"][0]["id"]);
    let (_, _, endpoints) =
        cloud.ok("GET", &format!("/identity/v3/endpoints?service_id={id}"), admin, Value::Null).await;
    assert_eq!(endpoints["endpoints"].as_array().unwrap().len(), 3);
    assert_eq!(cloud.call("PUT", "/identity/v3/services", admin, json!({})).await.0, 405);
    let (status, _, body) = cloud.call("GET", "/identity/v3/nonsense", admin, Value::Null).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!(404)));
}

#[tokio::test]
async fn what_roles_imply_is_looked_at_only() {
    let cloud = Harness::new().await;
    let (admin, manager, member) =
        (role_id(&cloud, "admin").await, role_id(&cloud, "manager").await, role_id(&cloud, "member").await);
    let path = |prior: &str, implied: &str| format!("/identity/v3/roles/{prior}/implies/{implied}");
    let (_, _, shown) = cloud.ok("GET", &path(&admin, &manager), &cloud.admin, Value::Null).await;
    let inference = &shown["role_inference"];
    assert_eq!((&inference["prior_role"]["id"], &inference["implies"]["name"]), (&json!(admin), &json!("manager")));
    for (method, prior, implied, wanted) in [
        ("HEAD", admin.as_str(), manager.as_str(), 204),
        ("HEAD", &admin, &member, 404),
        ("GET", &manager, &admin, 404),
        ("GET", "none", &admin, 404),
        ("PUT", &admin, &manager, 409),
        ("PUT", &member, &admin, 403),
        ("PUT", &member, "none", 404),
        ("DELETE", &admin, &manager, 403),
        ("DELETE", &member, &admin, 404),
    ] {
        let (status, _, answer) = cloud.call(method, &path(prior, implied), &cloud.admin, Value::Null).await;
        assert_eq!(status, wanted, "{method} {prior} {implied}: {answer}");
    }
}

#[tokio::test]
async fn what_is_immutable_stays_until_that_is_taken_back() {
    let cloud = Harness::new().await;
    for (path, name) in [("domains", "domain"), ("projects", "project"), ("roles", "role")] {
        let body = json!({name: {"name": format!("fixed-{name}"), "enabled": true, "options": {"immutable": true}}});
        let (_, _, made) = cloud.ok("POST", &format!("/identity/v3/{path}"), &cloud.admin, body).await;
        assert_eq!(made[name]["options"], json!({"immutable": true}));
        let url = format!("/identity/v3/{path}/{}", text(&made[name]["id"]));
        for change in [json!({"description": "other"}), json!({"options": {"immutable": true}, "description": "x"})] {
            let (status, _, body) = cloud.call("PATCH", &url, &cloud.admin, json!({name: change})).await;
            let words = text(&body["error"]["message"]);
            assert!(status == 403 && words.contains("Unable to update immutable"), "{status} {body}");
        }
        let (status, _, body) = cloud.call("DELETE", &url, &cloud.admin, Value::Null).await;
        assert!(status == 403 && text(&body["error"]["message"]).contains("Unable to delete immutable"), "{body}");
        let (status, _, _) =
            cloud.call("PATCH", &url, &cloud.admin, json!({name: {"options": {"immutable": "no"}}})).await;
        assert_eq!(status, 400);
        let back = json!({name: {"options": {"immutable": null}, "enabled": false, "description": "other"}});
        let (_, _, changed) = cloud.ok("PATCH", &url, &cloud.admin, back).await;
        assert_eq!((&changed[name]["options"], &changed[name]["description"]), (&json!({}), &json!("other")));
        cloud.ok("DELETE", &url, &cloud.admin, Value::Null).await;
    }
    let url = format!("/identity/v3/roles/{}", role_id(&cloud, "member").await);
    let (status, _, _) =
        cloud.call("PATCH", &url, &cloud.admin, json!({"role": {"options": {"immutable": false}}})).await;
    assert_eq!(status, 403, "the five are immutable for good");
}

#[tokio::test]
async fn a_users_options_say_how_that_user_logs_in() {
    let cloud = Harness::new().await;
    let user = json!({"name": "ann", "password": "first-password", "options": {"lock_password": true}});
    let (_, _, made) = cloud.ok("POST", "/identity/v3/users", &cloud.admin, json!({"user": user})).await;
    let url = format!("/identity/v3/users/{}", text(&made["user"]["id"]));
    let change = json!({"user": {"original_password": "first-password", "password": "second-password"}});
    let (status, _, body) = cloud.call("POST", &format!("{url}/password"), "", change.clone()).await;
    assert!(status == 400 && text(&body["error"]["message"]).contains("contact your administrator"), "{status} {body}");
    for bad in
        [json!({"lock_password": "yes"}), json!({"lock": true}), json!({"multi_factor_auth_rules": ["password"]})]
    {
        let (status, _, _) = cloud.call("PATCH", &url, &cloud.admin, json!({"user": {"options": bad}})).await;
        assert_eq!(status, 400, "{bad}");
    }
    let login = || password(json!({"id": made["user"]["id"], "password": "first-password"}), Value::Null);
    // Methods that there are not are left out of a rule; of the others all must be shown.
    for (enabled, rules, good) in [
        (true, json!([["password", "totp"]]), true),
        (true, json!([["password", "token"]]), false),
        (true, json!([["password", "token"], ["password"]]), true),
        (false, json!([["password", "token"]]), true),
        (true, json!([]), true),
    ] {
        let options =
            json!({"multi_factor_auth_enabled": enabled, "multi_factor_auth_rules": rules, "lock_password": null});
        let (_, _, changed) = cloud.ok("PATCH", &url, &cloud.admin, json!({"user": {"options": options}})).await;
        assert_eq!(changed["user"]["options"].as_object().unwrap().len(), 2, "{changed}");
        let (status, _, body) = cloud.call("POST", TOKENS, "", login()).await;
        assert_eq!(status, if good { 201 } else { 401 }, "{rules}: {body}");
    }
    let (status, _, body) = cloud.call("POST", &format!("{url}/password"), "", change).await;
    assert_eq!(status, 204, "{body}");
}

#[tokio::test]
async fn malformed_bodies_are_refused_in_words() {
    let cloud = Harness::new().await;
    for (path, body) in [
        ("projects", json!({})),
        ("projects", json!({"project": 7})),
        ("projects", json!({"project": {}})),
        ("projects", json!({"project": {"name": ""}})),
        ("projects", json!({"project": {"name": "x".repeat(65)}})),
        ("projects", json!({"project": {"name": "x", "enabled": "yes"}})),
        ("projects", json!({"project": {"name": "x", "tags": ["a,b"]}})),
        ("users", json!({"user": {"name": ["x"]}})),
        ("users", json!({"user": {"name": "x", "password": 7}})),
        ("roles", json!({"role": {"description": "x"}})),
        ("domains", json!({"domain": {"name": "x", "explicit_domain_id": "../x"}})),
    ] {
        let (status, _, answer) = cloud.call("POST", &format!("/identity/v3/{path}"), &cloud.admin, body.clone()).await;
        assert_eq!((status, &answer["error"]["title"]), (400, &json!("Bad Request")), "{path} {body}");
    }
    let missing = json!({"project": {"name": "x", "domain_id": "nowhere"}});
    assert_eq!(cloud.call("POST", "/identity/v3/projects", &cloud.admin, missing).await.0, 404);
    // What is named in the path stays what it is.
    let own = user_id(&cloud, &cloud.demo).await;
    for (id, expected) in [(json!("other"), 400), (json!(7), 400), (json!(own), 200), (Value::Null, 200)] {
        let (path, change) = (format!("/identity/v3/users/{own}"), json!({"user": {"id": id}}));
        assert_eq!(cloud.call("PATCH", &path, &cloud.admin, change).await.0, expected, "{id}");
    }
    for (filter, expected) in [("gt:2030-01-31T00:00:00Z", 200), ("2030-01-31T00:00:00Z", 400), ("gt:soon", 400)] {
        let path = format!("/identity/v3/users?password_expires_at={filter}");
        let (status, _, found) = cloud.call("GET", &path, &cloud.admin, Value::Null).await;
        assert_eq!(status, expected, "{filter}: {found}");
        assert!(status != 200 || found["users"] == json!([]), "no password expires: {found}");
    }
}

/// A token for a domain, of a new user of it with a role on it.
async fn of_domain(cloud: &Harness, domain: &str, name: &str, role: &str) -> String {
    let body = json!({"user": {"name": name, "password": "p", "domain_id": domain}});
    let (_, _, user) = cloud.ok("POST", "/identity/v3/users", &cloud.admin, body).await;
    let role = role_id(cloud, role).await;
    let grant = format!("/identity/v3/domains/{domain}/users/{}/roles/{role}", text(&user["user"]["id"]));
    cloud.ok("PUT", &grant, &cloud.admin, Value::Null).await;
    let user = gate::NamedRef { id: Some(text(&user["user"]["id"]).into()), ..Default::default() };
    let proof = gate::Proof::Password { user, password: "p".into() };
    let asked = gate::ScopeRequest::Domain(gate::DomainRef { id: Some(domain.into()), name: None });
    cloud.cloud.gate.login(vec![proof], asked, gate::Client::UNKNOWN).await.unwrap().0
}

#[tokio::test]
async fn a_domains_manager_keeps_house_and_stays_in_it() {
    let cloud = Harness::new().await;
    let (_, _, domain) = cloud.ok("POST", "/identity/v3/domains", &cloud.admin, json!({"domain": {"name": "d"}})).await;
    let domain = text(&domain["domain"]["id"]).to_owned();
    let manager = of_domain(&cloud, &domain, "manager", "manager").await;
    let reader = of_domain(&cloud, &domain, "reader", "reader").await;
    let make = async |what: &str, body: Value| {
        let (_, _, made) = cloud.ok("POST", &format!("/identity/v3/{what}s"), &manager, json!({what: body})).await;
        assert_eq!(made[what]["domain_id"], domain.as_str());
        text(&made[what]["id"]).to_owned()
    };
    let user = make("user", json!({"name": "u", "password": "p"})).await;
    let project = make("project", json!({"name": "p"})).await;
    let group = make("group", json!({"name": "g"})).await;
    let roles: Vec<String> = {
        let mut all = Vec::new();
        for name in ["member", "admin", "service"] {
            all.push(role_id(&cloud, name).await);
        }
        all
    };
    let grant = |role: &str| format!("/identity/v3/projects/{project}/users/{user}/roles/{role}");
    cloud.ok("PUT", &grant(&roles[0]), &manager, Value::Null).await;
    for more in &roles[1..] {
        assert_eq!(cloud.call("PUT", &grant(more), &manager, Value::Null).await.0, 403, "no more than what is managed");
    }
    cloud.ok("PUT", &format!("/identity/v3/groups/{group}/users/{user}"), &manager, Value::Null).await;
    let patch = json!({"user": {"password": "other"}});
    cloud.ok("PATCH", &format!("/identity/v3/users/{user}"), &manager, patch.clone()).await;

    // Nothing of another domain, be it there or not.
    let demo = user_id(&cloud, &cloud.demo).await;
    let elsewhere = &cloud.demo_project;
    for (method, path, body) in [
        ("GET", format!("/users/{demo}"), Value::Null),
        ("GET", "/users/none".to_owned(), Value::Null),
        ("PATCH", format!("/users/{demo}"), patch.clone()),
        ("DELETE", format!("/users/{demo}"), Value::Null),
        ("POST", "/users".to_owned(), json!({"user": {"name": "x", "domain_id": "default"}})),
        ("POST", "/projects".to_owned(), json!({"project": {"name": "x", "domain_id": "default"}})),
        ("POST", "/projects".to_owned(), json!({"project": {"name": "x", "parent_id": elsewhere}})),
        ("GET", format!("/projects/{elsewhere}"), Value::Null),
        ("PATCH", format!("/projects/{elsewhere}"), json!({"project": {"enabled": false}})),
        ("DELETE", format!("/projects/{elsewhere}"), Value::Null),
        ("PUT", format!("/projects/{elsewhere}/users/{user}/roles/{}", roles[0]), Value::Null),
        ("PUT", format!("/projects/{project}/users/{demo}/roles/{}", roles[0]), Value::Null),
        ("PUT", format!("/domains/default/users/{user}/roles/{}", roles[0]), Value::Null),
        ("PUT", format!("/system/users/{user}/roles/{}", roles[0]), Value::Null),
        ("PUT", format!("/groups/{group}/users/{demo}"), Value::Null),
        ("PATCH", format!("/domains/{domain}"), json!({"domain": {"name": "mine"}})),
        ("POST", "/domains".to_owned(), json!({"domain": {"name": "x"}})),
        ("POST", "/roles".to_owned(), json!({"role": {"name": "x"}})),
        ("GET", "/domains".to_owned(), Value::Null),
        ("GET", format!("/users/{user}/application_credentials"), Value::Null),
    ] {
        let (status, _, answer) = cloud.call(method, &format!("/identity/v3{path}"), &manager, body).await;
        assert_eq!(status, 403, "{method} {path}: {answer}");
    }
    for (list, count) in [("users", 3), ("projects", 1), ("groups", 1), ("role_assignments", 3)] {
        for token in [&manager, &reader] {
            let (_, _, all) = cloud.ok("GET", &format!("/identity/v3/{list}"), token, Value::Null).await;
            assert_eq!(all[list].as_array().unwrap().len(), count, "{list}: {all}");
        }
    }
    for (method, path) in [("DELETE", format!("/users/{user}")), ("DELETE", format!("/projects/{project}"))] {
        assert_eq!(cloud.call(method, &format!("/identity/v3{path}"), &reader, Value::Null).await.0, 403);
    }

    // Nor who is lent more.
    let admin = user_id(&cloud, &cloud.admin).await;
    for (role, impersonation) in [("admin", false), ("reader", true)] {
        let trust = json!({"trust": {"trustor_user_id": admin, "trustee_user_id": user, "impersonation": impersonation,
            "project_id": cloud.admin_project, "roles": [{"name": role}]}});
        let (_, _, lent) = cloud.ok("POST", "/identity/v3/OS-TRUST/trusts", &cloud.admin, trust).await;
        let path = format!("/identity/v3/users/{user}");
        assert_eq!(cloud.call("PATCH", &path, &manager, patch.clone()).await.0, 403, "{role}");
        let trust = format!("/identity/v3/OS-TRUST/trusts/{}", text(&lent["trust"]["id"]));
        cloud.ok("DELETE", &trust, &cloud.admin, Value::Null).await;
        cloud.ok("PATCH", &path, &manager, patch.clone()).await;
    }

    // Who has more than a manager gives is not theirs: its password would be a way up.
    for (what, id) in [("users", &user), ("groups", &group)] {
        let grant = format!("/identity/v3/projects/{elsewhere}/{what}/{id}/roles/{}", roles[1]);
        cloud.ok("PUT", &grant, &cloud.admin, Value::Null).await;
        assert_eq!(cloud.call("PATCH", &format!("/identity/v3/users/{user}"), &manager, patch.clone()).await.0, 403);
        cloud.ok("DELETE", &grant, &cloud.admin, Value::Null).await;
    }
    let grant = format!("/identity/v3/projects/{elsewhere}/groups/{group}/roles/{}", roles[1]);
    cloud.ok("PUT", &grant, &cloud.admin, Value::Null).await;
    let join = format!("/identity/v3/groups/{group}/users/{user}");
    assert_eq!(cloud.call("PUT", &join, &manager, Value::Null).await.0, 403);
    cloud.ok("DELETE", &grant, &cloud.admin, Value::Null).await;
    cloud.ok("DELETE", &format!("/identity/v3/users/{user}"), &manager, Value::Null).await;
}
