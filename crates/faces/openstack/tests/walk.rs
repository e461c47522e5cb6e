//! Walks the tables of all services: without credentials nothing answers but what is public, and with another project's
//! credentials nothing of a project can be reached. New endpoints are covered as soon as they stand in a table.

mod common;
#[path = "common/cloud.rs"]
mod rows;
#[path = "common/walking.rs"]
mod walking;

use common::Harness;
use face_openstack::access::Access;
use face_openstack::dispatch::Served;
use face_openstack::service::Endpoint;
use http::Method;
use model::{Change, Kind, RbacAction, RbacPolicy, Realm};
use serde_json::{Value, json};
use walking::{RESOURCES, fill_project, kind_of, version_for};

/// The endpoint's path with every parameter replaced by the id of something of the victim's, or by a random one; and
/// whether one of them is the victim's.
fn fill(cloud: &Harness, service: &Served, endpoint: &Endpoint) -> (String, bool) {
    let snapshot = cloud.cloud.store.snapshot();
    let victim = Realm::project(&cloud.demo_project);
    let (mut parts, mut theirs): (Vec<String>, bool) = (Vec::new(), false);
    for part in endpoint.path.split('/') {
        if !part.starts_with('{') {
            parts.push(part.to_owned());
            continue;
        }
        let kind = parts.last().and_then(|collection| kind_of(collection));
        let own = match kind {
            Some(Kind::Project) => Some(cloud.demo_project.clone()),
            Some(Kind::User) => {
                snapshot.all::<model::User>().find(|user| user.value.name == "demo").map(|user| user.id.clone())
            }
            Some(kind) => {
                let mut rows = snapshot.rows().filter(|row| row.key.kind == kind && row.key.realm == victim);
                rows.next().map(|row| row.key.name.to_string())
            }
            None => None,
        };
        theirs |= own.is_some();
        parts.push(own.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()));
    }
    (format!("{}{}", service.prefix, parts.join("/")), theirs)
}

/// A body that gets as far as an empty one of its resource can.
fn body_for(endpoint: &Endpoint) -> Value {
    if matches!(endpoint.method, Method::GET | Method::HEAD | Method::DELETE) {
        return Value::Null;
    }
    if endpoint.path.ends_with("/action") {
        return json!({"reboot": {"type": "HARD"}});
    }
    // Nova's view of security groups wants to be told what they are for.
    let body = |path: &str| match path.contains("os-security-groups") {
        true => json!({"name": "walker", "description": ""}),
        false => json!({"name": "walker"}),
    };
    RESOURCES.iter().map(|name| (name.clone(), body(endpoint.path))).collect()
}

async fn call(cloud: &Harness, service: &Served, endpoint: &Endpoint, path: &str, token: &str) -> (u16, Value) {
    let headers = version_for(service, endpoint);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = cloud.call_with(endpoint.method.as_str(), path, token, &headers, body_for(endpoint)).await;
    (answer.0, answer.2)
}

#[tokio::test]
async fn without_credentials_only_public_endpoints_answer() {
    let cloud = Harness::new().await;
    fill_project(&cloud).await;
    let face = cloud.face.clone();
    for service in face.services() {
        for endpoint in &service.endpoints {
            let (path, _) = fill(&cloud, service, endpoint);
            for token in ["", "nonsense", &cloud.demo[..cloud.demo.len() - 2]] {
                let (status, body) = call(&cloud, service, endpoint, &path, token).await;
                let what = format!("{} {path}: {status} {body}", endpoint.method);
                if endpoint.access == Access::Public {
                    assert!(status < 500, "{what}");
                } else {
                    assert_eq!(status, 401, "{what}");
                }
            }
        }
        let unknown = format!("{}/no/such/path", service.prefix);
        assert_eq!(cloud.call("GET", &unknown, "", Value::Null).await.0, 401, "{unknown}");
    }
}

#[tokio::test]
async fn nothing_of_another_project_can_be_reached() {
    let cloud = Harness::new().await;
    fill_project(&cloud).await;
    let stranger = cloud.tenant("stranger", "member").await;
    let before = cloud.cloud.store.snapshot();
    let face = cloud.face.clone();
    let (mut reached, mut tried) = (Vec::new(), 0);
    for service in face.services() {
        for endpoint in service.endpoints.iter().filter(|e| e.access != Access::Public) {
            let (path, theirs) = fill(&cloud, service, endpoint);
            if !theirs {
                continue;
            }
            tried += 1;
            let (status, body) = call(&cloud, service, endpoint, &path, &stranger).await;
            if !matches!(status, 400 | 403 | 404 | 405 | 409 | 410 | 415) {
                reached.push(format!("{} {path}: {status} {body}", endpoint.method));
            }
        }
    }
    assert!(reached.is_empty(), "{reached:#?}");
    assert!(tried > 50, "only {tried} endpoints name something of a project");
    let victim = Realm::project(&cloud.demo_project);
    let after = cloud.cloud.store.snapshot();
    for row in before.rows().filter(|row| row.key.realm == victim) {
        assert_eq!(after.row(&row.key).map(|now| now.modified), Some(row.modified), "{}", row.key);
    }
}

/// Whatever door leads to it: what a policy gives is use, and changes are the owner's.
#[tokio::test]
async fn nothing_that_is_shared_can_be_changed() {
    let cloud = Harness::new().await;
    fill_project(&cloud).await;
    let stranger = cloud.tenant("stranger", "member").await;
    let (victim, project) = (Realm::project(&cloud.demo_project), cloud.project_of(&stranger).await);
    let rows = cloud.cloud.store.snapshot();
    let mut change = Change::new();
    for row in rows.rows().filter(|row| row.key.realm == victim && RbacPolicy::KINDS.contains(&row.key.kind)) {
        let given = RbacPolicy::for_all(row.key.clone(), &cloud.demo_project, RbacAction::Shared, model::Time::now());
        change.create(RbacPolicy { target: project.clone(), ..given });
    }
    cloud.cloud.store.commit(&change).await.expect("a commit");
    let before = cloud.cloud.store.snapshot();
    let face = cloud.face.clone();
    let mut tried = 0;
    for service in face.services() {
        let changes = |e: &&Endpoint| e.access != Access::Public && !e.method.is_safe();
        for endpoint in service.endpoints.iter().filter(changes) {
            let (path, theirs) = fill(&cloud, service, endpoint);
            if theirs {
                tried += 1;
                let (status, body) = call(&cloud, service, endpoint, &path, &stranger).await;
                assert!((400..500).contains(&status), "{} {path}: {status} {body}", endpoint.method);
            }
        }
    }
    assert!(tried > 40, "only {tried} endpoints change something of a project");
    let of_victim = |rows: &model::Snapshot| -> Vec<(String, u64)> {
        rows.rows().filter(|row| row.key.realm == victim).map(|row| (row.key.to_string(), row.modified)).collect()
    };
    assert_eq!(of_victim(&before), of_victim(&cloud.cloud.store.snapshot()));
}

#[tokio::test]
async fn what_is_absent_says_its_name() {
    let cloud = Harness::new().await;
    let face = cloud.face.clone();
    for service in face.services() {
        for (pattern, what) in service.absent {
            let path = format!("{}{}", service.prefix, pattern.replace('*', &uuid::Uuid::new_v4().to_string()));
            let status = face_openstack::fault::status(&(service.dialect.absent)(what));
            for path in [path.clone(), format!("{path}/more")] {
                let (got, _, body) = cloud.call("GET", &path, &cloud.demo, Value::Null).await;
                assert!(got == status && body.to_string().contains(what), "{path}: {got} {body}");
                assert_eq!(cloud.call("GET", &path, "", Value::Null).await.0, 401, "{path}");
            }
        }
        let (got, _, body) =
            cloud.call("GET", &format!("{}/no/such/path", service.prefix), &cloud.demo, Value::Null).await;
        assert!(got == 404 && !body.to_string().contains("not built"), "{}: {got} {body}", service.name);
    }
}

#[tokio::test]
async fn administration_is_for_administrators() {
    let cloud = Harness::new().await;
    let face = cloud.face.clone();
    for service in face.services() {
        for endpoint in service.endpoints.iter().filter(|e| e.access == Access::Admin) {
            let (path, _) = fill(&cloud, service, endpoint);
            let (status, body) = call(&cloud, service, endpoint, &path, &cloud.demo).await;
            assert_eq!(status, 403, "{} {path}: {body}", endpoint.method);
        }
    }
}
