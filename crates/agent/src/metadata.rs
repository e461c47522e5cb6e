//! What a guest may ask of 169.254.169.254: its own name, keys and user data, in EC2's and in OpenStack's form. The
//! network driver says from which port the question came, and the port's row which server holds it. The same, as files, is
//! on the config drive of servers that asked for one.
//!
//! The administrator's password reaches the guest in both ways. Nova has it on the config drive alone, since its metadata
//! service cannot know it; it is no better kept there than user data, which is in both.
//!
//! One thing a guest may say: the password that it made for itself, encrypted for whoever has its key. It is kept in the
//! server's row, once, until a user takes it away.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use model::host_report::Report;
use model::host_view::VmView;
use model::{Fault, InjectedFile, Server};
use serde_json::{Value, json};

use crate::cloud::Cloud;

/// Answers by what the host knows.
pub struct Answers {
    cloud: Arc<dyn Cloud>,
}

impl Answers {
    pub fn new(cloud: Arc<dyn Cloud>) -> Arc<Self> {
        Arc::new(Self { cloud })
    }
}

type Answer = (u16, &'static str, Vec<u8>);

fn text(body: impl Into<Vec<u8>>) -> Answer {
    (200, "text/plain; charset=utf-8", body.into())
}

fn none() -> Answer {
    (404, "text/plain; charset=utf-8", b"not found\n".to_vec())
}

#[async_trait::async_trait]
impl driver::Metadata for Answers {
    async fn get(&self, port_id: &str, path: &str) -> Answer {
        let Some(of) = self.cloud.view().vm_of_port(port_id) else { return none() };
        of.server.as_ref().map_or_else(none, |server| answer(&of, server, path))
    }

    async fn post(&self, port_id: &str, path: &str, body: &[u8]) -> Answer {
        if !is_password(path) {
            return (404, "text/plain; charset=utf-8", b"nothing can be sent there\n".to_vec());
        }
        let Some(password) = std::str::from_utf8(body).ok().filter(|text| text.len() <= Server::MOST_PASSWORD) else {
            let why = format!("A password is text of at most {} bytes.\n", Server::MOST_PASSWORD);
            return (400, "text/plain; charset=utf-8", why.into_bytes());
        };
        let report = Report::Password { port: port_id.to_owned(), password: password.to_owned() };
        match self.cloud.report(report).await {
            Ok(_) => text(""),
            Err(Fault::NotFound { .. }) => none(),
            Err(Fault::Conflict(why)) => (409, "text/plain; charset=utf-8", why.into_bytes()),
            Err(fault) => {
                tracing::warn!(port = port_id, %fault, "a guest's password was not kept");
                (503, "text/plain; charset=utf-8", b"try again later\n".to_vec())
            }
        }
    }
}

/// It is where a guest tells its password: since the version in which Nova began to take it.
fn is_password(path: &str) -> bool {
    let mut parts = path.split('?').next().unwrap_or("").trim_matches('/').split('/');
    let (service, version, name) = (parts.next(), parts.next().unwrap_or(""), parts.next());
    service == Some("openstack")
        && VERSIONS[1..].contains(&version)
        && name == Some("password")
        && parts.next().is_none()
}

fn answer(of: &VmView, server: &Server, path: &str) -> Answer {
    let path = path.split('?').next().unwrap_or("").trim_matches('/');
    let (version, rest) = path.split_once('/').unwrap_or((path, ""));
    match version {
        "" => text("1.0\n2009-04-04\nlatest\nopenstack\n"),
        "openstack" => openstack(of, server, rest),
        "latest" | "1.0" | "2009-04-04" => ec2(of, server, rest),
        _ => none(),
    }
}

fn user_data(server: &Server) -> Option<Vec<u8>> {
    decoded(server.user_data.as_deref()?)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()
}

/// Where the bytes of a server's file are, below `openstack/`.
fn content_path(index: usize) -> String {
    format!("content/{index:04}")
}

fn addresses(of: &VmView) -> Vec<String> {
    of.ports.iter().flat_map(|port| &port.fixed_ips).map(|fixed| fixed.ip.to_string()).collect()
}

fn ec2(of: &VmView, server: &Server, path: &str) -> Answer {
    let key = server.public_key.as_deref();
    let name = server.key_name.as_deref().unwrap_or("key");
    match path {
        "" => text("meta-data\nuser-data\n"),
        "user-data" => user_data(server).map_or_else(none, text),
        "meta-data" => {
            let keys = if key.is_some() { "public-keys/\n" } else { "" };
            text(format!(
                "ami-id\nhostname\ninstance-id\ninstance-type\nlocal-hostname\nlocal-ipv4\nplacement/\n{keys}reservation-id\n"
            ))
        }
        "meta-data/hostname" | "meta-data/local-hostname" => text(server.hostname.clone()),
        // EC2's form of an id; the same server always gives the same.
        "meta-data/instance-id" => text(format!("i-{}", server.id.get(..8).unwrap_or(&server.id))),
        "meta-data/instance-type" => text(server.flavor.name.clone()),
        "meta-data/ami-id" => text(server.image_id.clone().unwrap_or_default()),
        "meta-data/reservation-id" => text(server.reservation_id.clone()),
        "meta-data/local-ipv4" => addresses(of).first().map_or_else(none, |ip| text(ip.clone())),
        "meta-data/placement" => text("availability-zone\n"),
        "meta-data/placement/availability-zone" => text(of.zone.clone()),
        "meta-data/public-keys" if key.is_some() => text(format!("0={name}")),
        "meta-data/public-keys/0" if key.is_some() => text("openssh-key"),
        "meta-data/public-keys/0/openssh-key" => key.map_or_else(none, |k| text(format!("{}\n", k.trim()))),
        _ => none(),
    }
}

/// Versions of OpenStack's metadata that this form satisfies.
const VERSIONS: [&str; 6] = ["2012-08-10", "2013-04-04", "2015-10-15", "2017-02-22", "2018-08-27", "latest"];

/// The files of a config drive by path.
pub fn files(of: &VmView, server: &Server) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let user_data = user_data(server);
    let (meta, network) = (meta_data(of, server).to_string(), network_data(of).to_string());
    for version in VERSIONS {
        let mut put = |name: &str, bytes: &[u8]| files.insert(format!("openstack/{version}/{name}"), bytes.to_vec());
        put("meta_data.json", meta.as_bytes());
        put("network_data.json", network.as_bytes());
        put("vendor_data.json", b"{}");
        user_data.as_ref().map(|bytes| put("user_data", bytes));
    }
    for (index, file) in server.files.iter().enumerate() {
        files.insert(format!("openstack/{}", content_path(index)), decoded(&file.contents).unwrap_or_default());
    }
    let ec2 = ec2_data(of, server).to_string();
    for version in ["2009-04-04", "latest"] {
        let mut put = |name: &str, bytes: &[u8]| files.insert(format!("ec2/{version}/{name}"), bytes.to_vec());
        put("meta-data.json", ec2.as_bytes());
        user_data.as_ref().map(|bytes| put("user-data", bytes));
    }
    files
}

/// EC2's metadata in one object: every path that the service answers.
fn ec2_data(of: &VmView, server: &Server) -> Value {
    const PLAIN: [&str; 7] =
        ["ami-id", "hostname", "instance-id", "instance-type", "local-hostname", "local-ipv4", "reservation-id"];
    let value = |name: &str| match ec2(of, server, &format!("meta-data/{name}")) {
        (200, _, bytes) => json!(String::from_utf8_lossy(&bytes).trim_end()),
        _ => Value::Null,
    };
    let mut data: Value = PLAIN.iter().map(|name| ((*name).to_owned(), value(name))).collect();
    data["placement"] = json!({"availability-zone": value("placement/availability-zone")});
    if server.public_key.is_some() {
        data["public-keys"] =
            json!({"0": {"_name": server.key_name, "openssh-key": value("public-keys/0/openssh-key")}});
    }
    data
}

fn openstack(of: &VmView, server: &Server, path: &str) -> Answer {
    let (version, rest) = path.split_once('/').unwrap_or((path, ""));
    if version.is_empty() {
        return text(VERSIONS.join("\n"));
    }
    if version == "content" {
        let file = server.files.iter().enumerate().find(|(index, _)| content_path(*index) == path);
        let bytes = file.and_then(|(_, file)| decoded(&file.contents));
        return bytes.map_or_else(none, |bytes| (200, "application/octet-stream", bytes));
    }
    if !VERSIONS.contains(&version) {
        return none();
    }
    match rest {
        "" => text("meta_data.json\nuser_data\nnetwork_data.json\nvendor_data.json\npassword\n"),
        "meta_data.json" => body(&meta_data(of, server)),
        "network_data.json" => body(&network_data(of)),
        "vendor_data.json" => body(&json!({})),
        "user_data" => user_data(server).map_or_else(none, text),
        "password" if is_password(&format!("openstack/{path}")) => {
            text(server.guest_password.clone().unwrap_or_default())
        }
        _ => none(),
    }
}

fn body(value: &Value) -> Answer {
    (200, "application/json", value.to_string().into_bytes())
}

fn meta_data(of: &VmView, server: &Server) -> Value {
    let mut meta = json!({
        "uuid": server.id, "name": server.name, "hostname": server.hostname, "project_id": server.project_id,
        "launch_index": server.launch_index, "meta": server.metadata,
        "availability_zone": of.zone.clone(),
        "random_seed": seed(server), "devices": [],
    });
    if !server.files.is_empty() {
        let files = server.files.iter().enumerate();
        let place = |(index, file): (usize, &InjectedFile)| json!({"path": file.path, "content_path": format!("/{}", content_path(index))});
        meta["files"] = files.map(place).collect();
    }
    if let Some(password) = &server.admin_pass {
        meta["admin_pass"] = json!(password);
    }
    if let (Some(name), Some(key)) = (&server.key_name, &server.public_key) {
        meta["public_keys"] = json!({name: key});
        meta["keys"] = json!([{"name": name, "type": "ssh", "data": key}]);
    }
    meta
}

fn network_data(of: &VmView) -> Value {
    let ports = &of.ports;
    let links: Vec<Value> = ports
        .iter()
        .map(|p| json!({"id": format!("tap{}", p.short()), "vif_id": p.id, "type": "tap", "ethernet_mac_address": p.mac}))
        .collect();
    let networks: Vec<Value> = ports
        .iter()
        .enumerate()
        .map(|(i, p)| {
            json!({"id": format!("network{i}"), "type": "ipv4_dhcp", "link": format!("tap{}", p.short()), "network_id": p.network_id})
        })
        .collect();
    json!({"links": links, "networks": networks, "services": []})
}

/// Bytes that differ by server and by start of this process; guests stir them into their pool.
fn seed(server: &Server) -> String {
    static PROCESS: OnceLock<String> = OnceLock::new();
    let process = PROCESS.get_or_init(|| uuid::Uuid::new_v4().to_string());
    let mut bytes = Vec::new();
    for part in 0..32 {
        bytes.extend_from_slice(model::derived_id(&[process, &server.id, &part.to_string()]).as_bytes());
    }
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        serde_json::from_value(json!({
            "id": "0f8ad2a8-0000-4000-8000-000000000001", "project_id": "p", "user_id": "u", "name": "vm1",
            "hostname": "vm1", "image_id": "i", "key_name": "k", "public_key": "ssh-ed25519 AAAA", "nics": [],
            "user_data": "IyEvYmluL3NoCg==", "files": [{"path": "/etc/motd", "contents": "aGVsbG8K"}], "reservation_id": "r-1", "admin_pass": "secret", "power": true,
            "incarnation": 1, "created_at": "2030-01-01T00:00:00Z", "updated_at": "2030-01-01T00:00:00Z",
            "flavor": {"id": "f", "name": "m1.tiny", "vcpus": 1, "ram": 96, "disk": 1, "ephemeral": 0, "swap": 0,
                "is_public": true, "access": [], "extra_specs": {}},
        }))
        .unwrap()
    }

    fn view() -> VmView {
        let vm = json!({"server_id": server().id, "project_id": "p", "incarnation": 1, "host": "h", "source": null,
            "cpu_milli": 0, "memory_mib": 0, "disk_gib": 0, "deleting": false, "decision": [],
            "status": model::VmStatus::default(), "created_at": "2030-01-01T00:00:00Z"});
        let vm = serde_json::from_value(vm).unwrap();
        VmView { vm, server: Some(server()), ports: vec![], zone: "nova".into(), saving: None }
    }

    #[test]
    fn a_config_drive_says_what_the_service_says() {
        let (of, server) = (view(), server());
        let files = files(&of, &server);
        let json = |path: &str| serde_json::from_slice::<Value>(&files[path]).unwrap();
        for path in ["meta_data.json", "network_data.json", "vendor_data.json", "user_data"] {
            let path = format!("openstack/latest/{path}");
            let (status, _, said) = answer(&of, &server, &path);
            assert_eq!((status, &said), (200, &files[&path]), "{path}");
        }
        let meta = json("openstack/latest/meta_data.json");
        assert_eq!(meta["admin_pass"], "secret");
        assert_eq!(meta["files"], serde_json::json!([{"path": "/etc/motd", "content_path": "/content/0000"}]));
        let (status, _, said) = answer(&of, &server, "openstack/content/0000");
        assert_eq!((status, said.as_slice(), &files["openstack/content/0000"]), (200, &b"hello\n"[..], &said));
        assert_eq!(answer(&of, &server, "openstack/content/0001").0, 404);
        assert_eq!(files["openstack/2018-08-27/user_data"], b"#!/bin/sh\n");
        let ec2 = json("ec2/latest/meta-data.json");
        assert_eq!((&ec2["hostname"], &ec2["instance-id"]), (&json!("vm1"), &json!("i-0f8ad2a8")));
        assert_eq!(ec2["public-keys"]["0"]["openssh-key"], "ssh-ed25519 AAAA");
        assert_eq!(files["ec2/latest/user-data"], files["openstack/latest/user_data"]);
    }
}
