//! How somebody comes in: the credential, the cluster, and in whose name. Kept as long as a watch is open, and gone through
//! again, so that what was taken away from either of the two ends what goes on in their name.

use std::sync::Arc;

use axum::body::Body;
use gate::{Asked, Gate, Principal};
use http::{HeaderMap, Method, Request, header};
use model::{Cluster, Fault};
use store::Store;

use crate::authz::{self, Attributes, Subject};
use crate::fault::{Failure, Result};
use crate::kube::{ClientCertificate, Kube};

/// What a request proves itself with.
#[derive(Clone, Debug)]
enum Credential {
    None,
    Bearer(String),
    Certificate(ClientCertificate),
}

/// What a request says about who makes it.
#[derive(Clone)]
pub struct Entrance {
    credential: Credential,
    /// Those that begin with `impersonate-`.
    impersonation: HeaderMap,
    method: Method,
    path: String,
}

/// Somebody who came in.
pub struct Admitted {
    /// Whose the credential is.
    pub principal: Principal,
    /// In whose name the request is made.
    pub who: Subject,
    pub cluster: Cluster,
}

/// The WebSocket subprotocol that carries a token.
pub const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

impl Entrance {
    pub fn of(request: &Request<Body>) -> Self {
        let headers = request.headers().iter().filter(|(name, _)| name.as_str().starts_with("impersonate-"));
        Self {
            credential: credential(request),
            impersonation: headers.map(|(name, value)| (name.clone(), value.clone())).collect(),
            method: request.method().clone(),
            path: decoded(request.uri().path()),
        }
    }

    /// Who asks and the cluster that is asked for. Whoever has no valid credential is told so; to whoever has one that is
    /// good elsewhere, the cluster does not exist.
    pub async fn enter(&self, kube: &Kube, cluster_id: &str) -> Result<Admitted> {
        let principal = self.principal(&kube.gate, cluster_id).await.map_err(|fault| match fault {
            Fault::NotFound { .. } => Failure::no_path(),
            other => other.into(),
        })?;
        let snapshot = kube.store.snapshot();
        let cluster = snapshot.get::<Cluster>(cluster_id).ok_or_else(Failure::no_path)?.value.clone();
        let who = acting_as(&kube.store, &self.impersonation, &cluster, Subject::of(&principal, &cluster))?;
        Ok(Admitted { principal, who, cluster })
    }

    async fn principal(&self, gate: &Arc<Gate>, cluster_id: &str) -> std::result::Result<Principal, Fault> {
        let asked = Asked { service: "kubernetes", method: self.method.as_str(), path: &self.path };
        match &self.credential {
            Credential::None => Err(Fault::Unauthorized("Unauthorized".to_owned())),
            Credential::Bearer(token) => gate.bearer(token, cluster_id, &asked).await,
            Credential::Certificate(certificate) => gate.certificate(&certificate.0, cluster_id),
        }
    }
}

/// The path as it is served: an encoded slash divides it too, and must not hide from an access rule.
fn decoded(path: &str) -> String {
    crate::request::decode(&path.replace('+', "%2B")).unwrap_or_else(|_| path.to_owned())
}

fn credential(request: &Request<Body>) -> Credential {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    if let Some((scheme, token)) = bearer.and_then(|v| v.split_once(' '))
        && scheme.eq_ignore_ascii_case("bearer")
        && !token.trim().is_empty()
    {
        return Credential::Bearer(token.trim().to_owned());
    }
    // Browsers' WebSockets cannot set headers: the token travels as a subprotocol.
    if let Some(token) = websocket_token(request) {
        return Credential::Bearer(token);
    }
    match request.extensions().get::<ClientCertificate>() {
        Some(certificate) => Credential::Certificate(certificate.clone()),
        None => Credential::None,
    }
}

fn websocket_token(request: &Request<Body>) -> Option<String> {
    use base64::Engine;
    let protocols = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let token = protocols.split(',').find_map(|p| p.trim().strip_prefix(TOKEN_PROTOCOL))?;
    String::from_utf8(base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

/// The subject in whose name the request is made: whoever may `impersonate` can name another, with each of the
/// properties that they may give.
fn acting_as(store: &Store, headers: &HeaderMap, cluster: &Cluster, who: Subject) -> Result<Subject> {
    let unreadable = || Failure::bad_request("an Impersonate header is not text");
    let text = |value: &http::HeaderValue| value.to_str().map(str::to_owned).map_err(|_| unreadable());
    let groups: Vec<String> = headers.get_all("impersonate-group").iter().map(text).collect::<Result<_>>()?;
    let Some(user) = headers.get("impersonate-user").map(text).transpose()? else {
        if headers.is_empty() {
            return Ok(who);
        }
        return Err(Failure::bad_request(
            "requested to impersonate without a user: the header Impersonate-User is missing",
        ));
    };
    let snapshot = store.snapshot();
    let may =
        |what: Attributes<'_>| authz::check(&snapshot, cluster, &who, &Attributes { verb: "impersonate", ..what });
    let mut all = groups.clone();
    match user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => {
            may(Attributes { resource: "serviceaccounts", namespace, name, ..Attributes::default() })?;
            if groups.is_empty() {
                all = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        None => may(Attributes { resource: "users", name: &user, ..Attributes::default() })?,
    }
    for group in &groups {
        may(Attributes { resource: "groups", name: group, ..Attributes::default() })?;
    }
    let own = Attributes { group: "authentication.k8s.io", ..Attributes::default() };
    let mut uid = String::new();
    for (name, value) in headers {
        let value = text(value)?;
        match name.as_str() {
            "impersonate-user" | "impersonate-group" => {}
            "impersonate-uid" => {
                may(Attributes { resource: "uids", name: &value, ..own.clone() })?;
                uid = value;
            }
            other => match other.strip_prefix("impersonate-extra-") {
                // Nothing here reads extras: who may give them may as well.
                Some(key) => may(Attributes { resource: "userextras", subresource: key, name: &value, ..own.clone() })?,
                None => return Err(Failure::bad_request(format!("{other} is no header for impersonation"))),
            },
        }
    }
    if !all.iter().any(|group| group == "system:authenticated" || group == "system:unauthenticated") {
        all.push("system:authenticated".to_owned());
    }
    Ok(Subject { uid, ..Subject::named(&user, all) })
}
