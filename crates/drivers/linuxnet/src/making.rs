//! One pass over the host's network: each domain in a task of its own. One whose rules take long, because the program that
//! loads them hangs, goes on behind the pass's back; the others are made meanwhile, and whoever plugs or dials looks into
//! the [`View`], which nobody holds while anything is done.
//!
//! Refused: one lock over all that is open. A program that hung for half a minute in one project's namespace kept everybody's
//! VMs and pods from starting.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driver::generation::Generations;
use driver::{DriverFault, Result, SeenNetwork, SeenWire};
use model::hostnet::{Bridge, Domain, HostNetwork, Plug, Wire};
use model::wanted::Generation;
use netserve::Answers;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::task::JoinSet;

use crate::host::Host;
use crate::netlink::Link;
use crate::space::{Handles, Move, Moving, Space};
use crate::trunks::{self, Joined};
use crate::{LinuxNet, fault, names, netns};

/// Domains that are worked on at a time.
const AT_ONCE: usize = 4;
/// A pass waits no longer than this without anything coming to its end. Ten thousand elements of rules take half a second.
const PATIENCE: Duration = Duration::from_secs(4);
/// What the problems of the host's own namespace are filed under.
const OUTSIDE: &str = "";
/// How what the problems of trunks are filed under begins: no namespace's name has a blank.
const TRUNK: &str = "trunk ";

/// What is open. Held over a pass, which is never long.
#[derive(Default)]
pub struct Making {
    host: Option<Arc<Host>>,
    spaces: BTreeMap<String, Open>,
    /// The namespace of each port's device, when all were last where they belong.
    homes: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Open {
    handles: Arc<Handles>,
    /// Locked by whoever is at work on it.
    space: Arc<tokio::sync::Mutex<Space>>,
}

/// What was last made, for all who look.
#[derive(Default)]
pub struct View(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    /// Domains whose rules are in force, by namespace.
    known: BTreeMap<String, Known>,
    /// Ports that work, by namespace.
    active: BTreeMap<String, BTreeSet<String>>,
    /// What became of subports, by the port that is their trunk's parent.
    trunks: BTreeMap<String, Joined>,
    /// What went wrong, by namespace or trunk, in words.
    problems: BTreeMap<String, String>,
    /// What was not done when the last pass ended, in words.
    late: Vec<String>,
    /// A device was plugged since the namespaces were looked through.
    plugged: bool,
}

#[derive(Clone)]
struct Known {
    domain: Arc<Domain>,
    handles: Arc<Handles>,
}

/// Where a port is.
#[derive(Clone)]
pub struct Place {
    pub handles: Arc<Handles>,
    pub bridge: Bridge,
    pub wire: Wire,
}

fn wires(domain: &Domain) -> impl Iterator<Item = (&Bridge, &Wire)> {
    domain.bridges.iter().flat_map(|bridge| bridge.ports.iter().map(move |wire| (bridge, wire)))
}

impl View {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a port is, once the rules of its domain are in force.
    pub fn find(&self, port_id: &str) -> Option<Place> {
        let inside = self.inside();
        inside.known.values().find_map(|known| {
            let (bridge, wire) = wires(&known.domain).find(|(_, wire)| wire.port_id == port_id)?;
            let bridge = Bridge { ports: Vec::new(), ..bridge.clone() };
            Some(Place { handles: known.handles.clone(), bridge, wire: wire.clone() })
        })
    }

    /// Notes what became of a trunk's subports.
    pub fn joined(&self, port_id: &str, joined: Joined, trouble: Option<String>) {
        let name = format!("{TRUNK}{port_id}");
        match trouble {
            Some(words) => self.problem(&name, &format!("the trunk of the port {port_id}"), &words),
            None => self.well(&name),
        }
        self.inside().trunks.insert(port_id.to_owned(), joined);
    }

    /// Forgets all trunks but these.
    fn keep_trunks(&self, ids: &BTreeSet<&str>) {
        let mut inside = self.inside();
        inside.trunks.retain(|id, _| ids.contains(id.as_str()));
        inside.problems.retain(|name, _| name.strip_prefix(TRUNK).is_none_or(|id| ids.contains(id)));
    }

    /// Notes that a device came to a place; false if the port is no longer there.
    pub fn plugged(&self, place: &Place) -> bool {
        self.inside().plugged = true;
        let now = self.find(&place.wire.port_id);
        now.is_some_and(|now| Arc::ptr_eq(&now.handles, &place.handles) && now.wire == place.wire)
    }

    /// The namespace if it is open.
    pub fn handles(&self, namespace: &str) -> Option<Arc<Handles>> {
        self.inside().known.get(namespace).map(|known| known.handles.clone())
    }

    /// What is not as it shall be, in words.
    pub fn problems(&self) -> Vec<String> {
        let inside = self.inside();
        inside.problems.values().chain(&inside.late).cloned().collect()
    }

    fn problem(&self, namespace: &str, what: &str, error: &dyn std::fmt::Display) {
        let words = format!("{what}: {error}");
        if self.inside().problems.insert(namespace.to_owned(), words.clone()).as_ref() != Some(&words) {
            tracing::warn!("{words}");
        }
    }

    fn well(&self, namespace: &str) {
        self.inside().problems.remove(namespace);
    }

    fn gone(&self, namespace: &str) {
        let mut inside = self.inside();
        inside.known.remove(namespace);
        inside.active.remove(namespace);
        inside.problems.remove(namespace);
    }
}

/// What is done in tasks, and who is not done.
#[derive(Default)]
struct Jobs {
    tasks: JoinSet<String>,
    running: BTreeSet<String>,
}

impl Jobs {
    fn begin(&mut self, name: String, job: impl Future<Output = ()> + Send + 'static) {
        self.running.insert(name.clone());
        self.tasks.spawn(async move {
            job.await;
            name
        });
    }

    /// Waits for all, as long as one after the other ends; the rest goes on by itself. Those that are late.
    async fn wait(mut self) -> BTreeSet<String> {
        while let Ok(Some(ended)) = tokio::time::timeout(PATIENCE, self.tasks.join_next()).await {
            match ended {
                Ok(name) => drop(self.running.remove(&name)),
                Err(error) => tracing::error!(%error, "a task of the network"),
            }
        }
        self.tasks.detach_all();
        self.running
    }
}

/// One domain to be made.
struct Job {
    name: String,
    domain: Arc<Domain>,
    at: Generation,
    host: Arc<Host>,
    moving: Arc<Moving>,
    turns: Arc<Semaphore>,
    view: Arc<View>,
    generations: Arc<Generations>,
    dir: PathBuf,
}

impl Job {
    async fn run(self, mut space: OwnedMutexGuard<Space>) {
        let Ok(_turn) = self.turns.acquire().await else { return };
        let name = &self.name;
        let _pass = match self.generations.pass(name, self.at) {
            Ok(pass) => pass,
            Err(why) => return self.view.problem(name, &format!("the domain {name}"), &why),
        };
        // Rules first, then devices: a device never carries a packet that no rule has judged.
        let made = match space.ensure_rules(&self.domain, &self.dir).await {
            Err(error) => Err((format!("rules of {name}"), error)),
            Ok(()) => {
                let known = Known { domain: self.domain.clone(), handles: space.handles.clone() };
                self.view.inside().known.insert(name.clone(), known);
                self.devices(&mut space).await.map_err(|error| (format!("the domain {name}"), error))
            }
        };
        match made {
            Ok(links) => {
                self.view.inside().active.insert(name.clone(), active(&self.domain, &links));
                self.view.well(name);
            }
            Err((what, error)) => {
                self.view.inside().active.remove(name);
                self.view.problem(name, &what, &error);
            }
        }
    }

    async fn devices(&self, space: &mut Space) -> io::Result<Vec<Link>> {
        for one in self.moving.values().filter(|one| one.to == self.name) {
            one.from.netlink.move_to(one.index, space.netns.fd()?).await?;
        }
        space.ensure(&self.domain, &self.host, &self.moving).await
    }
}

/// Which of a domain's ports work.
fn active(domain: &Domain, links: &[Link]) -> BTreeSet<String> {
    let by_name: BTreeMap<&str, &Link> = links.iter().map(|link| (link.name.as_str(), link)).collect();
    let works = |bridge: &Bridge, wire: &Wire| {
        let index = by_name.get(names::bridge(&bridge.network_id).as_str()).map(|link| link.index);
        let link = by_name.get(wire.device.as_str());
        wire.up && link.is_some_and(|link| link.up && index.is_some() && link.bridge == index)
    };
    wires(domain).filter(|(bridge, wire)| works(bridge, wire)).map(|(_, wire)| wire.port_id.clone()).collect()
}

impl Making {
    /// The host's namespace, opened.
    async fn host(&mut self, prefix: &str) -> Result<Arc<Host>> {
        if let Some(host) = &self.host {
            return Ok(host.clone());
        }
        if !Path::new("/proc/sys/net/bridge").exists() {
            // Where it is a module. If that fails, the first namespace says so in words.
            let _ = tokio::process::Command::new("modprobe").arg("br_netfilter").status().await;
        }
        let host = Host::open(prefix).await.map_err(|error| fault("the host's network cannot be reached", &error))?;
        Ok(self.host.insert(Arc::new(host)).clone())
    }

    /// Opens a namespace unless it is open, and is the one that has the name.
    async fn open(&mut self, name: &str, answers: &Answers) -> io::Result<()> {
        if self.spaces.get(name).is_some_and(|open| open.handles.is_there()) {
            return Ok(());
        }
        self.spaces.remove(name);
        let space = Space::open(name, answers.clone()).await?;
        let handles = space.handles.clone();
        self.spaces.insert(name.to_owned(), Open { handles, space: Arc::new(tokio::sync::Mutex::new(space)) });
        Ok(())
    }

    /// Devices of ports that belong to another domain than the one they are in.
    async fn moving(&mut self, wanted: &BTreeMap<String, Arc<Domain>>, view: &View) -> io::Result<Moving> {
        let plugged = std::mem::take(&mut view.inside().plugged);
        let mut home: BTreeMap<String, String> = BTreeMap::new();
        for (name, domain) in wanted {
            home.extend(wires(domain).map(|(_, wire)| (wire.device.clone(), name.clone())));
            let branches = wires(domain).flat_map(|(_, wire)| wire.trunk.values());
            home.extend(branches.map(|id| (names::branch(id), name.clone())));
        }
        let mut moving = Moving::new();
        if home == self.homes && !plugged {
            return Ok(moving);
        }
        self.homes.clear();
        for (name, open) in &self.spaces {
            for link in open.handles.netlink.links().await? {
                if let Some(to) = home.get(&link.name).filter(|to| *to != name) {
                    let one = Move { from: open.handles.clone(), index: link.index, to: to.clone() };
                    moving.insert(link.name, one);
                }
            }
        }
        if moving.is_empty() {
            self.homes = home;
        }
        Ok(moving)
    }
}

impl LinuxNet {
    pub(crate) async fn pass(&self, network: &HostNetwork, at: Generation) -> Result<SeenNetwork> {
        let mut making = self.making.lock().await;
        let _pass = self.generations.pass("network", at)?;
        let prefix = &self.config.prefix;
        let host = making.host(prefix).await?;
        let mut late = self.outside(&host, network).await?;
        let wanted = self.wanted(network);
        let existing = netns::list(prefix).map_err(|error| fault("namespaces cannot be listed", &error))?;
        let existing = existing.into_iter().filter(|name| self.is_ours(name)).collect::<BTreeSet<String>>();
        for name in existing.iter().chain(wanted.keys()) {
            if let Err(error) = making.open(name, &self.answers).await {
                self.view.problem(name, &format!("the namespace {name}"), &error);
            }
        }
        let moving = making.moving(&wanted, &self.view).await;
        let moving = Arc::new(moving.map_err(|error| fault("devices cannot be looked through", &error))?);
        let (turns, mut jobs) = (Arc::new(Semaphore::new(AT_ONCE)), Jobs::default());
        let mut busy = BTreeSet::new();
        for (name, domain) in &wanted {
            let Some(open) = making.spaces.get(name) else { continue };
            let Ok(space) = open.space.clone().try_lock_owned() else {
                busy.insert(name.clone());
                continue;
            };
            let job = Job {
                name: name.clone(),
                domain: domain.clone(),
                at,
                host: host.clone(),
                moving: moving.clone(),
                turns: turns.clone(),
                view: self.view.clone(),
                generations: self.generations.clone(),
                dir: self.config.dir.clone(),
            };
            jobs.begin(name.clone(), job.run(space));
        }
        busy.extend(jobs.wait().await);
        self.prune(&mut making, &host, network, &wanted, (&moving, &busy), at).await;
        late.extend(self.join_trunks(network).await);
        late.extend(busy.iter().map(|name| format!("the domain {name} is still being made")));
        let mut inside = self.view.inside();
        inside.late.clone_from(&late);
        let mut seen = SeenNetwork { wires: Vec::new(), late };
        let joined: BTreeSet<&String> = inside.trunks.values().flat_map(|trunk| &trunk.active).collect();
        let failed: BTreeSet<&String> = inside.trunks.values().flat_map(|trunk| &trunk.failed).collect();
        for domain in &network.domains {
            let active = inside.active.get(&domain.namespace(prefix));
            let works = |wire: &Wire| match wire.plug {
                Plug::Subport => joined.contains(&wire.port_id),
                _ => wire.up && active.is_some_and(|ports| ports.contains(&wire.port_id)),
            };
            seen.wires.extend(wires(domain).map(|(_, wire)| SeenWire {
                port_id: wire.port_id.clone(),
                active: works(wire),
                failed: failed.contains(&wire.port_id),
            }));
        }
        Ok(seen)
    }

    /// Joins subports with their trunks, once the domains are made, of which they may be in two. What is late.
    async fn join_trunks(&self, network: &HostNetwork) -> Option<String> {
        let parents = network.domains.iter().flat_map(wires).map(|(_, wire)| wire);
        let ids: BTreeSet<&str> =
            parents.filter(|wire| !wire.trunk.is_empty()).map(|wire| wire.port_id.as_str()).collect();
        self.view.keep_trunks(&ids);
        if ids.is_empty() {
            return None;
        }
        let late = || Some("the trunks are still being joined".to_owned());
        let Ok(turn) = self.trunks.clone().try_lock_owned() else { return late() };
        let (view, ids) = (self.view.clone(), ids.into_iter().map(str::to_owned).collect::<Vec<String>>());
        let mut jobs = Jobs::default();
        jobs.begin(TRUNK.to_owned(), async move {
            let _turn = turn;
            for id in ids {
                trunks::ensure(&view, &id).await;
            }
        });
        if jobs.wait().await.is_empty() { None } else { late() }
    }

    /// The host's own namespace, before the domains, whose routers are joined to its bridges. What is late.
    async fn outside(&self, host: &Arc<Host>, network: &HostNetwork) -> Result<Vec<String>> {
        let late = || vec!["the rules of the external networks are still being made".to_owned()];
        host.look().await.map_err(|error| fault("the host's devices cannot be seen", &error))?;
        if host.is_busy() {
            return Ok(late());
        }
        let (outside, view, ports) = (host.clone(), self.view.clone(), self.host_ports.clone());
        let externals = network.externals.clone();
        let mut jobs = Jobs::default();
        jobs.begin(OUTSIDE.to_owned(), async move {
            match outside.ensure(&externals, &ports).await {
                Ok(()) => view.well(OUTSIDE),
                Err(error) => view.problem(OUTSIDE, "the external networks", &error),
            }
        });
        let left = jobs.wait().await;
        Ok(if left.is_empty() { Vec::new() } else { late() })
    }

    /// The domains that can be made, by namespace.
    fn wanted(&self, network: &HostNetwork) -> BTreeMap<String, Arc<Domain>> {
        let mut wanted = BTreeMap::new();
        for domain in &network.domains {
            let name = domain.namespace(&self.config.prefix);
            if !self.is_ours(&name) || !names::is_path(&name) {
                let what = format!("the domain {}", domain.id);
                self.view.problem(&name, &what, &"the id is too short or has odd characters");
                continue;
            }
            let known = self.view.inside().known.get(&name).map(|known| known.domain.clone());
            let domain = known.filter(|known| **known == *domain).unwrap_or_else(|| Arc::new(domain.clone()));
            wanted.insert(name, domain);
        }
        wanted
    }

    /// Removes namespaces and the host's devices that are not wanted, but for those that a domain that is late still needs.
    async fn prune(
        &self,
        making: &mut Making,
        host: &Host,
        network: &HostNetwork,
        wanted: &BTreeMap<String, Arc<Domain>>,
        (moving, busy): (&Moving, &BTreeSet<String>),
        at: Generation,
    ) {
        let surplus: Vec<String> = making.spaces.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in surplus {
            let needed = |one: &Move| one.from.name == name && busy.contains(&one.to);
            let Some(open) = making.spaces.get(&name).filter(|_| !moving.values().any(needed)) else { continue };
            let Ok(space) = open.space.clone().try_lock_owned() else { continue };
            match self.remove(&space, at).await {
                Ok(()) => {
                    making.spaces.remove(&name);
                    self.view.gone(&name);
                }
                Err(error) => self.view.problem(&name, &format!("the namespace {name} cannot be removed"), &error),
            }
        }
        if let Err(error) = host.prune(network).await {
            self.view.problem(OUTSIDE, "devices that are not wanted", &error);
        }
    }

    async fn remove(&self, space: &Space, at: Generation) -> Result<()> {
        let pass = self.generations.pass(&space.name, at)?;
        space.remove().await.map_err(|error| DriverFault::Failed(error.to_string()))?;
        self.generations.gone(pass)
    }

    /// Removes all that was ever made under the prefix.
    pub(crate) async fn remove_all(&self) -> Result<()> {
        let mut making = self.making.lock().await;
        let prefix = &self.config.prefix;
        let host = making.host(prefix).await?;
        let failed = |error: io::Error| fault("not all could be removed", &error);
        for name in netns::list(prefix).map_err(failed)?.into_iter().filter(|name| self.is_ours(name)) {
            making.open(&name, &self.answers).await.map_err(failed)?;
        }
        while let Some((name, open)) = making.spaces.pop_first() {
            self.view.gone(&name);
            open.space.lock().await.remove().await.map_err(failed)?;
        }
        host.purge().await.map_err(failed)?;
        netns::release_folder().map_err(failed)
    }
}
