//! Keystone's trusts: what is lent, to whom, and when it ends.

mod common;

use common::{DEMO_PASSWORD, Harness, text};
use serde_json::{Value, json};

const TRUSTS: &str = "/identity/v3/OS-TRUST/trusts";
const TOKENS: &str = "/identity/v3/auth/tokens";
const SERVERS: &str = "/compute/v2.1/servers";

async fn user_id(cloud: &Harness, token: &str) -> String {
    cloud.cloud.gate.inspect(token).await.unwrap().user_id
}

/// `demo`, who lends, and two others.
struct World {
    cloud: Harness,
    demo: String,
    helper: String,
    helper_token: String,
    other: String,
    other_token: String,
}

impl World {
    async fn new() -> Self {
        let cloud = Harness::new().await;
        let (helper_token, other_token) =
            (cloud.tenant("helper", "member").await, cloud.tenant("other", "member").await);
        let demo = user_id(&cloud, &cloud.demo).await;
        let (helper, other) = (user_id(&cloud, &helper_token).await, user_id(&cloud, &other_token).await);
        Self { cloud, demo, helper, helper_token, other, other_token }
    }

    /// A trust of `demo` for `helper`, with these fields besides.
    fn body(&self, more: Value) -> Value {
        let mut trust = json!({"trustor_user_id": self.demo, "trustee_user_id": self.helper, "impersonation": true,
            "project_id": self.cloud.demo_project, "roles": [{"name": "member"}]});
        trust.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"trust": trust})
    }

    async fn trust(&self, more: Value) -> String {
        let (_, _, made) = self.cloud.ok("POST", TRUSTS, &self.cloud.demo, self.body(more)).await;
        text(&made["trust"]["id"]).to_owned()
    }

    async fn login(&self, name: &str, scope: Value) -> (u16, String, Value) {
        let password = if name == "demo" { DEMO_PASSWORD } else { name };
        let user = json!({"name": name, "password": password, "domain": {"id": "default"}});
        let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}});
        let (status, headers, body) = self.cloud.call("POST", TOKENS, "", body).await;
        let token = headers.get("x-subject-token").map_or("", |t| t.to_str().unwrap());
        (status, token.to_owned(), body)
    }

    async fn by(&self, name: &str, trust: &str) -> (u16, String, Value) {
        self.login(name, json!({"OS-TRUST:trust": {"id": trust}})).await
    }

    async fn role(&self, method: &str, role: &str) {
        let (_, _, roles) =
            self.cloud.ok("GET", &format!("/identity/v3/roles?name={role}"), &self.cloud.admin, Value::Null).await;
        let role = text(&roles["roles"][0]["id"]).to_owned();
        let path = format!("/identity/v3/projects/{}/users/{}/roles/{role}", self.cloud.demo_project, self.demo);
        self.cloud.ok(method, &path, &self.cloud.admin, Value::Null).await;
    }
}

#[tokio::test]
async fn a_trust_lends_roles_and_a_name() {
    let world = World::new().await;
    let cloud = &world.cloud;
    let trust = world.trust(json!({"roles": [{"name": "reader"}], "expires_at": "2099-01-01T00:00:00.000000Z"})).await;
    let path = format!("{TRUSTS}/{trust}");
    let (_, _, shown) = cloud.ok("GET", &path, &world.helper_token, Value::Null).await;
    let shown = &shown["trust"];
    assert_eq!((text(&shown["expires_at"]), &shown["redelegation_count"]), ("2099-01-01T00:00:00.000000Z", &json!(0)));
    assert_eq!((&shown["roles"][0]["name"], &shown["deleted_at"]), (&json!("reader"), &Value::Null));
    let (_, _, roles) = cloud.ok("GET", &format!("{path}/roles"), &cloud.demo, Value::Null).await;
    let role = format!("{path}/roles/{}", text(&roles["roles"][0]["id"]));
    cloud.ok("GET", &role, &cloud.demo, Value::Null).await;
    assert_eq!(cloud.call("GET", &format!("{path}/roles/x"), &cloud.demo, Value::Null).await.0, 404);

    let (status, token, answer) = world.by("helper", &trust).await;
    assert_eq!(status, 201, "{answer}");
    let answer = &answer["token"];
    assert_eq!((&answer["user"]["id"], &answer["project"]["id"]), (&json!(world.demo), &json!(cloud.demo_project)));
    assert_eq!(answer["roles"].as_array().unwrap().len(), 1);
    let is = json!({"id": trust, "impersonation": true, "trustor_user": {"id": world.demo},
        "trustee_user": {"id": world.helper}});
    assert_eq!(answer["OS-TRUST:trust"], is);
    cloud.ok("GET", SERVERS, &token, Value::Null).await;
    assert_eq!(cloud.call("POST", SERVERS, &token, json!({"server": {}})).await.0, 403, "a reader's");
    // Under the own name.
    let plain = world.trust(json!({"impersonation": false})).await;
    let (_, plain_token, answer) = world.by("helper", &plain).await;
    assert_eq!(
        (&answer["token"]["user"]["id"], &answer["token"]["roles"][0]["name"]),
        (&json!(world.helper), &json!("member"))
    );
    cloud.ok("GET", SERVERS, &plain_token, Value::Null).await;
    // Without a project there is only the name.
    let name = world.trust(json!({"project_id": null, "roles": []})).await;
    let (status, _, answer) = world.by("helper", &name).await;
    assert_eq!((status, &answer["token"]["user"]["id"], answer["token"].get("roles")), (201, &json!(world.demo), None));

    // Nobody else uses it, sees it or takes it away.
    assert_eq!(world.by("other", &trust).await.0, 403);
    assert_eq!(world.by("helper", "no-such").await.0, 403);
    for method in ["GET", "DELETE"] {
        assert_eq!(cloud.call(method, &path, &world.other_token, Value::Null).await.0, 404);
    }
    assert_eq!(cloud.call("DELETE", &path, &world.helper_token, Value::Null).await.0, 403);
    let count = async |query: &str, token: &str| {
        let (status, _, all) = cloud.call("GET", &format!("{TRUSTS}{query}"), token, Value::Null).await;
        (status, all["trusts"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(count(&format!("?trustor_user_id={}", world.demo), &cloud.demo).await, (200, 3));
    assert_eq!(count(&format!("?trustee_user_id={}", world.helper), &world.helper_token).await, (200, 3));
    assert_eq!(count(&format!("?trustor_user_id={}", world.demo), &world.helper_token).await, (403, 0));
    assert_eq!(count("", &cloud.demo).await, (403, 0));
    assert_eq!(count("", &cloud.admin).await, (200, 3));
    cloud.ok("DELETE", &path, &cloud.demo, Value::Null).await;
    assert_eq!(cloud.call("GET", SERVERS, &token, Value::Null).await.0, 401);
    cloud.ok("GET", SERVERS, &plain_token, Value::Null).await;
}

#[tokio::test]
async fn a_trust_ends_with_what_it_lends() {
    let world = World::new().await;
    let cloud = &world.cloud;
    world.role("PUT", "manager").await;
    let wide = world.trust(json!({"roles": [{"name": "member"}, {"name": "manager"}]})).await;
    let trust = world.trust(json!({})).await;
    let (_, wide_token, _) = world.by("helper", &wide).await;
    let (_, token, _) = world.by("helper", &trust).await;
    world.role("DELETE", "manager").await;
    assert_eq!(cloud.call("GET", SERVERS, &wide_token, Value::Null).await.0, 401, "one of its roles is gone");
    assert_eq!(world.by("helper", &wide).await.0, 401);
    cloud.ok("GET", SERVERS, &token, Value::Null).await;
    // Nor does it outlive one of the two.
    let enable = async |user: &str, enabled: bool| {
        let body = json!({"user": {"enabled": enabled}});
        cloud.ok("PATCH", &format!("/identity/v3/users/{user}"), &cloud.admin, body).await;
    };
    enable(&world.demo, false).await;
    assert_eq!(cloud.call("GET", SERVERS, &token, Value::Null).await.0, 401);
    assert_eq!(world.by("helper", &trust).await.0, 401);
    enable(&world.demo, true).await;
    assert_eq!(cloud.call("GET", SERVERS, &token, Value::Null).await.0, 401, "tokens do not come back");
    let (status, token, _) = world.by("helper", &trust).await;
    assert_eq!(status, 201);
    enable(&world.helper, false).await;
    assert_eq!(cloud.call("GET", SERVERS, &token, Value::Null).await.0, 401);
    cloud.ok("DELETE", &format!("/identity/v3/users/{}", world.helper), &cloud.admin, Value::Null).await;
    assert_eq!(cloud.cloud.store.snapshot().all::<model::Trust>().count(), 0);
}

#[tokio::test]
async fn uses_are_counted() {
    let world = World::new().await;
    let trust = world.trust(json!({"remaining_uses": 2})).await;
    let both = tokio::join!(world.by("helper", &trust), world.by("helper", &trust), world.by("helper", &trust));
    let mut all = [both.0.0, both.1.0, both.2.0];
    all.sort_unstable();
    assert_eq!(all, [201, 201, 403]);
    let path = format!("{TRUSTS}/{trust}");
    let (_, _, shown) = world.cloud.ok("GET", &path, &world.cloud.demo, Value::Null).await;
    assert_eq!(shown["trust"]["remaining_uses"], 0);
}

#[tokio::test]
async fn what_a_trust_opens_opens_nothing_more() {
    let world = World::new().await;
    let cloud = &world.cloud;
    let own = format!("/identity/v3/users/{}", world.demo);
    let app = json!({"application_credential": {"name": "mine"}});
    cloud.ok("POST", &format!("{own}/application_credentials"), &cloud.demo, app).await;
    let trust = world.trust(json!({})).await;
    let kept = world.trust(json!({})).await;
    let (_, token, _) = world.by("helper", &trust).await;
    let credential = json!({"credential": {"user_id": world.demo, "type": "x", "blob": "x"}});
    for (method, path, body) in [
        ("POST", TRUSTS.to_owned(), world.body(json!({}))),
        ("DELETE", format!("{TRUSTS}/{kept}"), Value::Null),
        ("POST", format!("{own}/application_credentials"), json!({"application_credential": {"name": "x"}})),
        ("POST", "/identity/v3/credentials".to_owned(), credential),
        ("GET", "/identity/v3/credentials".to_owned(), Value::Null),
        ("POST", format!("{own}/credentials/OS-EC2"), json!({"tenant_id": cloud.demo_project})),
        ("GET", format!("{own}/credentials/OS-EC2"), Value::Null),
    ] {
        let (status, _, answer) = cloud.call(method, &path, &token, body).await;
        assert_eq!(status, 403, "{method} {path} {answer}");
    }
    let again = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": token}}}});
    assert_eq!(cloud.call("POST", TOKENS, "", again).await.0, 403);
    let both = json!({"OS-TRUST:trust": {"id": trust}, "project": {"id": cloud.demo_project}});
    assert_eq!(world.login("helper", both).await.0, 400);
    cloud.ok("DELETE", &format!("{TRUSTS}/{trust}"), &token, Value::Null).await;
}

#[tokio::test]
async fn trusts_that_cannot_be_given_are_refused() {
    let world = World::new().await;
    let cloud = &world.cloud;
    for (status, words, more) in [
        (403, "should match the trustor", json!({"trustor_user_id": world.helper})),
        (404, "user", json!({"trustee_user_id": "nobody"})),
        (404, "role: admin", json!({"roles": [{"name": "admin"}]})),
        (404, "project", json!({"project_id": cloud.admin_project})),
        (404, "role: member", json!({"project_id": null})),
        (403, "At least one role", json!({"roles": []})),
        (400, "remaining_uses", json!({"remaining_uses": 0})),
        (400, "remaining_uses", json!({"remaining_uses": 1, "allow_redelegation": true})),
        (403, "greater than allowed 3", json!({"allow_redelegation": true, "redelegation_count": 4})),
        (400, "in the past", json!({"expires_at": "2001-01-01T00:00:00Z"})),
        (400, "'colour' is unknown", json!({"colour": "red"})),
    ] {
        let (is, _, answer) = cloud.call("POST", TRUSTS, &cloud.demo, world.body(more)).await;
        let shown = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(is == status && shown.contains(words), "{status} {words}: {is} {answer}");
    }
    let mut row = model::Trust {
        id: String::new(),
        trustor_user_id: world.demo.clone(),
        trustee_user_id: world.helper.clone(),
        project_id: None,
        impersonation: false,
        role_ids: Vec::new(),
        expires_at: Some("2001-01-01T00:00:00Z".parse().unwrap()),
        remaining_uses: None,
        redelegation_count: 0,
        redelegated_trust_id: None,
        place: 0,
    };
    let mut change = model::Change::new();
    for place in 0..model::Trust::MOST {
        (row.id, row.place) = (format!("t{place}"), place);
        row.expires_at = row.expires_at.filter(|_| place < 10);
        change.create(row.clone());
    }
    cloud.cloud.store.commit(&change).await.unwrap();
    assert_eq!(world.by("helper", "t0").await.0, 401, "it has ended");
    assert_eq!(cloud.call("POST", TRUSTS, &cloud.demo, world.body(json!({}))).await.0, 201, "what ended makes room");
    for _ in 1..10 {
        world.trust(json!({})).await;
    }
    let (status, _, answer) = cloud.call("POST", TRUSTS, &cloud.demo, world.body(json!({}))).await;
    assert_eq!(status, 403, "{answer}");
}

#[tokio::test]
async fn a_trust_is_lent_on_as_far_as_it_says() {
    let world = World::new().await;
    let cloud = &world.cloud;
    let end = "2099-01-01T00:00:00.000000Z";
    let first = world
        .trust(json!({"allow_redelegation": true, "redelegation_count": 1, "impersonation": false, "expires_at": end}))
        .await;
    let (_, token, _) = world.by("helper", &first).await;
    let on = |more: Value| {
        let mut body = world.body(json!({"trustor_user_id": world.helper, "trustee_user_id": world.other,
            "impersonation": false}));
        body["trust"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for more in [
        json!({"impersonation": true}),
        json!({"allow_redelegation": true, "redelegation_count": 1}),
        json!({"remaining_uses": 1}),
        json!({"expires_at": "2099-01-02T00:00:00Z"}),
        json!({"project_id": null, "roles": []}),
    ] {
        let (status, _, answer) = cloud.call("POST", TRUSTS, &token, on(more.clone())).await;
        assert_eq!(status, 403, "{more} {answer}");
    }
    let own = cloud.project_of(&world.helper_token).await;
    assert_eq!(cloud.call("POST", TRUSTS, &token, on(json!({"project_id": own}))).await.0, 404, "not by this token");
    let (_, _, second) = cloud.ok("POST", TRUSTS, &token, on(json!({}))).await;
    let second = &second["trust"];
    assert_eq!((&second["redelegated_trust_id"], text(&second["expires_at"])), (&json!(first), end));
    assert_eq!(second["redelegation_count"], 0);
    let (status, lent, _) = world.by("other", text(&second["id"])).await;
    assert_eq!(status, 201);
    cloud.ok("GET", SERVERS, &lent, Value::Null).await;
    let further = world.body(json!({"trustor_user_id": world.other, "impersonation": false}));
    assert_eq!(cloud.call("POST", TRUSTS, &lent, further).await.0, 403);
    // It is the first one's roles that count, and the first trust.
    world.role("DELETE", "member").await;
    assert_eq!(cloud.call("GET", SERVERS, &lent, Value::Null).await.0, 401);
    world.role("PUT", "member").await;
    cloud.ok("GET", SERVERS, &lent, Value::Null).await;
    cloud.ok("DELETE", &format!("{TRUSTS}/{first}"), &cloud.demo, Value::Null).await;
    assert_eq!(cloud.call("GET", SERVERS, &lent, Value::Null).await.0, 401);
    assert_eq!(cloud.cloud.store.snapshot().all::<model::Trust>().count(), 0);
}
