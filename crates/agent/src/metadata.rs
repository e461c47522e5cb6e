//! What a guest may ask of 169.254.169.254: its own name, keys and user data, in EC2's and in OpenStack's form. The
//! network driver says from which port the question came; nobody can ask for another.

use std::sync::{Arc, OnceLock};

use base64::Engine;
use model::{Index, Port, Server, Snapshot};
use serde_json::{Value, json};
use store::Store;

/// Answers from the rows.
pub struct Answers {
    store: Store,
}

impl Answers {
    pub fn new(store: Store) -> Arc<Self> {
        Arc::new(Self { store })
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
        let snapshot = self.store.snapshot();
        let port = snapshot.get::<Port>(port_id);
        let Some(server) = port.and_then(|port| snapshot.get::<Server>(&port.device_id)) else { return none() };
        answer(&snapshot, server.value, path)
    }
}

fn answer(snapshot: &Snapshot, server: &Server, path: &str) -> Answer {
    let path = path.split('?').next().unwrap_or("").trim_matches('/');
    let (version, rest) = path.split_once('/').unwrap_or((path, ""));
    match version {
        "" => text("1.0\n2009-04-04\nlatest\nopenstack\n"),
        "openstack" => openstack(snapshot, server, rest),
        "latest" | "1.0" | "2009-04-04" => ec2(snapshot, server, rest),
        _ => none(),
    }
}

fn user_data(server: &Server) -> Option<Vec<u8>> {
    let encoded = server.user_data.as_deref()?;
    base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()
}

fn addresses(snapshot: &Snapshot, server: &Server) -> Vec<String> {
    let mut ports: Vec<_> = snapshot.find::<Port>(Index::Owner, &server.id).collect();
    ports.sort_by_key(|port| (port.created_at, port.id.clone()));
    ports.iter().flat_map(|p| &p.value.fixed_ips).map(|f| f.ip.to_string()).collect()
}

fn ec2(snapshot: &Snapshot, server: &Server, path: &str) -> Answer {
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
        "meta-data/local-ipv4" => addresses(snapshot, server).first().map_or_else(none, |ip| text(ip.clone())),
        "meta-data/placement" => text("availability-zone\n"),
        "meta-data/placement/availability-zone" => {
            text(server.availability_zone.clone().unwrap_or_else(|| "nova".into()))
        }
        "meta-data/public-keys" if key.is_some() => text(format!("0={name}")),
        "meta-data/public-keys/0" if key.is_some() => text("openssh-key"),
        "meta-data/public-keys/0/openssh-key" => key.map_or_else(none, |k| text(format!("{}\n", k.trim()))),
        _ => none(),
    }
}

fn openstack(snapshot: &Snapshot, server: &Server, path: &str) -> Answer {
    /// Versions of OpenStack's metadata that this form satisfies.
    const VERSIONS: [&str; 6] = ["2012-08-10", "2013-04-04", "2015-10-15", "2017-02-22", "2018-08-27", "latest"];
    let (version, rest) = path.split_once('/').unwrap_or((path, ""));
    if version.is_empty() {
        return text(VERSIONS.join("\n"));
    }
    if !VERSIONS.contains(&version) {
        return none();
    }
    match rest {
        "" => text("meta_data.json\nuser_data\nnetwork_data.json\nvendor_data.json\n"),
        "meta_data.json" => body(&meta_data(server)),
        "network_data.json" => body(&network_data(snapshot, server)),
        "vendor_data.json" => body(&json!({})),
        "user_data" => user_data(server).map_or_else(none, text),
        _ => none(),
    }
}

fn body(value: &Value) -> Answer {
    (200, "application/json", value.to_string().into_bytes())
}

fn meta_data(server: &Server) -> Value {
    let mut meta = json!({
        "uuid": server.id, "name": server.name, "hostname": server.hostname, "project_id": server.project_id,
        "launch_index": server.launch_index, "meta": server.metadata,
        "availability_zone": server.availability_zone.clone().unwrap_or_else(|| "nova".into()),
        "random_seed": seed(server), "devices": [],
    });
    if let (Some(name), Some(key)) = (&server.key_name, &server.public_key) {
        meta["public_keys"] = json!({name: key});
        meta["keys"] = json!([{"name": name, "type": "ssh", "data": key}]);
    }
    meta
}

fn network_data(snapshot: &Snapshot, server: &Server) -> Value {
    let mut ports: Vec<_> = snapshot.find::<Port>(Index::Owner, &server.id).collect();
    ports.sort_by_key(|port| (port.created_at, port.id.clone()));
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
