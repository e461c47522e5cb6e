//! `braid token`: kubectl's exec credential plugin. It logs in as the `openstack` client beside it would, with the
//! environment's password or application credential, or with what the cloud's folder has, and keeps the token until shortly
//! before it expires. Refused: an environment that is of another cloud. Its password is nothing for this one.

use std::process::ExitCode;

use axum::body::Body;
use clap::Args;
use http::Request;
use model::Time;
use serde_json::{Value, json};

use crate::env::{Access, WhoArg};
use crate::paths::{Dir, Who, write_private};
use crate::{DirArg, Problem, client, say};

#[derive(Args)]
pub struct TokenArgs {
    #[command(flatten)]
    dir: DirArg,
    #[command(flatten)]
    who: WhoArg,
}

/// A token this near to its end is not handed out any more.
const MARGIN: jiff::SignedDuration = jiff::SignedDuration::from_mins(2);

pub fn run(args: &TokenArgs) -> Result<ExitCode, Problem> {
    crate::tls::install_provider();
    let dir = Dir::open(&args.dir.dir)?;
    let login = Login::new(&dir, args.who.who())?;
    let credential = match login.cached(&dir) {
        Some(credential) => credential,
        None => crate::small_runtime()?.block_on(login.fetch(&dir))?,
    };
    say(credential);
    Ok(ExitCode::SUCCESS)
}

struct Login {
    access: Access,
    who: Who,
    with: With,
}

/// What a token is asked for with.
#[cfg_attr(test, derive(Debug, PartialEq))]
enum With {
    Password { user: String, password: String, project: String, user_domain: String, project_domain: String },
    Credential { id: String, secret: String },
}

impl With {
    /// As the environment says, if it is of this cloud and says enough.
    fn of(var: impl Fn(&str) -> Option<String>, access: &Access) -> Option<Self> {
        let url = var("OS_AUTH_URL").unwrap_or_default();
        let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next());
        if authority.is_some_and(|authority| port(authority) != port(&access.authority)) {
            return None;
        }
        if let (Some(id), Some(secret)) = (var("OS_APPLICATION_CREDENTIAL_ID"), var("OS_APPLICATION_CREDENTIAL_SECRET"))
        {
            return Some(Self::Credential { id, secret });
        }
        Some(Self::Password {
            user: var("OS_USERNAME")?,
            password: var("OS_PASSWORD")?,
            project: var("OS_PROJECT_NAME").unwrap_or_else(|| access.project.clone()),
            user_domain: var("OS_USER_DOMAIN_NAME").unwrap_or_else(|| "Default".into()),
            project_domain: var("OS_PROJECT_DOMAIN_NAME").unwrap_or_else(|| "Default".into()),
        })
    }

    fn of_folder(dir: &Dir, who: Who, access: &Access) -> Result<Self, Problem> {
        let (user_domain, project_domain) = ("Default".to_owned(), "Default".to_owned());
        let (user, password) = (who.user().to_owned(), dir.read_password(who)?);
        Ok(Self::Password { user, password, project: access.project.clone(), user_domain, project_domain })
    }

    /// Who logs in, in words.
    fn name(&self) -> String {
        match self {
            Self::Password { user, project, .. } => format!("user {user} in the project {project}"),
            Self::Credential { id, .. } => format!("the application credential {id}"),
        }
    }

    fn body(&self) -> Value {
        match self {
            Self::Password { user, password, project, user_domain, project_domain } => json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": {
                    "name": user, "password": password, "domain": {"name": user_domain}}}},
                "scope": {"project": {"name": project, "domain": {"name": project_domain}}},
            }}),
            Self::Credential { id, secret } => json!({"auth": {"identity": {
                "methods": ["application_credential"], "application_credential": {"id": id, "secret": secret}}}}),
        }
    }
}

/// The same machine has many names and addresses.
fn port(authority: &str) -> &str {
    authority.rsplit_once(':').map_or("443", |(_, port)| port)
}

impl Login {
    fn new(dir: &Dir, who: Who) -> Result<Self, Problem> {
        let access = Access::read(dir)?;
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let with = match With::of(var, &access) {
            Some(with) => with,
            None => With::of_folder(dir, who, &access)?,
        };
        Ok(Self { access, who, with })
    }

    /// Names the login. A changed password revokes the token, so it need not be part of it.
    fn identity(&self) -> String {
        match &self.with {
            With::Password { user, project, user_domain, project_domain, .. } => {
                model::derived_id(&[user, project, user_domain, project_domain].map(String::as_str))
            }
            With::Credential { id, .. } => model::derived_id(&["application-credential", id]),
        }
    }

    fn cached(&self, dir: &Dir) -> Option<Value> {
        let cache: Value = serde_json::from_str(&std::fs::read_to_string(dir.token_cache(self.who)).ok()?).ok()?;
        if cache["login"].as_str() != Some(&self.identity()) {
            return None;
        }
        let expires: Time = cache["credential"]["status"]["expirationTimestamp"].as_str()?.parse().ok()?;
        (expires - MARGIN > Time::now()).then(|| cache["credential"].clone())
    }

    async fn fetch(&self, dir: &Dir) -> Result<Value, Problem> {
        let request = Request::post("/identity/v3/auth/tokens?nocatalog")
            .header("host", &self.access.authority)
            .header("content-type", "application/json")
            .body(Body::from(self.with.body().to_string()))
            .map_err(|e| Problem::words(format!("asking for a token: {e}")))?;
        let answer = client::https(dir, &self.access.authority, request).await?;
        let token = answer.headers.get("x-subject-token").and_then(|t| t.to_str().ok());
        let (201, Some(token)) = (answer.status, token) else {
            let message = answer.json()["error"]["message"].as_str().unwrap_or("no reason given").to_owned();
            return Err(Problem::words(format!("no token for {}: {message} ({})", self.with.name(), answer.status)));
        };
        let credential = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
            "status": {"token": token, "expirationTimestamp": answer.json()["token"]["expires_at"]},
        });
        let cache = json!({"login": self.identity(), "credential": credential});
        write_private(&dir.token_cache(self.who), cache.to_string().as_bytes())?;
        Ok(credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(environment: &[(&str, &str)]) -> Option<With> {
        let access = Access {
            authority: "127.0.0.1:8443".into(),
            project: "demo".into(),
            listen: None,
            cluster_id: String::new(),
            simulated: None,
        };
        let var = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        With::of(var, &access)
    }

    #[test]
    fn the_environment_says_who_logs_in_if_it_is_of_this_cloud() {
        let user =
            [("OS_USERNAME", "ann"), ("OS_PASSWORD", "secret"), ("OS_AUTH_URL", "https://here:8443/identity/v3")];
        let Some(With::Password { user: name, project, .. }) = with(&user) else { panic!("no password") };
        assert_eq!((name.as_str(), project.as_str()), ("ann", "demo"));
        let credential = [("OS_APPLICATION_CREDENTIAL_ID", "c"), ("OS_APPLICATION_CREDENTIAL_SECRET", "s")];
        let both = [&user[..], &credential].concat();
        assert_eq!(with(&both), Some(With::Credential { id: "c".into(), secret: "s".into() }));
        assert_eq!(with(&user[..1]), None, "the folder's user, not half of the environment's");
        let elsewhere = [user[0], user[1], ("OS_AUTH_URL", "https://here:9443/identity/v3")];
        assert_eq!(with(&elsewhere), None, "another cloud's password");
    }
}
