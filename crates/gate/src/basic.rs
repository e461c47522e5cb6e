//! What clients of the registry show. They know HTTP's Basic scheme alone and take it for a token: a Keystone token goes
//! as the password of any user name, an application credential as its id (or `user/name`, `domain/user/name`) and its
//! secret. A host gets a token for the project of a pod whose image it pulls: good for reading its repositories.
//!
//! Users' passwords are refused here: a robot that has one can do everything its user can, for ever.

use model::{Fault, Time};
use serde_json::json;

use crate::kube::{claims, sign};
use crate::token::{self, unauthorized};
use crate::{
    Asked, Client, DomainRef, Gate, Identity, NamedRef, Principal, Proof, RoleRef, Scope, ScopeRequest, roles,
};

/// For whom the registry's own tokens are; nobody else takes them.
const AUDIENCE: &str = "registry";

impl Gate {
    /// The token for a user name and password of the Basic scheme, and when it ends.
    pub async fn basic(&self, user: &str, password: &str, client: Client) -> Result<(String, Time), Fault> {
        if let Ok(who) = self.inspect_pull(password).await {
            return Ok((password.to_owned(), who.expires_at));
        }
        let named = |domain: DomainRef, user: &str, name: &str| Proof::AppCredential {
            id: None,
            name: Some(name.to_owned()),
            user: NamedRef { id: None, name: Some(user.to_owned()), domain },
            secret: password.to_owned(),
        };
        let default = DomainRef { id: Some(model::DEFAULT_DOMAIN.to_owned()), name: None };
        let proof = match user.split('/').collect::<Vec<_>>().as_slice() {
            [domain, user, name] => named(DomainRef { id: None, name: Some((*domain).to_owned()) }, user, name),
            [user, name] => named(default, user, name),
            _ => Proof::AppCredential {
                id: Some(user.to_owned()),
                name: None,
                user: NamedRef::default(),
                secret: password.to_owned(),
            },
        };
        let (token, who) = self.login(vec![proof], ScopeRequest::Default, client).await?;
        Ok((token, who.expires_at))
    }

    /// What a client of the registry gets for a token of [`Gate::basic`], to show with its requests: it opens the registry and
    /// nothing else, and ends with that token. Clients write down what they send, and proxies see it.
    pub fn registry_token(&self, token: &str) -> Result<String, Fault> {
        // What is the registry's own has a dot.
        if token.contains('.') {
            return Ok(token.to_owned());
        }
        token::wrap(&self.store.snapshot(), AUDIENCE, token, Time::now())
    }

    /// The principal of a registry's token that is spent on a request: one of [`Gate::registry_token`] or
    /// [`Gate::pull_token`], or an OpenStack token.
    pub async fn registry(&self, token: &str, asked: &Asked<'_>) -> Result<Principal, Fault> {
        let who = self.inspect_pull(token).await?;
        self.spend(&who, asked)?;
        Ok(who)
    }

    /// A token that reads the repositories of one project and nothing else.
    pub fn pull_token(&self, project_id: &str, expires_at: Time) -> Result<String, Fault> {
        let claims = json!({"aud": AUDIENCE, "project": project_id, "exp": expires_at.as_second()});
        sign(&self.store.snapshot(), &claims)
    }

    async fn inspect_pull(&self, token: &str) -> Result<Principal, Fault> {
        let snapshot = self.store.snapshot();
        if token.split('.').count() != 3 {
            let within = token::unwrap(&snapshot, AUDIENCE, token);
            return self.inspect(within.as_deref().unwrap_or(token)).await;
        }
        let claims = claims(&snapshot, token)?;
        let end = claims["exp"].as_i64().and_then(|s| Time::from_second(s).ok()).ok_or_else(unauthorized)?;
        let project = claims["project"].as_str().filter(|_| claims["aud"] == AUDIENCE).ok_or_else(unauthorized)?;
        let now = Time::now();
        if end <= now {
            return Err(unauthorized());
        }
        let project = token::project(&snapshot, project)?;
        let reader = roles::global(&snapshot, "reader");
        Ok(Principal {
            identity: Identity::Keystone,
            user_id: "host".to_owned(),
            user_name: "host".to_owned(),
            user_domain_id: model::DEFAULT_DOMAIN.to_owned(),
            scope: Scope::Project {
                id: project.id.clone(),
                name: project.name.clone(),
                domain_id: project.domain_id.clone(),
            },
            roles: reader.map_or_else(|| vec![RoleRef { id: String::new(), name: "reader".to_owned() }], |r| vec![r]),
            methods: vec!["pull".to_owned()],
            audit_ids: Vec::new(),
            issued_at: now,
            expires_at: end,
            app_credential_id: None,
            trust: None,
            kube_groups: Vec::new(),
            kube_cluster: None,
        })
    }
}
