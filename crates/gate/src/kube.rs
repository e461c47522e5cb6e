//! The gate of the Kubernetes face: the same tokens, service accounts' tokens, and client certificates. A credential is
//! good for one logical cluster or for those of one project; any other cluster does not exist for it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use model::{Cluster, Fault, Kind, KubeObject, Setting, Snapshot, Time};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::token::unauthorized;
use crate::{Asked, Gate, Identity, KEYSTONE, Principal, SERVICE_ACCOUNT, Scope, authority};

/// The row that keeps the key of service accounts' tokens.
pub const SERVICE_ACCOUNT_KEY: &str = "service-account-key";

/// Who issues service accounts' tokens, as clusters everywhere have it.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// `{"alg":"HS256","typ":"JWT"}`; no other algorithm is ever accepted.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// Longer tokens are refused unread.
const LONGEST: usize = 8192;

impl Gate {
    /// The principal of a bearer token in a cluster: an OpenStack token of the cluster's project (or of the system), or
    /// a token of one of the cluster's service accounts. Project roles stand in `kube_groups` as `openstack:<role>`.
    pub async fn bearer(&self, token: &str, cluster_id: &str, asked: &Asked<'_>) -> Result<Principal, Fault> {
        let who = self.inspect_bearer(token, cluster_id).await?;
        self.spend(&who, asked)?;
        Ok(who)
    }

    /// As [`Gate::bearer`], for questions about a token.
    pub async fn inspect_bearer(&self, token: &str, cluster_id: &str) -> Result<Principal, Fault> {
        if token.split('.').count() == 3 {
            return self.service_account(token, cluster_id);
        }
        let mut who = self.inspect(token).await?;
        let snapshot = self.store.snapshot();
        let cluster = snapshot.get::<Cluster>(cluster_id);
        let reachable = cluster.is_some_and(|cluster| match &who.scope {
            Scope::Project { id, .. } => *id == cluster.project_id,
            Scope::System => who.is_admin(),
            _ => false,
        });
        if !reachable {
            return Err(Fault::not_found(Kind::Cluster, cluster_id));
        }
        who.kube_groups = who.roles.iter().map(|role| format!("{KEYSTONE}{}", role.name)).collect();
        who.kube_groups.push("system:authenticated".into());
        Ok(who)
    }

    /// The principal of a client certificate, in DER, whose key the client has shown to hold: the cluster's own authority
    /// must have signed it.
    pub fn certificate(&self, certificate: &[u8], cluster_id: &str) -> Result<Principal, Fault> {
        let snapshot = self.store.snapshot();
        let cluster = snapshot.get::<Cluster>(cluster_id).ok_or_else(unauthorized)?;
        let authority::Named { common_name, organizations } =
            authority::named(&cluster, certificate).ok_or_else(unauthorized)?;
        // What a certificate says must not be taken for what others are called.
        let reserved = |text: &str| text.starts_with(KEYSTONE) || text.starts_with("system:serviceaccount");
        if common_name.is_empty() || reserved(&common_name) || organizations.iter().any(|o| reserved(o)) {
            return Err(unauthorized());
        }
        let mut groups = organizations;
        groups.push("system:authenticated".into());
        let forever = Time::MAX;
        of_cluster(&snapshot, cluster_id, (&common_name, &common_name), Identity::Certificate, groups, forever)
    }

    /// A token of a service account, bound to the account's uid: it ends with the account, whatever its expiry.
    pub fn service_account_token(
        &self,
        cluster_id: &str,
        namespace: &str,
        name: &str,
        uid: &str,
        expires_at: Time,
    ) -> Result<String, Fault> {
        let claims = json!({
            "iss": ISSUER,
            "sub": format!("{SERVICE_ACCOUNT}{namespace}:{name}"),
            "aud": [ISSUER],
            "cluster": cluster_id,
            "iat": Time::now().as_second(),
            "nbf": Time::now().as_second(),
            "exp": expires_at.as_second(),
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
        });
        sign(&self.store.snapshot(), &claims)
    }

    fn service_account(&self, token: &str, cluster_id: &str) -> Result<Principal, Fault> {
        let snapshot = self.store.snapshot();
        let claims = claims(&snapshot, token)?;
        let account = &claims["kubernetes.io"]["serviceaccount"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, name, uid) =
            (text(&claims["kubernetes.io"]["namespace"]), text(&account["name"]), text(&account["uid"]));
        let end = claims["exp"].as_i64().and_then(|s| Time::from_second(s).ok()).ok_or_else(unauthorized)?;
        if text(&claims["cluster"]) != cluster_id || end <= Time::now() {
            return Err(unauthorized());
        }
        let key = KubeObject::key_of(cluster_id, "", "serviceaccounts", &namespace, &name);
        let exists = snapshot.at::<KubeObject>(&key).is_some_and(|object| object.uid() == uid && !uid.is_empty());
        if !exists {
            return Err(unauthorized());
        }
        let groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ];
        let user = format!("{SERVICE_ACCOUNT}{namespace}:{name}");
        let identity = Identity::ServiceAccount { namespace, name };
        of_cluster(&snapshot, cluster_id, (&uid, &user), identity, groups, end)
    }
}

/// A principal that exists in one cluster alone. It has no role in the cluster's project: RBAC decides.
fn of_cluster(
    snapshot: &Snapshot,
    cluster_id: &str,
    (user_id, user_name): (&str, &str),
    identity: Identity,
    kube_groups: Vec<String>,
    expires_at: Time,
) -> Result<Principal, Fault> {
    let cluster = snapshot.get::<Cluster>(cluster_id).ok_or_else(unauthorized)?;
    let project = crate::token::project(snapshot, &cluster.project_id)?;
    let method = if identity == Identity::Certificate { "certificate" } else { "service_account" };
    Ok(Principal {
        identity,
        user_id: user_id.to_owned(),
        user_name: user_name.to_owned(),
        user_domain_id: project.domain_id.clone(),
        scope: Scope::Project {
            id: project.id.clone(),
            name: project.name.clone(),
            domain_id: project.domain_id.clone(),
        },
        roles: Vec::new(),
        methods: vec![method.to_owned()],
        audit_ids: Vec::new(),
        issued_at: Time::now(),
        expires_at,
        app_credential_id: None,
        trust: None,
        kube_groups,
        kube_cluster: Some(cluster_id.to_owned()),
    })
}

/// A token that says these claims.
pub(crate) fn sign(snapshot: &Snapshot, claims: &Value) -> Result<String, Fault> {
    let body = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mac = mac(snapshot, &body)?.finalize().into_bytes();
    Ok(format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac)))
}

/// The claims of a token that this cloud signed.
pub(crate) fn claims(snapshot: &Snapshot, token: &str) -> Result<Value, Fault> {
    let parts = (token.len() <= LONGEST).then(|| token.rsplit_once('.')).flatten();
    let (body, signature) = parts.ok_or_else(unauthorized)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| unauthorized())?;
    mac(snapshot, body)?.verify_slice(&signature).map_err(|_| unauthorized())?;
    let claims = body.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('.')).ok_or_else(unauthorized)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| unauthorized())?;
    serde_json::from_slice(&claims).map_err(|_| unauthorized())
}

fn mac(snapshot: &Snapshot, body: &str) -> Result<Hmac<Sha256>, Fault> {
    let key = snapshot.get::<Setting>(SERVICE_ACCOUNT_KEY).and_then(|s| s.value.value.as_str().map(str::to_owned));
    let key = key.ok_or_else(|| Fault::Unavailable("There is no key for service accounts' tokens.".into()))?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .map_err(|e| Fault::Internal(format!("the key of service accounts: {e}")))?;
    mac.update(body.as_bytes());
    Ok(mac)
}
