//! Client certificates over the wire: each cluster has an authority of its own, and the cloud's is nothing to it.

use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use serde_json::Value;

fn braid_of(folder: &Path, arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_braid")).args(arguments).arg("--dir").arg(folder).output().unwrap()
}

fn braid(folder: &Path, arguments: &[&str]) {
    let output = braid_of(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Ends the cloud, also when the test fails.
struct Ends<'a>(&'a Path);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        braid_of(self.0, &["down", "--purge"]);
    }
}

/// Writes a client certificate of an authority, with its key, to a file for curl.
fn certificate(authority: &str, key: &str, file: &Path) {
    let issuer = Issuer::from_ca_cert_pem(authority, KeyPair::from_pem(key).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "ann");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let own = KeyPair::generate().unwrap();
    let signed = params.signed_by(&own, &issuer).unwrap();
    std::fs::write(file, format!("{}{}", signed.pem(), own.serialize_pem())).unwrap();
}

#[test]
fn a_cluster_is_opened_by_its_own_authority_alone() {
    let root = tempfile::tempdir().unwrap();
    let cloud = root.path().join("cloud");
    let _ends = Ends(&cloud);
    let up = ["up", "--detach", "--sim", "--listen", "127.0.0.1:0"];
    braid(&cloud, &up);
    braid(&cloud, &["down"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let authority = runtime.block_on(async {
        let store = store::Store::open_sqlite(cloud.join("store.db")).await.unwrap();
        let authority = store.snapshot().all::<model::Cluster>().next().unwrap().authority.clone().unwrap();
        store.close().await;
        authority
    });
    braid(&cloud, &up);
    let (own, foreign) = (root.path().join("own.pem"), root.path().join("foreign.pem"));
    certificate(&authority.certificate, &authority.key, &own);
    let read = |name: &str| std::fs::read_to_string(cloud.join(name)).unwrap();
    certificate(&read("ca.pem"), &read("ca.key"), &foreign);
    let access: Value = serde_json::from_str(&read("access.json")).unwrap();
    let text = |name: &str| access[name].as_str().unwrap();
    let url = format!("https://{}/clusters/{}/api/v1/namespaces", text("authority"), text("cluster_id"));
    let ask = |certificate: Option<&Path>, version: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--tls-max", version, "--cacert"])
            .arg(cloud.join("ca.pem"));
        if let Some(file) = certificate {
            curl.arg("--cert").arg(file);
        }
        String::from_utf8(curl.arg(&url).output().unwrap().stdout).unwrap()
    };
    for version in ["1.3", "1.2"] {
        let seen = [Some(own.as_path()), Some(foreign.as_path()), None].map(|file| ask(file, version));
        assert_eq!(seen, ["200", "401", "401"], "{version}");
    }
}
