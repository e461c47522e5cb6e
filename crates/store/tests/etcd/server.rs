//! An etcd server for one test: free ports on loopback, a folder that vanishes with it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use store::Store;

/// What the store's own limits need, see the documentation of the backend.
const LIMITS: [&str; 2] = ["--max-txn-ops=65536", "--max-request-bytes=16777216"];

pub struct Server {
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    ports: [u16; 2],
    process: Child,
}

impl Server {
    /// Starts one with these arguments besides the usual ones, and waits until it answers.
    pub async fn start(more: &[&str]) -> Self {
        let arguments: Vec<String> =
            LIMITS.iter().filter(|a| !more.iter().any(|m| same(m, a))).chain(more).map(|a| a.to_string()).collect();
        loop {
            let (folder, ports) = (tempfile::tempdir().unwrap(), [free_port(), free_port()]);
            let process = spawn(folder.path(), &arguments, ports);
            let mut server = Self { folder, arguments: arguments.clone(), ports, process };
            // Somebody may have taken a port meanwhile: then it ends at once.
            if server.answers().await {
                return server;
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    pub fn url(&self) -> String {
        format!("etcd://127.0.0.1:{}/test", self.port())
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again where it was.
    pub async fn restart(&mut self) {
        self.process = spawn(self.folder.path(), &self.arguments, self.ports);
        assert!(self.answers().await);
    }

    async fn answers(&mut self) -> bool {
        let end = Instant::now() + Duration::from_secs(60);
        let url = format!("etcd://127.0.0.1:{}/probe", self.port());
        loop {
            if let Ok(store) = Store::open_etcd(&url).await {
                store.close().await;
                return true;
            }
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < end, "etcd does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn same(one: &str, other: &str) -> bool {
    one.split('=').next() == other.split('=').next()
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(folder: &std::path::Path, arguments: &[String], [client, peer]: [u16; 2]) -> Child {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    Command::new("etcd")
        .arg(format!("--data-dir={}", folder.join("data").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .args(arguments)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd is installed (Debian: etcd-server)")
}
