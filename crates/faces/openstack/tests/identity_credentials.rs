//! Keystone's credentials: secrets of users, EC2's among them, whom they show themselves to and what they open.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Harness, text};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

const CREDENTIALS: &str = "/identity/v3/credentials";

async fn user_id(cloud: &Harness, token: &str) -> String {
    cloud.cloud.gate.inspect(token).await.unwrap().user_id
}

/// A token of a new application credential of the token's user.
async fn robot(cloud: &Harness, token: &str, unrestricted: bool) -> (String, String) {
    let user = user_id(cloud, token).await;
    let path = format!("/identity/v3/users/{user}/application_credentials");
    let body = json!({"application_credential": {"name": format!("r{unrestricted}"), "unrestricted": unrestricted,
        "roles": [{"name": "reader"}]}});
    let (_, _, made) = cloud.ok("POST", &path, token, body).await;
    let made = &made["application_credential"];
    let body = json!({"auth": {"identity": {"methods": ["application_credential"],
        "application_credential": {"id": made["id"], "secret": made["secret"]}}}});
    let (_, headers, _) = cloud.ok("POST", "/identity/v3/auth/tokens", "", body).await;
    (headers["x-subject-token"].to_str().unwrap().to_owned(), format!("{path}/{}", text(&made["id"])))
}

/// A request that is signed by version 2.
fn signed(access: &str, secret: &str, action: &str) -> Value {
    let now = model::seconds(model::Time::now());
    let query = format!(
        "AWSAccessKeyId={access}&Action={action}&SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp={}",
        now.replace(':', "%3A")
    );
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("GET\nec2.example\n/services/Cloud\n{query}").as_bytes());
    json!({"credentials": {"access": access, "signature": STANDARD.encode(mac.finalize().into_bytes()),
        "host": "ec2.example:8773", "verb": "GET", "path": "/services/Cloud", "params": {"AWSAccessKeyId": access,
        "Action": action, "SignatureMethod": "HmacSHA256", "SignatureVersion": "2", "Timestamp": now}}})
}

#[tokio::test]
async fn a_credential_is_its_users() {
    let cloud = Harness::new().await;
    let stranger = cloud.tenant("stranger", "manager").await;
    let demo = user_id(&cloud, &cloud.demo).await;
    let body = json!({"credential": {"user_id": demo, "type": "totp", "blob": "GEZDGNBVGY3TQOJQ", "note": "phone"}});
    let (status, _, made) = cloud.call("POST", CREDENTIALS, &cloud.demo, body.clone()).await;
    assert_eq!((status, &made["credential"]["note"]), (201, &json!("phone")), "{made}");
    let path = format!("{CREDENTIALS}/{}", text(&made["credential"]["id"]));
    let (_, _, shown) = cloud.ok("GET", &path, &cloud.demo, Value::Null).await;
    assert_eq!(shown, made);
    let count = async |token: &str, query: &str| {
        let (_, _, all) = cloud.ok("GET", &format!("{CREDENTIALS}{query}"), token, Value::Null).await;
        all["credentials"].as_array().unwrap().len()
    };
    assert_eq!((count(&cloud.demo, "").await, count(&cloud.demo, "?type=ec2").await), (1, 0));
    assert_eq!((count(&cloud.admin, &format!("?user_id={demo}")).await, count(&stranger, "").await), (1, 0));
    assert_eq!(cloud.call("POST", CREDENTIALS, &stranger, body).await.0, 403);
    let change = json!({"credential": {"blob": "ONE", "note": null}});
    for (method, body) in [("GET", Value::Null), ("PATCH", change.clone()), ("DELETE", Value::Null)] {
        assert_eq!(cloud.call(method, &path, &stranger, body).await.0, 404, "{method}");
    }
    let (_, _, changed) = cloud.ok("PATCH", &path, &cloud.demo, change).await;
    assert_eq!((&changed["credential"]["blob"], &changed["credential"]["type"]), (&json!("ONE"), &json!("totp")));
    // To somebody else it goes by an administrator only.
    let give = json!({"credential": {"user_id": user_id(&cloud, &stranger).await}});
    assert_eq!(cloud.call("PATCH", &path, &cloud.demo, give.clone()).await.0, 403);
    cloud.ok("PATCH", &path, &cloud.admin, give).await;
    assert_eq!((count(&cloud.demo, "").await, count(&stranger, "").await), (0, 1));
    // Nothing of it is in what a log could show.
    let snapshot = cloud.cloud.store.snapshot();
    let row = snapshot.all::<model::Credential>().next().unwrap();
    assert!(!format!("{:?}", row.value).contains("ONE"));
    let path = format!("/identity/v3/users/{}", user_id(&cloud, &stranger).await);
    cloud.ok("DELETE", &path, &cloud.admin, Value::Null).await;
    assert_eq!(cloud.cloud.store.snapshot().all::<model::Credential>().count(), 0);
}

#[tokio::test]
async fn credentials_that_make_no_sense_are_refused_in_words() {
    let cloud = Harness::new().await;
    let (demo, project) = (user_id(&cloud, &cloud.demo).await, &cloud.demo_project);
    let keys = json!({"access": "AK", "secret": "S"}).to_string();
    for (status, words, fields) in [
        (400, "'blob' is a required", json!({"type": "x"})),
        (400, "'type' is a required", json!({"blob": "x"})),
        (400, "'project_id' is a required", json!({"type": "ec2", "blob": keys})),
        (400, "Invalid blob", json!({"type": "ec2", "blob": "x", "project_id": project})),
        (400, "Invalid blob", json!({"type": "ec2", "blob": "{\"access\": \"a\"}", "project_id": project})),
        (404, "project", json!({"type": "ec2", "blob": keys, "project_id": cloud.admin_project})),
        (404, "project", json!({"type": "x", "blob": "x", "project_id": "nowhere"})),
        (400, "longer than", json!({"type": "x", "blob": "x".repeat(17_000)})),
        (400, "longer than", json!({"type": "x", "blob": "x", "more": "x".repeat(17_000)})),
        (400, "it must have", json!({"type": "x".repeat(256), "blob": "x"})),
    ] {
        let mut fields = fields;
        fields["user_id"] = json!(demo);
        let (is, _, answer) = cloud.call("POST", CREDENTIALS, &cloud.demo, json!({"credential": fields})).await;
        let shown = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(is == status && shown.contains(words), "{status} {words}: {is} {answer}");
    }
    let ec2 = json!({"credential": {"user_id": demo, "type": "ec2", "blob": keys, "project_id": project}});
    let (_, _, made) = cloud.ok("POST", CREDENTIALS, &cloud.demo, ec2.clone()).await;
    assert_eq!(cloud.call("POST", CREDENTIALS, &cloud.demo, ec2).await.0, 409);
    let path = format!("{CREDENTIALS}/{}", text(&made["credential"]["id"]));
    // A key that is somebody's cannot be taken, by whatever change.
    let stranger = cloud.tenant("stranger", "member").await;
    let own = json!({"user_id": user_id(&cloud, &stranger).await, "type": "x", "blob": keys,
        "project_id": cloud.project_of(&stranger).await});
    let (_, _, theirs) = cloud.ok("POST", CREDENTIALS, &stranger, json!({"credential": own})).await;
    let theirs = format!("{CREDENTIALS}/{}", text(&theirs["credential"]["id"]));
    let as_ec2 = json!({"credential": {"type": "ec2"}});
    assert_eq!(cloud.call("PATCH", &theirs, &stranger, as_ec2).await.0, 409);
    // As many as there may be, the one that is there counted.
    let one = json!({"credential": {"user_id": demo, "type": "x", "blob": "x"}});
    for _ in 1..model::Credential::MOST {
        cloud.ok("POST", CREDENTIALS, &cloud.demo, one.clone()).await;
    }
    let (status, _, answer) = cloud.call("POST", CREDENTIALS, &cloud.demo, one.clone()).await;
    assert_eq!(status, 403, "{answer}");
    cloud.ok("DELETE", &path, &cloud.demo, Value::Null).await;
    cloud.ok("POST", CREDENTIALS, &cloud.demo, one).await;
}

#[tokio::test]
async fn a_signed_request_is_worth_a_token_to_services() {
    let cloud = Harness::new().await;
    let stranger = cloud.tenant("stranger", "member").await;
    let demo = user_id(&cloud, &cloud.demo).await;
    let own = format!("/identity/v3/users/{demo}/credentials/OS-EC2");
    let wanted = json!({"tenant_id": cloud.demo_project});
    let elsewhere = json!({"tenant_id": cloud.admin_project});
    assert_eq!(cloud.call("POST", &own, &cloud.demo, elsewhere).await.0, 404);
    assert_eq!(cloud.call("POST", &own, &stranger, wanted.clone()).await.0, 403);
    let (_, _, made) = cloud.ok("POST", &own, &cloud.demo, wanted).await;
    let (access, secret) = (text(&made["credential"]["access"]), text(&made["credential"]["secret"]));
    let path = format!("{own}/{access}");
    let (_, _, shown) = cloud.ok("GET", &path, &cloud.demo, Value::Null).await;
    assert_eq!(shown, made);
    assert_eq!(cloud.call("GET", &path, &stranger, Value::Null).await.0, 403);
    let (_, _, all) = cloud.ok("GET", CREDENTIALS, &cloud.demo, Value::Null).await;
    assert_eq!(all["credentials"][0]["type"], "ec2");

    let ask = async |token: &str, body: Value| cloud.call("POST", "/identity/v3/ec2tokens", token, body).await;
    assert_eq!(ask(&cloud.demo, signed(access, secret, "Run")).await.0, 403, "who is no service");
    assert_eq!(ask("", signed(access, secret, "Run")).await.0, 401);
    let (status, headers, answer) = ask(&cloud.admin, signed(access, secret, "Run")).await;
    assert_eq!((status, &answer["token"]["methods"]), (200, &json!(["ec2credential"])), "{answer}");
    assert_eq!(answer["token"]["project"]["id"], json!(cloud.demo_project));
    let token = headers["x-subject-token"].to_str().unwrap();
    cloud.ok("GET", "/compute/v2.1/servers", token, Value::Null).await;
    let mut forged = signed(access, secret, "Run");
    forged["credentials"]["params"]["Action"] = json!("Terminate");
    assert_eq!(ask(&cloud.admin, forged).await.0, 401);
    assert_eq!(ask(&cloud.admin, signed(access, "wrong", "Run")).await.0, 401);
    assert_eq!(ask(&cloud.admin, signed("nobody", secret, "Run")).await.0, 401);
    // With new keys it is opened by those alone.
    let by_id = format!("{CREDENTIALS}/{}", text(&all["credentials"][0]["id"]));
    let keys = json!({"credential": {"blob": json!({"access": "new", "secret": "keys"}).to_string()}});
    cloud.ok("PATCH", &by_id, &cloud.demo, keys).await;
    assert_eq!(ask(&cloud.admin, signed(access, secret, "Run")).await.0, 401);
    assert_eq!(ask(&cloud.admin, signed("new", "keys", "Run")).await.0, 200);
    assert_eq!(cloud.call("GET", &path, &cloud.demo, Value::Null).await.0, 404);
    let path = format!("{own}/new");
    cloud.ok("DELETE", &path, &cloud.demo, Value::Null).await;
    assert_eq!(ask(&cloud.admin, signed("new", "keys", "Run")).await.0, 401);
    assert_eq!(cloud.call("DELETE", &path, &cloud.demo, Value::Null).await.0, 404);
}

#[tokio::test]
async fn an_application_credential_gets_no_further_by_ec2() {
    let cloud = Harness::new().await;
    let demo = user_id(&cloud, &cloud.demo).await;
    let own = format!("/identity/v3/users/{demo}/credentials/OS-EC2");
    let wanted = json!({"tenant_id": cloud.demo_project});
    let (_, _, users) = cloud.ok("POST", &own, &cloud.demo, wanted.clone()).await;
    let (restricted, _) = robot(&cloud, &cloud.demo, false).await;
    let (free, free_path) = robot(&cloud, &cloud.demo, true).await;
    let credential = json!({"credential": {"user_id": demo, "type": "x", "blob": "x"}});
    for (method, path, body) in [
        ("POST", own.as_str(), wanted.clone()),
        ("GET", &own, Value::Null),
        ("POST", CREDENTIALS, credential),
        ("GET", CREDENTIALS, Value::Null),
    ] {
        assert_eq!(cloud.call(method, path, &restricted, body).await.0, 403, "{method} {path}");
    }
    // What its user made it does not see; what it makes has its roles and goes with it.
    let theirs = format!("{own}/{}", text(&users["credential"]["access"]));
    assert_eq!(cloud.call("GET", &theirs, &free, Value::Null).await.0, 404);
    let (_, _, made) = cloud.ok("POST", &own, &free, wanted).await;
    let (access, secret) = (text(&made["credential"]["access"]), text(&made["credential"]["secret"]));
    let (_, _, all) = cloud.ok("GET", &own, &free, Value::Null).await;
    assert_eq!(all["credentials"].as_array().unwrap().len(), 1, "{all}");
    let ask = async || cloud.call("POST", "/identity/v3/ec2tokens", &cloud.admin, signed(access, secret, "Run")).await;
    let (status, _, answer) = ask().await;
    assert_eq!((status, answer["token"]["roles"].as_array().map(Vec::len)), (200, Some(1)), "{answer}");
    assert_eq!(answer["token"]["roles"][0]["name"], "reader");
    cloud.ok("DELETE", &free_path, &cloud.demo, Value::Null).await;
    assert_eq!(ask().await.0, 401);
    let (_, _, all) = cloud.ok("GET", &own, &cloud.demo, Value::Null).await;
    assert_eq!(all["credentials"].as_array().unwrap().len(), 1, "{all}");
}
