//! The simulated cloud: hosts with agents, a user, and chance.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use agent::turns::{Begun, Played};
use agent::{Config, Drivers};
use driver::sim::{Fate, Host as SimHost};
use model::{Change, Entry, Host, Index, KubeObject, Server, Setting, Snapshot, Vm, VmPhase};
use plan::PLANNERS;
use serde_json::json;
use store::{Store, Watch};

use crate::chronicle::Chronicle;
use crate::client::Follower;
use crate::late::Late;
use crate::mutation::{self, Mutation};
use crate::now;
use crate::planning::{Planning, schedule};
use crate::rows::{self, CLUSTER, HOSTS, apart, pod, server};

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub accepted: u32,
    pub refused: u32,
    pub crashes: u32,
    pub acts: u64,
    pub revision: u64,
    /// A digest of all rows as they are in the end.
    pub rows: u64,
}

/// The simulated cloud.
pub struct World {
    pub(crate) store: Store,
    pub(crate) machines: Vec<(String, Late)>,
    agents: Vec<Played>,
    pub(crate) chance: fastrand::Rng,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) follower: Follower,
    /// How many pods each ReplicaSet had after the last step.
    pub(crate) pod_counts: BTreeMap<String, usize>,
    pub(crate) planning: Planning,
    /// Older snapshots that a planner may still look at.
    old: Vec<Snapshot>,
    serial: u32,
    report: Report,
    /// Servers that were accepted and not deleted.
    pub(crate) servers: BTreeSet<String>,
    /// Of each server the incarnation for which its disk was made: others have kept it.
    pub(crate) made_for: BTreeMap<String, u32>,
    /// A host on which nothing can be removed although everything else is healed.
    pub(crate) stubborn: Option<String>,
    /// VMs there that somebody wants to go.
    pub(crate) undying: BTreeSet<String>,
    pub(crate) pods: BTreeSet<String>,
    /// Jobs that were accepted and not deleted.
    pub(crate) jobs: BTreeSet<String>,
    /// What was heard of Jobs, by all commits.
    pub(crate) chronicle: Chronicle,
    commits: Watch,
    /// VMs that were destroyed although no row said that they should go.
    pub(crate) destroyed: Arc<Mutex<Vec<String>>>,
    /// What else was seen to be wrong.
    pub(crate) wrong: Vec<String>,
    /// The hosts' folders.
    folder: tempfile::TempDir,
}

impl World {
    pub async fn new(seed: u64, mutation: Option<Mutation>) -> Result<Self, String> {
        let store = mutation.map_or_else(Store::memory, mutation::store);
        store.commit(&rows::first_rows()).await.map_err(|e| format!("the first rows: {e}"))?;
        let folder = tempfile::tempdir().map_err(|e| format!("no folder: {e}"))?;
        let destroyed = Arc::default();
        let mut chance = fastrand::Rng::with_seed(seed);
        let machine = |host: &&str| (host.to_string(), Late::new(mutation));
        let machines: Vec<(String, Late)> = HOSTS.iter().map(machine).collect();
        for (_, machine) in &machines {
            machine.set_clock(now);
            machine.lasting();
            bear_witness(machine, &store, &destroyed);
            unruly(machine, chance.fork());
            if mutation == Some(Mutation::Generations) {
                machine.be_forgetful();
            }
            if mutation == Some(Mutation::Prune) {
                hide_unwanted(machine, &store);
            }
        }
        let agents = machines.iter().map(|(name, machine)| agent_of(name, machine, &store, folder.path(), mutation));
        let agents = agents.collect();
        let (servers, pods, jobs) = Default::default();
        let planning = Planning::begin(&store)?;
        let commits = store.watch(0).map_err(|why| format!("no watch: {why}"))?;
        let mut world = Self {
            store,
            planning,
            machines,
            agents,
            chance,
            mutation,
            follower: Follower::default(),
            pod_counts: BTreeMap::new(),
            old: Vec::new(),
            serial: 0,
            report: Report::default(),
            servers,
            made_for: BTreeMap::new(),
            stubborn: None,
            undying: BTreeSet::new(),
            pods,
            jobs,
            chronicle: Chronicle::default(),
            commits,
            destroyed,
            wrong: Vec::new(),
            folder,
        };
        world.create_cron_job().await;
        // Before anybody forgets what was.
        world.hear_commits()?;
        Ok(world)
    }

    /// One thing happens; its name.
    pub async fn step(&mut self) -> &'static str {
        let snapshot = self.store.snapshot();
        self.old.push(snapshot);
        self.old.drain(..self.old.len().saturating_sub(6));
        self.land_some().await;
        match self.chance.u32(0..120) {
            0..7 => self.create_server().await,
            7..11 => self.delete_server().await,
            11..18 => self.create_pod().await,
            18..23 => self.delete_pod().await,
            23..25 => self.scale().await,
            25..29 => self.reboot().await,
            29..35 => self.clients().await,
            35..38 => self.follow().await,
            38..69 => self.plan().await,
            69..72 => self.answer().await,
            72..92 => self.work().await,
            92..95 => self.wake().await,
            95..97 => self.put_back().await,
            97..109 => self.batch().await,
            109..117 => self.end_containers(2),
            _ => self.crash(),
        }
    }

    /// The store as a client knows it: now, or a while ago.
    pub(crate) fn some_snapshot(&mut self) -> Snapshot {
        match self.chance.bool() {
            true => self.old[self.chance.usize(0..self.old.len())].clone(),
            false => self.store.snapshot(),
        }
    }

    /// The client that watches reads on; now and then its connection breaks, or it was away for too long.
    async fn follow(&mut self) -> &'static str {
        let breaks = self.chance.bool();
        if self.chance.u8(0..8) == 0 {
            let _ = self.store.compact(self.store.snapshot().revision()).await;
        }
        self.follower.follow(&self.store, breaks);
        "a client reads its watch"
    }

    pub(crate) async fn commit(&mut self, change: &Change) -> bool {
        let accepted = self.store.commit(change).await.is_ok();
        *if accepted { &mut self.report.accepted } else { &mut self.report.refused } += 1;
        accepted
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    async fn create_server(&mut self) -> &'static str {
        let id = format!("00000000-0000-4000-8000-{:012}", self.next());
        let cores = self.chance.u64(1..3);
        if self.commit(&Change::from(server(&id, cores))).await {
            self.made_for.insert(id.clone(), 1);
            self.servers.insert(id);
        }
        "create server"
    }

    async fn delete_server(&mut self) -> &'static str {
        let Some(id) = self.pick(&self.servers.clone()) else { return "delete nothing" };
        let snapshot = self.some_snapshot();
        let Some(row) = snapshot.get::<Server>(&id) else { return "delete nothing" };
        let mut change = Change::new();
        change.edit(row, |server| server.deleting = true);
        if self.commit(&change).await {
            self.servers.remove(&id);
        }
        "delete server"
    }

    async fn reboot(&mut self) -> &'static str {
        let snapshot = self.some_snapshot();
        // Of one that runs there is more to get wrong.
        let runs = |id: &&String| snapshot.find::<Vm>(Index::Owner, id).any(|vm| vm.status.phase == VmPhase::Running);
        let running = self.servers.iter().filter(runs).cloned().collect();
        let Some(id) = self.pick(&running) else { return "reboot nothing" };
        let Some(row) = snapshot.get::<Server>(&id) else { return "reboot nothing" };
        let current = |vm: Entry<'_, Vm>| vm.incarnation == row.incarnation && vm.status.phase == VmPhase::Running;
        let runs = snapshot.find::<Vm>(Index::Owner, &id).any(current);
        let what = self.chance.u8(0..5);
        let keep = what > 2 && runs;
        let mut change = Change::new();
        change.edit(row, |server| match what {
            0 => server.soft_reboots += 1,
            1 => server.hard_reboots += 1,
            _ => {
                server.incarnation += 1;
                server.keep_disk = keep;
                (server.soft_reboots, server.hard_reboots) = (0, 0);
            }
        });
        let next = row.incarnation + 1;
        if self.commit(&change).await && what > 1 && !keep {
            self.made_for.insert(id, next);
        }
        "reboot, rebuild or resize"
    }

    async fn create_pod(&mut self) -> &'static str {
        let name = format!("pod-{}", self.next());
        let mut pod = pod(&name);
        match self.chance.u8(0..6) {
            // Who names a host himself goes past the scheduler, not past the claims.
            0..2 => pod.body["spec"]["nodeName"] = json!(HOSTS[self.chance.usize(0..HOSTS.len())]),
            2..4 => return self.create_lone_pods().await,
            _ => {}
        }
        if self.commit(&Change::from(pod)).await {
            self.pods.insert(name);
        }
        "create pod"
    }

    /// Two pods that must be apart. Both want the same host, where they take no room, and the last is the first to get it; two
    /// processes plan at once, of which one may have seen only the first.
    async fn create_lone_pods(&mut self) -> &'static str {
        let app = format!("lone-{}", self.serial);
        for _ in 0..2 {
            let name = format!("pod-{}", self.next());
            let mut pod = pod(&name);
            pod.body["metadata"]["labels"]["app"] = json!(app);
            pod.body["spec"]["affinity"] = apart(&app);
            pod.body["spec"]["nodeSelector"]["kubernetes.io/hostname"] = json!(HOSTS[0]);
            pod.body["spec"]["priority"] = json!(self.serial);
            pod.body["spec"]["containers"][0]["resources"] = json!({});
            if self.commit(&Change::from(pod)).await {
                self.pods.insert(name);
            }
            self.old.push(self.store.snapshot());
        }
        self.plan_anew(schedule(), 2).await;
        "create pods that must be apart"
    }

    async fn delete_pod(&mut self) -> &'static str {
        let Some(name) = self.pick(&self.pods.clone()) else { return "delete nothing" };
        let key = KubeObject::key_of(CLUSTER, "", "pods", "default", &name);
        let snapshot = self.some_snapshot();
        let Some(row) = snapshot.at::<KubeObject>(&key) else { return "delete nothing" };
        let mut change = Change::new();
        // By force, the row goes at once and the agent finds a pod that nobody wants.
        let force = self.chance.u8(0..3) == 0;
        if row.body["spec"]["nodeName"].is_string() && !force {
            change.edit(row, |pod| {
                pod.body["metadata"]["deletionTimestamp"] = json!(now().to_string());
                pod.body["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            });
        } else {
            change.delete(row);
        }
        if self.commit(&change).await {
            self.pods.remove(&name);
        }
        "delete pod"
    }

    async fn scale(&mut self) -> &'static str {
        let key = KubeObject::key_of(CLUSTER, "apps", "deployments", "default", "web");
        let snapshot = self.some_snapshot();
        let Some(row) = snapshot.at::<KubeObject>(&key) else { return "scale nothing" };
        let replicas = self.chance.u32(0..4);
        let mut change = Change::new();
        change.edit(row, |object| {
            object.body["spec"]["replicas"] = json!(replicas);
            let generation = object.body["metadata"]["generation"].as_i64().unwrap_or(0);
            object.body["metadata"]["generation"] = json!(generation + 1);
        });
        self.commit(&change).await;
        "scale deployment"
    }

    async fn work(&mut self) -> &'static str {
        let at = self.chance.usize(0..self.agents.len());
        // Every step but a few that take their time ends before the agent looks again, or none does.
        let (tick, looks) = (self.chance.u8(0..4) > 0, self.chance.usize(1..5));
        for look in 0..looks {
            let agent = &mut self.agents[at];
            match look == 0 && tick {
                true => agent.tick().await,
                false => _ = agent.hear().await,
            }
            self.chance.shuffle(&mut agent.steps);
            let slow = if self.chance.u8(0..4) == 0 { self.chance.usize(0..3) } else { 0 };
            while self.agents[at].steps.len() > slow
                && let Some(step) = self.agents[at].steps.pop()
            {
                self.run_step(step).await;
            }
        }
        "an agent's turns"
    }

    async fn run_step(&mut self, step: Begun) {
        if self.mutation == Some(Mutation::Stuck) && step.key.starts_with("vm ") && self.chance.u8(0..20) == 0 {
            return std::mem::forget(step);
        }
        step.run().await;
    }

    /// An agent that was stopped for a while goes on with what it had decided.
    async fn wake(&mut self) -> &'static str {
        let at = self.chance.usize(0..self.machines.len());
        let (name, machine) = &self.machines[at];
        if let Err(why) = machine.wake(&mut self.chance).await {
            self.wrong.push(format!("{name}: {why}"));
        }
        "an old order is carried out"
    }

    /// Processes are started with an older copy of the store, and then with the right one again. Whatever hosts have
    /// reported since is missing in it, so they must not touch a thing.
    async fn put_back(&mut self) -> &'static str {
        const WHAT: &str = "an old store is put back";
        let Some(old) = self.old.first().cloned() else { return WHAT };
        let copy = Store::memory();
        let mut change = Change::new();
        old.rows().for_each(|row| _ = change.create(row.object.clone()));
        if let Err(why) = copy.commit(&change).await {
            self.wrong.push(format!("the old store cannot be copied: {why}"));
        }
        let now = self.store.snapshot();
        if self.mutation == Some(Mutation::Identity) {
            write_on(&copy, now.revision()).await;
        }
        let reports = |snapshot: &Snapshot, host: &str| snapshot.get::<Host>(host).map(|host| host.status.reports);
        for (name, machine) in self.machines.iter().filter(|(name, _)| reports(&old, name) < reports(&now, name)) {
            let before = (machine.everything(), machine.aside());
            agent_of(name, machine, &copy, self.folder.path(), self.mutation).round().await;
            if before != (machine.everything(), machine.aside()) {
                self.wrong.push(format!("{name} has done as an old store said"));
            }
        }
        WHAT
    }

    /// An agent dies and a new one, who knows nothing, takes its place.
    fn crash(&mut self) -> &'static str {
        let at = self.chance.usize(0..self.agents.len());
        let left = self.chance.bool().then(|| format!("ffffffff-0000-4000-8000-{:012}.1", self.next()));
        let (name, machine) = &self.machines[at];
        if let Some(id) = left {
            machine.leave_behind(&id);
        }
        if self.mutation == Some(Mutation::Adoption) {
            machine.lose_everything();
        }
        self.agents[at] = agent_of(name, machine, &self.store, self.folder.path(), self.mutation);
        self.report.crashes += 1;
        "an agent crashes"
    }

    fn pick(&mut self, from: &BTreeSet<String>) -> Option<String> {
        if from.is_empty() {
            return None;
        }
        let at = self.chance.usize(0..from.len());
        from.iter().nth(at).cloned()
    }

    /// From now on nothing fails, but that in some runs nothing can be removed on one of the hosts, where somebody wants that.
    pub async fn heal_most(&mut self) {
        self.heal();
        if self.chance.u8(0..3) > 0 {
            return;
        }
        let snapshot = self.store.snapshot();
        let has_vms = |(name, _): &&(String, Late)| snapshot.find::<Vm>(Index::Host, name).any(|vm| !vm.deleting);
        let mut hosts: Vec<&(String, Late)> = self.machines.iter().filter(has_vms).collect();
        if hosts.is_empty() {
            hosts = self.machines.iter().collect();
        }
        let (name, machine) = hosts[self.chance.usize(0..hosts.len())];
        let removes = |act: &str| matches!(act, "remove VM" | "remove pod");
        machine.set_fates(Box::new(move |act| if removes(act) { Fate::Before } else { Fate::Well }));
        let host = name.clone();
        self.delete_servers_of(&host).await;
        self.stubborn = Some(host);
    }

    async fn delete_servers_of(&mut self, host: &str) {
        let snapshot = self.store.snapshot();
        for vm in snapshot.find::<Vm>(Index::Host, host).filter(|vm| !vm.deleting) {
            let Some(server) = snapshot.get::<Server>(&vm.server_id) else { continue };
            let change = std::mem::take(Change::new().edit(server, |server: &mut Server| server.deleting = true));
            if self.commit(&change).await {
                self.servers.remove(&vm.server_id);
                self.undying.insert(Vm::id(&vm.server_id, vm.incarnation));
            }
        }
    }

    /// From now on nothing fails.
    pub fn heal(&mut self) {
        self.machines.iter().for_each(|(_, machine)| machine.heal());
        self.stubborn = None;
        self.undying.clear();
    }

    /// Hears what was committed since it last did.
    pub(crate) fn hear_commits(&mut self) -> Result<(), String> {
        while let Some(commit) = self.commits.next_now().map_err(|why| format!("commits were missed: {why}"))? {
            self.chronicle.hear(&commit)?;
        }
        Ok(())
    }

    /// Every planner and every agent once, from fresh snapshots.
    pub async fn calm_round(&mut self) {
        self.end_containers(1);
        for planner in 0..PLANNERS.len() {
            self.plan_due(planner).await;
            self.land(planner).await;
        }
        while self.thinks() {
            self.answer().await;
        }
        for agent in &mut self.agents {
            // A person looks in.
            let _ = agent.agent().confirm();
            agent.round().await;
        }
        if let Err(why) = self.hear_commits() {
            self.wrong.push(why);
        }
    }

    /// The newest revision of any row but those that tell that a host lives, or once more that somebody waits.
    pub fn revision_without_heartbeats(&self) -> u64 {
        let snapshot = self.store.snapshot();
        let told = |key: &model::Key| key.name.starts_with("/events/");
        let rows = snapshot.rows().filter(|row| row.key.kind != model::Kind::Host && !told(&row.key));
        // Deletions count too: fewer rows are another state.
        rows.map(|row| row.modified).max().unwrap_or(0) * 1_000_000 + snapshot.len() as u64
    }

    /// What there is, for a message.
    pub fn describe(&self) -> String {
        let snapshot = self.store.snapshot();
        let vms: Vec<String> = snapshot
            .all::<Vm>()
            .map(|vm| format!("{}.{} on {:?} {:?}", vm.server_id, vm.incarnation, vm.host, vm.status.phase))
            .collect();
        format!("{} rows, VMs: {vms:?}", snapshot.len())
    }

    pub fn report(&self) -> Report {
        let acts = self.machines.iter().map(|(_, m)| m.acts()).sum();
        let (snapshot, mut rows) = (self.store.snapshot(), DefaultHasher::new());
        for row in snapshot.rows() {
            (row.modified, serde_json::to_string(&row.object).unwrap_or_default()).hash(&mut rows);
        }
        Report { acts, revision: snapshot.revision(), rows: rows.finish(), ..self.report.clone() }
    }
}

fn agent_of(name: &str, machine: &Late, store: &Store, folder: &Path, mutation: Option<Mutation>) -> Played {
    let dir = folder.join(name);
    if mutation == Some(Mutation::Identity) {
        let _ = std::fs::remove_file(dir.join("identity.json"));
    }
    let config = Config {
        host: name.to_owned(),
        dir,
        max_removals: 5,
        keep_aside: jiff::SignedDuration::from_hours(24),
        prefix: "sim-".into(),
        endpoint: format!("sim:{name}"),
        blobs: blob::Blobs::new("/nonexistent"),
        clock: now,
    };
    let machine = Arc::new(machine.clone());
    let drivers = Drivers { vm: machine.clone(), pod: machine.clone(), net: machine };
    Played::new(config, hosts::Local::new(store.clone(), name, now, None), drivers)
}

/// One act in eight fails; of those, half took effect all the same.
fn unruly(machine: &SimHost, chance: fastrand::Rng) {
    let chance = Mutex::new(chance);
    machine.set_fates(Box::new(move |_| {
        let Ok(mut chance) = chance.lock() else { return Fate::Well };
        match chance.u8(0..16) {
            0 => Fate::Before,
            1 => Fate::After,
            _ => Fate::Well,
        }
    }));
}

/// Notes which VMs were destroyed that no row said should go.
fn bear_witness(machine: &SimHost, store: &Store, destroyed: &Arc<Mutex<Vec<String>>>) {
    let (store, destroyed) = (store.clone(), destroyed.clone());
    machine.witness(Box::new(move |id| {
        let snapshot = store.snapshot();
        let lives = |vm: &Vm| !vm.deleting && snapshot.get::<Server>(&vm.server_id).is_some();
        if snapshot.get::<Vm>(id).is_none_or(|vm| lives(vm.value)) {
            destroyed.lock().unwrap_or_else(PoisonError::into_inner).push(id.to_owned());
        }
    }));
}

/// Listings show what some row of the host wants, and nothing else.
fn hide_unwanted(machine: &SimHost, store: &Store) {
    let store = store.clone();
    machine.hide(Box::new(move |id| {
        let snapshot = store.snapshot();
        let pod = snapshot.find::<KubeObject>(Index::Name, id).any(|object| object.is_pod());
        !pod && snapshot.get::<Vm>(id).is_none()
    }));
}

/// Others go on with an old store until it has passed a revision of the right one, so that the hosts' generations say nothing
/// against it. (Only needed where nothing else does.)
async fn write_on(store: &Store, past: model::Revision) {
    while store.snapshot().revision() <= past {
        let snapshot = store.snapshot();
        let mut change = Change::new();
        match snapshot.get::<Setting>("sim-noise") {
            Some(row) => drop(change.edit(row, |setting| setting.value = json!(snapshot.revision()))),
            None => drop(change.create(Setting { name: "sim-noise".into(), value: json!(0) })),
        }
        if store.commit(&change).await.is_err() {
            return;
        }
    }
}
