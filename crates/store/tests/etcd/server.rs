//! An etcd server for one test: free ports on loopback, a folder that vanishes with it, TLS if it is wanted.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use store::{EtcdTls, Store};

/// What the store's own limits need, see the documentation of the backend.
const LIMITS: [&str; 2] = ["--max-txn-ops=65536", "--max-request-bytes=16777216"];

pub struct Server {
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    ports: [u16; 2],
    tls: Option<Arc<Certificates>>,
    process: Child,
}

/// An authority, and what it gave to the server and to its clients: ca.pem, server.pem, server.key, client.pem,
/// client.key.
pub struct Certificates(tempfile::TempDir);

impl Certificates {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate with its issuer's name for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", authority.pem());
        for who in ["server", "client"] {
            let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
            params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
            write(&format!("{who}.pem"), params.signed_by(&key, &authority).unwrap().pem());
            write(&format!("{who}.key"), key.serialize_pem());
        }
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// For a client of the server: with or without a certificate of its own.
    pub fn client(&self, identity: bool) -> EtcdTls {
        let identity = identity.then(|| (self.text("client.pem"), self.text("client.key")));
        EtcdTls { ca: self.text("ca.pem"), identity }
    }
}

impl Server {
    /// Starts one with these arguments besides the usual ones, and waits until it answers.
    pub async fn start(more: &[&str]) -> Self {
        Self::start_with(more, None).await
    }

    /// Starts one that talks TLS only, with clients that have a certificate of its authority.
    pub async fn start_tls(more: &[&str]) -> (Self, Arc<Certificates>) {
        let tls = Arc::new(Certificates::new());
        (Self::start_with(more, Some(tls.clone())).await, tls)
    }

    async fn start_with(more: &[&str], tls: Option<Arc<Certificates>>) -> Self {
        let mut arguments: Vec<String> =
            LIMITS.iter().filter(|a| !more.iter().any(|m| same(m, a))).chain(more).map(|a| a.to_string()).collect();
        if let Some(tls) = &tls {
            let files = [("cert-file", "server.pem"), ("key-file", "server.key"), ("trusted-ca-file", "ca.pem")];
            arguments.extend(files.map(|(name, file)| format!("--{name}={}", tls.path(file).display())));
            arguments.push("--client-cert-auth".into());
        }
        let scheme = scheme(tls.is_some());
        loop {
            let (folder, ports) = (tempfile::tempdir().unwrap(), [free_port(), free_port()]);
            let process = spawn(folder.path(), scheme, &arguments, ports);
            let mut server = Self { folder, arguments: arguments.clone(), ports, tls: tls.clone(), process };
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
        self.url_of("test")
    }

    fn url_of(&self, prefix: &str) -> String {
        let scheme = if self.tls.is_some() { "etcds" } else { "etcd" };
        format!("{scheme}://127.0.0.1:{}/{prefix}", self.port())
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again where it was.
    pub async fn restart(&mut self) {
        self.process = spawn(self.folder.path(), scheme(self.tls.is_some()), &self.arguments, self.ports);
        assert!(self.answers().await);
    }

    async fn answers(&mut self) -> bool {
        let end = Instant::now() + Duration::from_secs(60);
        let url = self.url_of("probe");
        loop {
            let opened = match &self.tls {
                Some(tls) => Store::open_etcd_tls(&url, &tls.client(true)).await,
                None => Store::open_etcd(&url).await,
            };
            if let Ok(store) = opened {
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

fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

fn same(one: &str, other: &str) -> bool {
    one.split('=').next() == other.split('=').next()
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(folder: &std::path::Path, scheme: &str, arguments: &[String], [client, peer]: [u16; 2]) -> Child {
    let (client, peer) = (format!("{scheme}://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
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
