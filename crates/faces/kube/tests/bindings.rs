//! Who a binding may give a role to, and what a role may say, as upstream has it.

mod common;

use common::World;
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

#[tokio::test]
async fn subjects_are_of_the_form_that_grants() {
    let world = World::new().await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    let post = async |path: &str, name: &str, subject: &Value| {
        let binding = json!({"metadata": {"name": name}, "roleRef": role, "subjects": [subject]});
        world.post(&format!("{RBAC}/{path}"), binding).await
    };
    let (local, whole) = ("namespaces/default/rolebindings", "clusterrolebindings");
    for (i, (path, field, subject)) in [
        (local, "apiGroup", json!({"kind": "User", "apiGroup": "other.io", "name": "ann"})),
        (local, "apiGroup", json!({"kind": "Group", "apiGroup": "v1", "name": "all"})),
        (local, "apiGroup", json!({"kind": "ServiceAccount", "apiGroup": "other.io", "name": "x"})),
        (local, "name", json!({"kind": "ServiceAccount", "name": "b:x", "namespace": "a"})),
        (local, "name", json!({"kind": "User", "name": ""})),
        (whole, "namespace", json!({"kind": "ServiceAccount", "name": "x", "namespace": ""})),
        (local, "kind", json!({"kind": "Robot", "name": "x"})),
    ]
    .into_iter()
    .enumerate()
    {
        let (status, answer) = post(path, &format!("b{i}"), &subject).await;
        assert_eq!(status, 422, "{subject}: {answer}");
        assert_eq!(answer["details"]["causes"][0]["field"], format!("subjects[0].{field}"), "{answer}");
    }
    // What is empty is not there: the account is of the binding's namespace, and the group is the default.
    let account = json!({"kind": "ServiceAccount", "name": "x", "namespace": "", "apiGroup": ""});
    let (status, made) = post(local, "account", &account).await;
    assert_eq!((status, &made["subjects"]), (201, &json!([{"kind": "ServiceAccount", "name": "x"}])));
    let (status, made) = post(local, "ann", &json!({"kind": "User", "name": "ann", "apiGroup": ""})).await;
    assert_eq!((status, &made["subjects"][0]["apiGroup"]), (201, &json!("rbac.authorization.k8s.io")));
    let attributes = json!({"namespace": "default", "verb": "list", "resource": "pods"});
    let asked = json!({"spec": {"user": "system:serviceaccount:default:x", "resourceAttributes": attributes}});
    let (_, told) = world.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", asked).await;
    assert_eq!(told["status"]["allowed"], true, "{told}");
}

#[tokio::test]
async fn a_role_that_would_gather_others_is_refused_in_words() {
    let world = World::new().await;
    let rule = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let role = json!({"metadata": {"name": "all"}, "rules": [], "aggregationRule": rule});
    let (status, answer) = world.post(&format!("{RBAC}/clusterroles"), role).await;
    assert_eq!(status, 422, "{answer}");
    assert_eq!(answer["details"]["causes"][0]["field"], "aggregationRule", "{answer}");
}
