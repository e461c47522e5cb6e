//! The real binary with simulated hosts, and the clients that talk to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// One process of a cloud and its folder.
pub struct Braid {
    pub dir: PathBuf,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Braid {
    /// Starts one in a folder of its own under `root`; all of one root share images.
    pub fn start(root: &Path, name: &str, arguments: &[&str]) -> Self {
        let images = root.join("images");
        std::fs::create_dir_all(&images).unwrap();
        for file in ["tiny.vmlinux", "tiny.initrd", "tiny.img"] {
            std::fs::write(images.join(file), file).unwrap();
        }
        let (dir, blobs) = (root.join(name), root.join("blobs"));
        std::fs::create_dir_all(&dir).unwrap();
        let own = [
            "up".to_owned(),
            "--sim".into(),
            "--listen=127.0.0.1:0".into(),
            format!("--dir={}", dir.display()),
            format!("--host-name={name}"),
            format!("--images={}", images.display()),
            format!("--blobs={}", blobs.display()),
        ];
        let arguments = own.into_iter().chain(arguments.iter().map(|a| a.to_string())).collect();
        let mut braid = Self { dir, arguments, process: None };
        braid.restart();
        braid
    }

    /// Starts it (again); [`Braid::ready`] waits for it.
    pub fn restart(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("test.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_braid"));
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    pub fn ready(&mut self) {
        eventually("it is ready", || {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", self.log());
            self.status().filter(|status| !status["ready_ms"].is_null())
        });
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// As `braid down` does.
    pub fn down(&mut self) {
        let (done, _, error) = self.command(&["down"]);
        assert!(done, "{error}");
        self.process.take().unwrap().wait().unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("test.log")).unwrap_or_default()
    }

    /// Runs a command about this folder: whether it succeeded, its output, its errors.
    pub fn command(&self, arguments: &[&str]) -> (bool, String, String) {
        run(Command::new(env!("CARGO_BIN_EXE_braid")).args(arguments).arg("--dir").arg(&self.dir))
    }

    /// What `braid status` says; none while nobody answers.
    pub fn status(&self) -> Option<Value> {
        serde_json::from_str(&self.command(&["status", "--json"]).1).ok()
    }

    pub fn plans_here(&self) -> bool {
        self.status().is_some_and(|status| status["plans_here"] == true)
    }

    pub fn password(&self) -> PathBuf {
        self.dir.join("admin-password")
    }

    /// Gives it the passwords of a cloud that another process made.
    pub fn take_passwords(&self, of: &Self) {
        for name in ["admin-password", "demo-password"] {
            std::fs::copy(of.dir.join(name), self.dir.join(name)).unwrap();
        }
    }

    fn access(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.dir.join("access.json")).unwrap()).unwrap()
    }

    /// A token of the user admin for the project demo.
    pub fn token(&self) -> String {
        let (done, output, error) = self.command(&["token", "--admin"]);
        assert!(done, "{error}");
        let credential: Value = serde_json::from_str(&output).unwrap();
        credential["status"]["token"].as_str().unwrap().to_owned()
    }

    /// The path of a collection of the cluster demo, in the namespace default.
    pub fn kube(&self, rest: &str) -> String {
        format!("/clusters/{}/api/v1/namespaces/default/{rest}", self.access()["cluster_id"].as_str().unwrap())
    }

    /// A curl that trusts the cloud, with a token.
    fn curl(&self, token: &str, path: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--cacert"]).arg(self.dir.join("ca.pem"));
        curl.arg("--header").arg(format!("Authorization: Bearer {token}"));
        curl.arg("--header").arg(format!("X-Auth-Token: {token}"));
        curl.arg(format!("https://{}{path}", self.access()["authority"].as_str().unwrap()));
        curl
    }

    pub fn get(&self, token: &str, path: &str) -> (u16, Value) {
        answer(self.curl(token, path).args(["--write-out", "\n%{http_code}"]))
    }

    pub fn post(&self, token: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut curl = self.curl(token, path);
        curl.args(["--header", "Content-Type: application/json", "--write-out", "\n%{http_code}"]);
        answer(curl.arg("--data").arg(body.to_string()))
    }

    /// A running watch, which prints an event a line.
    pub fn watch(&self, token: &str, path: &str) -> Child {
        self.curl(token, path).args(["--no-buffer"]).stdout(Stdio::piped()).spawn().unwrap()
    }

    pub fn config_map(&self, token: &str, name: &str) -> Value {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let (status, made) = self.post(token, &self.kube("configmaps"), &body);
        assert_eq!(status, 201, "{made}");
        made
    }

    /// The real kubectl, which must succeed.
    pub fn kubectl(&self, line: &str) -> String {
        let kubectl = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into());
        let mut command = Command::new(kubectl);
        command.args(line.split_whitespace()).env("KUBECONFIG", self.dir.join("kubeconfig"));
        // kubectl keeps what it discovered in the home directory.
        succeed(command.env("HOME", &self.dir), line)
    }

    /// The real openstack client, which must succeed.
    pub fn openstack(&self, line: &str) -> String {
        let home = std::env::var("HOME").unwrap_or_default();
        let venv = std::env::var("BRAID_VENV").unwrap_or_else(|_| format!("{home}/.cache/braid/venv"));
        let mut command = Command::new(format!("{venv}/bin/openstack"));
        let password = std::fs::read_to_string(self.password()).unwrap();
        command.args(line.split_whitespace()).env("OS_PASSWORD", password.trim());
        let url = format!("https://{}/identity/v3", self.access()["authority"].as_str().unwrap());
        command.env("OS_AUTH_URL", url).env("OS_CACERT", self.dir.join("ca.pem"));
        command.envs([("OS_USERNAME", "admin"), ("OS_PROJECT_NAME", "demo"), ("OS_IDENTITY_API_VERSION", "3")]);
        command.envs([("OS_USER_DOMAIN_NAME", "Default"), ("OS_PROJECT_DOMAIN_NAME", "Default")]);
        succeed(&mut command, line)
    }
}

impl Drop for Braid {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            _ = process.kill();
            _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {}:\n{}", self.dir.display(), self.log());
        }
    }
}

fn run(command: &mut Command) -> (bool, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn succeed(command: &mut Command, line: &str) -> String {
    let (done, output, error) = run(command);
    assert!(done, "{line}: {output}{error}");
    output
}

fn answer(curl: &mut Command) -> (u16, Value) {
    let (_, output, error) = run(curl);
    let (body, status) = output.rsplit_once('\n').unwrap_or_else(|| panic!("{curl:?}: {error}"));
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|_| json!(format!("{body}{error}"))))
}

/// Waits for a condition, which gives what it waited for.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "in {SOON:?} it never came true that {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}
