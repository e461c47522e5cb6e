//! `braid env` and the kubeconfig: how people log in.

use std::net::SocketAddr;
use std::process::ExitCode;

use base64::Engine as _;
use clap::Args;
use clap::builder::FalseyValueParser;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::paths::{Dir, Who, read_text, write_private};
use crate::{DirArg, Problem, say};

/// Who to log in as.
#[derive(Args, Clone, Copy)]
pub struct WhoArg {
    /// Log in as the cloud's administrator instead of a member of the project demo
    #[arg(long, env = "BRAID_ADMIN", value_parser = FalseyValueParser::new())]
    admin: bool,
}

impl WhoArg {
    pub fn who(self) -> Who {
        if self.admin { Who::Admin } else { Who::Member }
    }
}

#[derive(Args)]
pub struct EnvArgs {
    #[command(flatten)]
    dir: DirArg,
    #[command(flatten)]
    who: WhoArg,
    /// Log in to this project instead of demo, if the user has a role there
    #[arg(long)]
    project: Option<String>,
}

/// How to reach the cloud: written by `up`, read by the other commands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Access {
    /// `127.0.0.1:8443`
    pub authority: String,
    pub project: String,
    /// Where the next start listens, unless it is told.
    pub listen: Option<SocketAddr>,
    /// The id of the Kubernetes cluster of the project demo.
    pub cluster_id: String,
    /// Whether the cloud's VMs, pods and networks are simulated; `None`: an older braid wrote this.
    #[serde(default)]
    pub simulated: Option<bool>,
}

impl Access {
    pub fn read(dir: &Dir) -> Result<Self, Problem> {
        let text = read_text(&dir.access())?;
        serde_json::from_str(&text).map_err(|e| Problem::words(format!("{}: {e}", dir.access().display())))
    }

    pub fn write(&self, dir: &Dir) -> Result<(), Problem> {
        write_private(&dir.access(), json!(self).to_string().as_bytes())?;
        self.write_kubeconfig(dir, Who::Member)?;
        self.write_kubeconfig(dir, Who::Admin)
    }

    fn write_kubeconfig(&self, dir: &Dir, who: Who) -> Result<(), Problem> {
        let mut args = vec!["token".to_owned(), "--dir".to_owned(), dir.path().display().to_string()];
        args.extend((who == Who::Admin).then(|| "--admin".to_owned()));
        let user = who.user();
        let program = std::env::current_exe().map_err(Problem::io("finding this program"))?;
        let ca = read_text(&dir.ca())?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "demo",
            "clusters": [{"name": "demo", "cluster": {
                "server": format!("https://{}/clusters/{}", self.authority, self.cluster_id),
                "certificate-authority-data": base64::engine::general_purpose::STANDARD.encode(&ca),
            }}],
            "users": [{"name": user, "user": {"exec": {
                "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": program,
                "args": args,
            }}}],
            "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": user, "namespace": "default"}}],
        });
        write_private(&dir.kubeconfig(who), format!("{config:#}\n").as_bytes())
    }
}

pub fn run(args: &EnvArgs) -> Result<ExitCode, Problem> {
    let dir = Dir::open(&args.dir.dir)?;
    let access = Access::read(&dir)?;
    let who = args.who.who();
    let password = dir.read_password(who)?;
    let exports = [
        ("OS_AUTH_URL", format!("https://{}/identity/v3", access.authority)),
        ("OS_USERNAME", who.user().to_owned()),
        ("OS_PASSWORD", password),
        ("OS_PROJECT_NAME", args.project.clone().unwrap_or(access.project)),
        ("OS_USER_DOMAIN_NAME", "Default".to_owned()),
        ("OS_PROJECT_DOMAIN_NAME", "Default".to_owned()),
        ("OS_IDENTITY_API_VERSION", "3".to_owned()),
        ("OS_REGION_NAME", "RegionOne".to_owned()),
        ("OS_CACERT", dir.ca().display().to_string()),
        ("KUBECONFIG", dir.kubeconfig(who).display().to_string()),
        // The cloud that the other commands are about.
        ("BRAID_DIR", dir.path().display().to_string()),
    ];
    for (name, value) in exports {
        say(format_args!("export {name}={}", quoted(&value)));
    }
    Ok(ExitCode::SUCCESS)
}

/// As one word for a shell.
pub fn quoted(text: &str) -> String {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "/:._-@".contains(c)) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_for_shells() {
        assert_eq!(quoted("https://a:1/b"), "https://a:1/b");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
