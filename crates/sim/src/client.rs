//! What API clients do beside servers and pods: they write from snapshots that may be old, want the same few names,
//! addresses and MACs, delete what others use, and follow the store by a watch that breaks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::FutureExt;
use model::{Change, Fault, FixedIp, Flavor, Index, Key, Port, Revision, SecurityGroup, Snapshot, Subnet};
use store::{Store, Watch};

use crate::World;
use crate::now;
use crate::rows::{NETWORK, PROJECT, SUBNET, flavor, network};

/// The most ports that clients keep for themselves: servers and pods need addresses too.
const PORTS: usize = 3;

impl World {
    /// Two clients at once: both look, then both write.
    pub(crate) async fn clients(&mut self) -> &'static str {
        let snapshot = self.some_snapshot();
        let mut changes = Vec::new();
        let what = self.chance.u8(0..4);
        for _ in 0..2 {
            changes.push(match what {
                0 => self.create_port(&snapshot),
                1 => self.delete_port(&snapshot),
                2 => self.security_group(&snapshot),
                _ => self.flavor(&snapshot),
            });
        }
        for change in changes {
            self.commit(&change).await;
        }
        ["create ports", "delete ports", "security groups", "flavors"][usize::from(what)]
    }

    /// A port with an address that was free when the client looked, and one of a few MACs.
    fn create_port(&mut self, snapshot: &Snapshot) -> Change {
        let own = |port: &Port| port.is_free();
        if snapshot.all::<Port>().filter(|port| own(port.value)).count() >= PORTS {
            return self.delete_port(snapshot);
        }
        let passed: Vec<IpAddr> = (2..2 + self.chance.u8(0..4)).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        let subnet = snapshot.get::<Subnet>(SUBNET);
        let ip = subnet.and_then(|subnet| model::allocate(snapshot, subnet.value, &passed));
        let mut macs = (0..3).map(|n| format!("fa:16:3e:00:00:{n:02x}"));
        let used = |mac: &String| snapshot.find::<Port>(Index::Network, NETWORK).any(|port| port.mac == *mac);
        let (Some(ip), Some(mac)) = (ip, macs.find(|mac| !used(mac))) else { return Change::new() };
        let groups = snapshot.all::<SecurityGroup>().filter(|group| group.name != "default");
        let mut port = port(&self.id(), mac);
        port.fixed_ips.push(FixedIp { subnet_id: SUBNET.into(), ip });
        port.security_groups = groups.map(|group| group.id.clone()).take(1).collect();
        Change::from(port)
    }

    fn delete_port(&mut self, snapshot: &Snapshot) -> Change {
        let mut change = Change::new();
        if let Some(port) = snapshot.all::<Port>().find(|port| port.is_free()) {
            change.delete(port);
        }
        change
    }

    /// Makes a security group, or deletes one although ports may use it, or puts it on a port.
    fn security_group(&mut self, snapshot: &Snapshot) -> Change {
        let mut change = Change::new();
        let group = snapshot.all::<SecurityGroup>().find(|group| group.name != "default");
        let port = snapshot.all::<Port>().find(|port| port.is_free());
        match (group, port) {
            (Some(group), Some(port)) if self.chance.bool() => {
                change.edit(port, |port| port.security_groups = vec![group.id.clone()]);
            }
            (Some(group), _) => _ = change.delete(group),
            (None, _) => {
                let id = self.id();
                change.create(security_group(&id, "extra"));
            }
        }
        change
    }

    /// Makes a flavor with one of two names, if nobody had it when the client looked, or deletes one.
    fn flavor(&mut self, snapshot: &Snapshot) -> Change {
        let name = ["small", "large"][self.chance.usize(0..2)];
        let mut change = Change::new();
        match snapshot.all::<Flavor>().find(|flavor| flavor.name == name) {
            Some(flavor) => _ = change.delete(flavor),
            None => {
                let id = self.id();
                change.create(flavor(&id, name, 1));
            }
        }
        change
    }

    fn id(&mut self) -> String {
        format!("00000000-0000-4000-9000-{:012}", self.next())
    }
}

pub(crate) fn security_group(id: &str, name: &str) -> SecurityGroup {
    SecurityGroup::new(id, PROJECT, name, now())
}

fn port(id: &str, mac: String) -> Port {
    Port { mac, ..Port::new(id, &network(), now()) }
}

/// A client that keeps a copy of the store by watching it.
#[derive(Default)]
pub(crate) struct Follower {
    copy: BTreeMap<Key, Revision>,
    seen: Revision,
    watch: Option<Watch>,
}

impl Follower {
    /// Reads what there is to read. The connection may break at any time; it goes on where it was.
    pub(crate) fn follow(&mut self, store: &Store, breaks: bool) {
        if breaks {
            self.watch = None;
        }
        if self.watch.is_none() {
            self.watch = store.watch(self.seen).ok();
        }
        let Some(watch) = &mut self.watch else { return self.list(&store.snapshot()) };
        match watch.next().now_or_never() {
            Some(Ok(commits)) => {
                for commit in commits {
                    self.seen = commit.revision;
                    for event in &commit.events {
                        match &event.after {
                            Some(row) => _ = self.copy.insert(event.key.clone(), row.modified),
                            None => _ = self.copy.remove(&event.key),
                        }
                    }
                }
            }
            Some(Err(Fault::Expired(_))) => self.list(&store.snapshot()),
            Some(Err(_)) | None => {}
        }
    }

    /// What it missed is forgotten: it lists everything, as clients do.
    fn list(&mut self, snapshot: &Snapshot) {
        self.watch = None;
        self.seen = snapshot.revision();
        self.copy = snapshot.rows().map(|row| (row.key.clone(), row.modified)).collect();
    }

    /// What its copy lacks or has too much, after it has read everything.
    pub(crate) fn check(&mut self, store: &Store) -> Result<(), String> {
        let snapshot = store.snapshot();
        while self.seen < snapshot.revision() {
            let before = self.seen;
            self.follow(store, false);
            if self.seen == before {
                break;
            }
        }
        let rows = snapshot.rows().filter(|row| self.copy.get(&row.key) != Some(&row.modified));
        let stale = rows.map(|row| row.key.clone()).next();
        let extra = self.copy.keys().find(|key| snapshot.row(key).is_none()).cloned();
        match stale.or(extra) {
            Some(key) => Err(format!("a client that watches has another {key} than the store")),
            None => Ok(()),
        }
    }
}
