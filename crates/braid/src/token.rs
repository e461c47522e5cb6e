//! `braid token`: kubectl's exec credential plugin. It logs in with the environment's OpenStack credentials, or those of
//! the cloud's folder, and keeps the token until shortly before it expires.

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
    user: String,
    password: String,
    project: String,
    user_domain: String,
    project_domain: String,
}

impl Login {
    fn new(dir: &Dir, who: Who) -> Result<Self, Problem> {
        let access = Access::read(dir)?;
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let password = match var("OS_PASSWORD") {
            Some(password) if var("OS_USERNAME").is_some() => password,
            _ => dir.read_password(who)?,
        };
        Ok(Self {
            user: var("OS_USERNAME").filter(|_| var("OS_PASSWORD").is_some()).unwrap_or_else(|| who.user().to_owned()),
            password,
            project: var("OS_PROJECT_NAME").unwrap_or_else(|| access.project.clone()),
            user_domain: var("OS_USER_DOMAIN_NAME").unwrap_or_else(|| "Default".into()),
            project_domain: var("OS_PROJECT_DOMAIN_NAME").unwrap_or_else(|| "Default".into()),
            access,
            who,
        })
    }

    /// Names the login. A changed password revokes the token, so it need not be part of it.
    fn identity(&self) -> String {
        let parts = [&self.user, &self.project, &self.user_domain, &self.project_domain];
        model::derived_id(&parts.map(String::as_str))
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
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": self.user, "password": self.password, "domain": {"name": self.user_domain}}}},
            "scope": {"project": {"name": self.project, "domain": {"name": self.project_domain}}},
        }});
        let request = Request::post("/identity/v3/auth/tokens?nocatalog")
            .header("host", &self.access.authority)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .map_err(|e| Problem::words(format!("asking for a token: {e}")))?;
        let answer = client::https(dir, &self.access.authority, request).await?;
        let token = answer.headers.get("x-subject-token").and_then(|t| t.to_str().ok());
        let (201, Some(token)) = (answer.status, token) else {
            let message = answer.json()["error"]["message"].as_str().unwrap_or("no reason given").to_owned();
            return Err(Problem::words(format!("no token for user {}: {message} ({})", self.user, answer.status)));
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
