//! Admission: what is about to be written is shown to those whom the cluster asks first, between its draft and its commit.
//! Nothing is held meanwhile, neither a lock nor a share: they may take as long as they may. When the row has moved when they
//! are done, the write is drafted again, and shown again if it is another one; whoever lost their rights meanwhile has lost
//! them. What is refused: asking before the draft (defaults would not be seen), and asking again and again when others are
//! faster.

pub mod hooks;
mod matching;
pub mod planned;

use std::sync::Arc;

use model::{Cluster, KubeObject, Snapshot};
use serde_json::{Value, json};

use crate::authz::Subject;
use crate::call::Call;
use crate::fault::{Failure, Result};
use crate::kind::ApiResource;
use crate::known::Kinds;
use crate::kube::Kube;
use crate::shares::Holder;
use crate::strategy::items;
use matching::{Asked, Place};

/// What is about to happen, as those who are asked see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: &'static str,
    pub subresource: &'static str,
    pub name: String,
    pub namespace: String,
    /// Group, version and kind of what is shown, where it is not the resource itself.
    pub of: Option<(&'static str, &'static str, &'static str)>,
    pub object: Value,
    pub old: Value,
}

impl Review {
    /// Something else than a change of an object: what is sent to a subresource.
    pub fn of(
        call: &Call<'_>,
        operation: &'static str,
        of: (&'static str, &'static str, &'static str),
        object: Value,
        old: Value,
    ) -> Self {
        let subresource = call.path.kind.subresource(call.path.subresource).map_or("", |sub| sub.name);
        let (name, namespace) = (call.path.name.to_owned(), call.path.namespace.to_owned());
        Self { operation, subresource, name, namespace, of: Some(of), object, old }
    }

    /// What is created and not kept: a question.
    pub fn question(call: &Call<'_>, object: &Value) -> Self {
        let (name, namespace) = (String::new(), call.path.namespace.to_owned());
        let (object, old) = (object.clone(), Value::Null);
        Self { operation: "CREATE", subresource: "", name, namespace, of: None, object, old }
    }

    /// A change of an object by the call's own resource.
    pub fn change(call: &Call<'_>, old: Option<&KubeObject>, new: Option<&KubeObject>) -> Self {
        let operation = match (old, new) {
            (None, _) => "CREATE",
            (Some(_), Some(_)) => "UPDATE",
            (Some(_), None) => "DELETE",
        };
        let subresource = match (operation, call.path.subresource) {
            ("UPDATE", "status") => "status",
            ("UPDATE", "finalize") => "finalize",
            _ => "",
        };
        let body = |object: Option<&KubeObject>| object.map_or(Value::Null, |object| object.body.clone());
        let one = new.or(old);
        Self {
            operation,
            subresource,
            name: one.map_or(String::new(), |object| object.name.clone()),
            namespace: one.map_or(String::new(), |object| object.namespace.clone()),
            of: None,
            object: body(new),
            old: body(old),
        }
    }
}

/// Who writes something of a kind, and where.
pub struct Author<'a> {
    pub kube: &'a Kube,
    pub cluster: &'a Cluster,
    pub who: &'a Subject,
    pub credential: &'a Arc<str>,
    pub kinds: &'a Kinds,
    pub kind: &'a ApiResource,
}

impl<'a> Author<'a> {
    fn of(call: &'a Call<'_>) -> Self {
        let Call { kube, cluster, who, holder, kinds, .. } = call;
        Self { kube, cluster, who, credential: &holder.credential, kinds, kind: call.kind() }
    }
}

/// Whether the cluster asks anybody before it does this.
pub fn is_asked(call: &Call<'_>, snapshot: &Snapshot) -> bool {
    // Those who ask are never asked about: who made a mistake can take it back.
    call.kind().group != matching::GROUP && matching::configurations(&call.cluster.id, snapshot).next().is_some()
}

/// Asks everybody whom the cluster asks, at once. Their warnings go to the call; whether anybody was asked.
pub async fn admit(call: &Call<'_>, snapshot: &Snapshot, review: &Review, dry_run: bool) -> Result<bool> {
    if !is_asked(call, snapshot) {
        return Ok(false);
    }
    let author = Author::of(call);
    let asked = matching::asked(&author, snapshot, review);
    if asked.is_empty() {
        return Ok(false);
    }
    // Everybody is heard, and of several refusals the first is told.
    let warnings = call.waiting(ask(&author, &asked, review, dry_run)).await?;
    call.tell(warnings);
    Ok(true)
}

/// Asks them at once; their warnings.
async fn ask(author: &Author<'_>, asked: &[Asked<'_>], review: &Review, dry_run: bool) -> Result<Vec<String>> {
    if asked.len() > MOST {
        let message = format!("{} webhooks are to be asked, and {MOST} may be: make fewer", asked.len());
        return Err(Failure::new(500, "InternalError", message));
    }
    let verdicts = asked.iter().map(|one| verdict(author, one, review, dry_run));
    let verdicts = futures_util::future::join_all(verdicts).await;
    let (mut told, mut refused) = (Vec::new(), None);
    for (asked, verdict) in asked.iter().zip(verdicts) {
        match verdict {
            Ok(warnings) => told.extend(warnings),
            Err(Refusal::Denied(failure)) => refused = refused.or(Some(failure)),
            Err(Refusal::Failed(why)) if asked.hook["failurePolicy"] == "Ignore" => {
                tracing::info!(webhook = asked.name(), "a webhook failed and is ignored: {why}");
            }
            Err(Refusal::Failed(why)) => {
                let message = format!("failed calling webhook {:?}: failed to call webhook: {why}", asked.name());
                refused = refused.or(Some(Failure::new(500, "InternalError", message)));
            }
        }
    }
    refused.map_or(Ok(told), Err)
}

/// The most webhooks that one write is shown to.
const MOST: usize = 16;

enum Refusal {
    Denied(Failure),
    /// It did not answer as it should.
    Failed(String),
}

/// The most warnings of one webhook.
const MAX_WARNINGS: usize = 16;

async fn verdict(
    author: &Author<'_>,
    asked: &Asked<'_>,
    review: &Review,
    dry_run: bool,
) -> std::result::Result<Vec<String>, Refusal> {
    let uid = uuid::Uuid::new_v4().to_string();
    let request = request(author, &asked.place, review, &uid, dry_run);
    let body = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request});
    // Of projects, not of clusters, of which a project may have any number.
    let holder = Holder { cluster: author.cluster.project_id.as_str().into(), credential: author.credential.clone() };
    let limit = hooks::timeout(asked.hook);
    let Ok(_held) = tokio::time::timeout(limit, author.kube.pools.hooks.take(&holder, 1)).await else {
        let why = format!(
            "too many of the project's webhooks are being called: none had an end within {} s",
            limit.as_secs()
        );
        return Err(Refusal::Failed(why));
    };
    let answer = hooks::ask(&author.kube.hooks, asked.hook, &body).await.map_err(Refusal::Failed)?;
    if answer["kind"] != "AdmissionReview" || answer["apiVersion"] != "admission.k8s.io/v1" {
        return Err(Refusal::Failed("the answer is no AdmissionReview of admission.k8s.io/v1".to_owned()));
    }
    let response = &answer["response"];
    if response["uid"] != uid.as_str() {
        return Err(Refusal::Failed("the answer is for another request: response.uid differs".to_owned()));
    }
    match response["allowed"].as_bool() {
        Some(true) => {
            let warnings = items(response, "warnings").take(MAX_WARNINGS);
            Ok(warnings.filter_map(|text| text.as_str().map(str::to_owned)).collect())
        }
        Some(false) => Err(Refusal::Denied(denied(asked.name(), &response["status"]))),
        None => Err(Refusal::Failed("the answer does not say whether it is allowed".to_owned())),
    }
}

/// The most characters of a webhook's words.
const MAX_WORDS: usize = 4096;

fn denied(webhook: &str, status: &Value) -> Failure {
    let words = |field: &str| status[field].as_str().filter(|text| !text.is_empty());
    let message = match words("message").or(words("reason")) {
        Some(why) => format!("denied the request: {}", why.chars().take(MAX_WORDS).collect::<String>()),
        None => "denied the request without explanation".to_owned(),
    };
    let code = status["code"].as_u64().filter(|code| (400..600).contains(code)).unwrap_or(403) as u16;
    let reason = match code {
        400 => "BadRequest",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        500.. => "InternalError",
        _ => "Forbidden",
    };
    Failure::new(code, reason, format!("admission webhook {webhook:?} {message}"))
}

fn request(author: &Author<'_>, place: &Place<'_>, review: &Review, uid: &str, dry_run: bool) -> Value {
    let own = author.kind;
    let gvk = |kind: &ApiResource| match review.of {
        Some((group, version, kind)) => json!({"group": group, "version": version, "kind": kind}),
        None => json!({"group": kind.group, "version": kind.version, "kind": kind.kind}),
    };
    let gvr = |kind: &ApiResource| json!({"group": kind.group, "version": kind.version, "resource": kind.plural});
    // As it will be when it is read: in the version that the rule is about.
    let shown = |body: &Value| match review.of {
        None if body.is_object() => place.kind.strategy.shown(body).unwrap_or_else(|| body.clone()),
        _ => body.clone(),
    };
    let options = match review.operation {
        "CREATE" => "CreateOptions",
        "UPDATE" => "UpdateOptions",
        _ => "DeleteOptions",
    };
    let mut request = json!({
        "uid": uid, "kind": gvk(place.kind), "resource": gvr(place.kind), "requestKind": gvk(own),
        "requestResource": gvr(own), "operation": review.operation, "userInfo": user_info(author.who),
        "object": shown(&review.object), "oldObject": shown(&review.old), "dryRun": dry_run,
        "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
    });
    if review.operation == "CONNECT" {
        request["options"] = Value::Null;
    }
    for (field, text) in [
        ("name", review.name.as_str()),
        ("namespace", &review.namespace),
        ("subResource", review.subresource),
        ("requestSubResource", review.subresource),
    ] {
        if !text.is_empty() {
            request[field] = text.into();
        }
    }
    request
}

fn user_info(who: &Subject) -> Value {
    json!({"username": who.user, "uid": who.uid, "groups": who.groups})
}
