//! The way in: gate, cluster, rights, then the verb. Bodies are read only after all three, and as a body comes as slowly as
//! its sender likes, all three are gone through again when it is there.

use std::sync::PoisonError;

use axum::body::Body;
use gate::audit::Actor;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use model::{Cluster, Revision, Time};

use crate::authz::{self, Attributes, Subject};
use crate::call::{Call, Form};
use crate::entrance::{Admitted, Entrance};
use crate::fault::{Failure, Result};
use crate::kind::ApiResource;
use crate::known::Kinds;
use crate::kube::Kube;
use crate::request::{Query, ResourcePath, Target, target, verb};
use crate::rule::RBAC;
use crate::shares::Holder;
use crate::verbs::{create, delete, get, pod, scale, token, update};
use crate::{body, check, discovery, openapi, reviews, stream, watch};

/// Answers a request below `/clusters/{id}`, and records what may have changed something.
pub async fn serve(kube: Kube, mut request: Request<Body>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut actor = Actor::default();
    let response = answer(&kube, &mut request, &mut actor).await.unwrap_or_else(|failure| failure.response());
    // What is done in a container begins with a GET when it comes by WebSocket.
    if !method.is_safe() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let id = format!("req-{}", uuid::Uuid::new_v4());
        gate::audit::record(&actor, method.as_str(), &path, response.status().as_u16(), &id);
    }
    response
}

async fn answer(kube: &Kube, request: &mut Request<Body>, actor: &mut Actor) -> Result<Response<Body>> {
    let uri = request.uri().clone();
    let below = uri.path().strip_prefix("/clusters/").ok_or_else(Failure::no_path)?;
    let (cluster_id, path) = below.split_once('/').unwrap_or((below, ""));
    let entrance = Entrance::of(request);
    let since = kube.store.snapshot().revision();
    let Admitted { principal, who, cluster } = entrance.enter(kube, cluster_id).await?;
    let credential = format!("{}/{}", principal.user_id, principal.user_name);
    let holder = Holder { cluster: cluster.id.as_str().into(), credential: credential.into() };
    *actor = Actor::of(Some(&principal)).in_the_name_of(&who.user);
    let query = Query::parse(uri.query().unwrap_or(""))?;
    let path = crate::request::decode(&path.replace('+', "%2B"))?;
    let kinds = kube.kinds(&cluster);
    match target(&kinds, &path).ok_or_else(Failure::no_path)? {
        Target::Document(parts) => {
            // What tells of a cluster's own kinds is made of all of them.
            let is_large = parts.first().is_some_and(|part| *part == "openapi") && kinds.documents().is_some();
            let _held = if is_large { Some(kube.pools.large.take(&holder, 1).await) } else { None };
            let asked = (request.method().clone(), request.headers().clone());
            let reply = async { document(kube, &asked, &cluster, &kinds, &who, &parts) };
            if is_large { aside(reply).await } else { reply.await }
        }
        Target::Resource(path) => {
            let verb = verb(request.method(), &path, &query).ok_or_else(Failure::method_not_allowed)?;
            let form = if path.subresource == "log" { Form::Object } else { Form::of(request.headers())? };
            let headers = request.headers().clone();
            let (cluster, who) = (&cluster, &who);
            let (entrance, now) = (&entrance, Time::now());
            let (large, told) = Default::default();
            let call = Call {
                kube,
                cluster,
                who,
                holder,
                kinds,
                path,
                verb,
                query,
                headers,
                form,
                now,
                entrance,
                large,
                told,
            };
            call.permitted(cluster, who)?;
            resource(call, request, since).await
        }
    }
}

fn document(
    kube: &Kube,
    (method, headers): &(Method, HeaderMap),
    cluster: &Cluster,
    kinds: &Kinds,
    who: &Subject,
    parts: &[&str],
) -> Result<Response<Body>> {
    let path = format!("/{}", parts.join("/"));
    let verb = method.as_str().to_ascii_lowercase();
    let what = Attributes { verb: &verb, path: &path, ..Attributes::default() };
    authz::check(&kube.store.snapshot(), cluster, who, &what)?;
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Failure::method_not_allowed());
    }
    match parts {
        ["version"] => Ok(discovery::version()),
        ["healthz" | "livez" | "readyz", ..] => Ok(body::bytes_reply(200, "text/plain; charset=utf-8", "ok".into())),
        ["api"] => Ok(discovery::root(kinds, headers, true)),
        ["apis"] => Ok(discovery::root(kinds, headers, false)),
        ["api", version] => discovery::resources(kinds, "", version).ok_or_else(Failure::no_path),
        ["apis", group] => discovery::group(kinds, group).ok_or_else(Failure::no_path),
        ["apis", group, version] => discovery::resources(kinds, group, version).ok_or_else(Failure::no_path),
        ["openapi", "v2"] => openapi::whole(kinds, headers),
        ["openapi", "v3"] => Ok(openapi::index(kinds, &format!("/clusters/{}", cluster.id))),
        ["openapi", "v3", "api", version] => openapi::document(kinds, headers, "", version),
        ["openapi", "v3", "apis", group, version] => openapi::document(kinds, headers, group, version),
        _ => Err(Failure::no_path()),
    }
}

async fn resource(call: Call<'_>, request: &mut Request<Body>, since: Revision) -> Result<Response<Body>> {
    let method = request.method().clone();
    match (call.path.subresource, call.verb) {
        ("exec" | "attach" | "portforward", "get" | "create") => return stream::upgrade(&call, request).await,
        ("log", "get") => return stream::log(&call).await,
        ("", "watch") if !call.kind().review => return watch::watch(&call).await,
        _ => {}
    }
    let bytes = body::read(std::mem::take(request.body_mut())).await?;
    let large = is_large(&call, &bytes);
    if large {
        let held = call.kube.pools.large.take(&call.holder, 1).await;
        *call.large.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
    if call.kube.store.snapshot().revision() == since {
        return act_aside(&call, &method, bytes, large).await;
    }
    let kube = call.kube;
    let Admitted { who, cluster, .. } = call.entrance.enter(kube, &call.cluster.id).await?;
    // A kind of the cluster's own may be another one now, or gone.
    let kinds = kube.kinds(&cluster);
    let names = &call.path.kind.names;
    let kind = kinds.find(&names.group, &names.version, &names.plural).ok_or_else(Failure::no_path)?.clone();
    let call = Call { who: &who, cluster: &cluster, kinds, path: ResourcePath { kind, ..call.path }, ..call };
    call.permitted(&cluster, &who)?;
    act_aside(&call, &method, bytes, large).await
}

async fn act_aside(call: &Call<'_>, method: &Method, bytes: bytes::Bytes, large: bool) -> Result<Response<Body>> {
    let mut response = match large {
        true => aside(act(call, method, bytes)).await,
        false => act(call, method, bytes).await,
    }?;
    let told = std::mem::take(&mut *call.told.lock().unwrap_or_else(PoisonError::into_inner));
    body::warn(&mut response, &told);
    Ok(response)
}

/// What has more bytes, as a body or as the object that it is about, is worked on aside; and so are tables whose columns a cluster
/// made, and what is written of roles, since all that their author holds is gone through.
const LARGE: usize = 32 << 10;

fn is_large(call: &Call<'_>, bytes: &bytes::Bytes) -> bool {
    let about = || {
        let snapshot = call.kube.store.snapshot();
        call.row(&snapshot).is_ok_and(|entry| check::larger(&entry.value.body, LARGE))
    };
    let table = call.form == Form::Table && call.kind().origin.is_some();
    let roles = call.kind().group == RBAC && !matches!(call.verb, "get" | "list");
    let rules = call.kind().plural == "selfsubjectrulesreviews";
    bytes.len() > LARGE || table || roles || rules || (matches!(call.verb, "update" | "patch") && about())
}

/// Lets others have this thread meanwhile: work on much data has no point at which it would give it back.
async fn aside<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Handle::current();
    match runtime.runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(|| runtime.block_on(work)),
        // The simulator's and tests' one thread.
        _ => work.await,
    }
}

async fn act(call: &Call<'_>, method: &Method, bytes: bytes::Bytes) -> Result<Response<Body>> {
    let kind = call.kind();
    match (call.path.subresource, call.verb) {
        ("", "create") if !call.path.name.is_empty() => Err(Failure::method_not_allowed()),
        ("", "create") if kind.review => reviews::create(call, bytes).await,
        ("", _) if kind.review => Err(Failure::method_not_allowed()),
        ("", "create") if kind.namespaced && call.path.namespace.is_empty() => Err(Failure::method_not_allowed()),
        ("", "create") => create::create(call, bytes).await,
        ("", "list") => get::list(call).await,
        ("", "deletecollection") if !kind.strategy.deletes_collections() => Err(Failure::method_not_allowed()),
        ("", "deletecollection") => delete::delete_collection(call, bytes).await,
        ("", "delete") => delete::delete(call, bytes).await,
        ("" | "status", "get") => get::get(call).await,
        ("" | "status" | "finalize", "update") => update::update(call, bytes).await,
        ("" | "status", "patch") => update::patch(call, bytes).await,
        ("scale", "get" | "update" | "patch") => scale::scale(call, method, bytes).await,
        ("binding", "create") => pod::bind(call, bytes).await,
        ("eviction", "create") => pod::evict(call, bytes).await,
        ("token", "create") => token::create(call, bytes).await,
        _ => Err(Failure::method_not_allowed()),
    }
}

/// Every route, with names filled in.
pub fn endpoints() -> Vec<(Method, String)> {
    let mut all: Vec<(Method, String)> = [
        "/version",
        "/healthz",
        "/livez",
        "/readyz",
        "/api",
        "/api/v1",
        "/apis",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/api/v1",
    ]
    .into_iter()
    .map(|path| (Method::GET, path.to_owned()))
    .collect();
    for kind in Kinds::built_in().iter() {
        of_kind(kind, &mut all);
    }
    all
}

fn of_kind(kind: &ApiResource, all: &mut Vec<(Method, String)>) {
    let root =
        if kind.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/{}", kind.group, kind.version) };
    let place = if kind.namespaced { "/namespaces/default" } else { "" };
    let collection = format!("{root}{place}/{}", kind.plural);
    all.push((Method::POST, collection.clone()));
    if kind.review {
        return;
    }
    all.push((Method::GET, collection.clone()));
    all.push((Method::GET, format!("{collection}?watch=true")));
    if kind.strategy.deletes_collections() {
        all.push((Method::DELETE, collection.clone()));
    }
    let object = format!("{collection}/x");
    for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
        all.push((method, object.clone()));
    }
    if kind.status {
        for method in [Method::GET, Method::PUT, Method::PATCH] {
            all.push((method, format!("{object}/status")));
        }
    }
    for sub in kind.subresources {
        for verb in sub.verbs {
            let method = match *verb {
                "create" => Method::POST,
                "update" => Method::PUT,
                "patch" => Method::PATCH,
                _ => Method::GET,
            };
            all.push((method, format!("{object}/{}", sub.name)));
        }
    }
}
