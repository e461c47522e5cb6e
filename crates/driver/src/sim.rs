//! A simulated host: VMs, pods and a network that exist in memory alone. It is for the simulator and for `braid up --sim`
//! and nothing else. It can be told to fail: before an act took effect, or after, so that the caller cannot know.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use model::hostnet::HostNetwork;
use model::wanted::{Generation, Nic, WantedPod, WantedVm};
use model::{Time, Vm, VmPhase, VmUsage};

use crate::{
    Attach, Attachment, ContainerState, DriverFault, ExecOutput, Health, NetDriver, PodDriver, Result, SeenContainer,
    SeenNetwork, SeenPod, SeenVm, SeenWire, StreamRequest, VmDriver,
};

/// When an act fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It works.
    Well,
    /// It fails and nothing happened.
    Before,
    /// It fails although it happened: the reply was lost.
    After,
}

/// Decides the fate of each act, by its name.
pub type Fates = Box<dyn FnMut(&str) -> Fate + Send>;

/// Says of an id whether listings leave it out.
pub type Hidden = Box<dyn Fn(&str) -> bool + Send>;

/// Is told of each VM that is removed with its disks.
pub type Witness = Box<dyn Fn(&str) + Send>;

/// What exists on the simulated host.
#[derive(Default)]
struct Inside {
    vms: BTreeMap<String, SeenVm>,
    /// The disks that are here, by VM, and for which VM each was made.
    disks: BTreeMap<String, String>,
    /// What was put aside, by folder, with the disks.
    aside: BTreeMap<PathBuf, (SeenVm, Option<String>)>,
    /// Disks are as lasting as those of a real host, and a lost one is missed.
    lasting: bool,
    witness: Option<Witness>,
    pods: BTreeMap<String, SeenPod>,
    network: HostNetwork,
    /// By what each thing was changed last.
    generations: BTreeMap<String, Generation>,
    /// Orders are carried out however old they are.
    forgetful: bool,
    fates: Option<Fates>,
    clock: Option<fn() -> Time>,
    /// Ids that listings do not show.
    hidden: Option<Hidden>,
    /// How often each VM and each container was started.
    starts: BTreeMap<String, u32>,
    /// Acts that took effect, for counting.
    acts: u64,
}

/// A simulated host; clones are the same host.
#[derive(Clone, Default)]
pub struct Host {
    inside: Arc<Mutex<Inside>>,
}

impl Host {
    /// Makes acts fail from now on as the function says.
    pub fn set_fates(&self, fates: Fates) {
        self.inside().fates = Some(fates);
    }

    /// Everything works from now on.
    pub fn heal(&self) {
        self.inside().fates = None;
    }

    /// Leaves out of all listings what the function says.
    pub fn hide(&self, hidden: Hidden) {
        self.inside().hidden = Some(hidden);
    }

    /// A VM that nobody knows any more, as an earlier life of the host may have left it.
    pub fn leave_behind(&self, id: &str) {
        let vm = SeenVm {
            id: id.to_owned(),
            generation: Generation::default(),
            phase: VmPhase::Running,
            message: String::new(),
            ended: false,
            soft_reboots: 0,
            hard_reboots: 0,
            rescued: false,
            made: true,
            pid: None,
        };
        let mut inside = self.inside();
        inside.vms.insert(id.to_owned(), vm);
        inside.disks.insert(id.to_owned(), id.to_owned());
    }

    /// Its disks last from now on, and one that is missing is missed. Without this, whoever says that a disk was made is
    /// believed: `braid up --sim` begins with an empty host each time.
    pub fn lasting(&self) {
        self.inside().lasting = true;
    }

    /// Tells of each VM that is destroyed, just before it is.
    pub fn witness(&self, witness: Witness) {
        self.inside().witness = Some(witness);
    }

    /// Ids of the VMs that were put aside.
    pub fn aside(&self) -> Vec<String> {
        self.inside().aside.values().map(|(vm, _)| vm.id.clone()).collect()
    }

    /// Everything on the host ends at once, as if the power failed.
    pub fn lose_everything(&self) {
        let mut inside = self.inside();
        inside.vms.clear();
        inside.pods.clear();
    }

    /// How often each VM (by id) and each attempt of a container (by its id) was started.
    pub fn starts(&self) -> BTreeMap<String, u32> {
        self.inside().starts.clone()
    }

    /// From now on it does whatever it is told, however long ago that was decided: a bug on purpose.
    pub fn be_forgetful(&self) {
        self.inside().forgetful = true;
    }

    /// By what the network was made.
    pub fn network_generation(&self) -> Generation {
        self.inside().newest(NETWORK)
    }

    /// What time containers say that it is; without it the system's.
    pub fn set_clock(&self, clock: fn() -> Time) {
        self.inside().clock = Some(clock);
    }

    /// The network that was last applied.
    pub fn network(&self) -> HostNetwork {
        self.inside().network.clone()
    }

    /// Acts that took effect so far.
    pub fn acts(&self) -> u64 {
        self.inside().acts
    }

    /// The disks on the host, by VM, and for which VM each was made.
    pub fn disks(&self) -> BTreeMap<String, String> {
        self.inside().disks.clone()
    }

    /// Ids of all VMs and uids of all pods that exist, without a chance to fail.
    pub fn everything(&self) -> (Vec<String>, Vec<String>) {
        let inside = self.inside();
        (inside.vms.keys().cloned().collect(), inside.pods.keys().cloned().collect())
    }

    /// All pods that exist, without a chance to fail.
    pub fn pods(&self) -> Vec<SeenPod> {
        self.inside().pods.values().cloned().collect()
    }

    /// A container comes to its end by itself.
    pub fn end_container(&self, id: &str, code: i32) {
        self.inside().end_container(id, code);
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does an act, or not, or does it and says that it failed.
    fn act<T>(&self, name: &str, act: impl FnOnce(&mut Inside) -> T) -> Result<T> {
        self.act_on(name, None, act)
    }

    /// Changes a thing, unless it was changed by something newer.
    fn change<T>(&self, name: &str, thing: String, at: Generation, act: impl FnOnce(&mut Inside) -> T) -> Result<T> {
        self.act_on(name, Some((thing, at)), act)
    }

    fn act_on<T>(
        &self,
        name: &str,
        thing: Option<(String, Generation)>,
        act: impl FnOnce(&mut Inside) -> T,
    ) -> Result<T> {
        let mut inside = self.inside();
        let fate = inside.fates.as_mut().map_or(Fate::Well, |fates| fates(name));
        if fate == Fate::Before {
            return Err(DriverFault::Failed(format!("{name} failed (simulated)")));
        }
        if let Some((thing, at)) = thing {
            inside.pass(thing, at)?;
        }
        let result = act(&mut inside);
        inside.acts += 1;
        match fate {
            Fate::After => Err(DriverFault::Failed(format!("{name} gave no answer (simulated)"))),
            _ => Ok(result),
        }
    }
}

/// The name of the whole network among the things that are changed.
const NETWORK: &str = "network";

impl Inside {
    fn newest(&self, thing: &str) -> Generation {
        self.generations.get(thing).copied().unwrap_or_default()
    }

    fn pass(&mut self, thing: String, at: Generation) -> Result<()> {
        let newest = self.newest(&thing);
        if at < newest && !self.forgetful {
            return Err(DriverFault::Stale(format!("{thing} was changed by {newest}, and this is {at} (simulated)")));
        }
        self.generations.insert(thing, at.max(newest));
        Ok(())
    }

    fn forget_generations(&mut self) -> Result<()> {
        self.generations.clear();
        Ok(())
    }

    fn shows(&self, id: &str) -> bool {
        self.hidden.as_ref().is_none_or(|hidden| !hidden(id))
    }

    fn started(&mut self, id: &str) {
        *self.starts.entry(id.to_owned()).or_default() += 1;
    }

    fn end_container(&mut self, id: &str, code: i32) {
        let finished = self.now();
        let containers = self.pods.values_mut().flat_map(|pod| &mut pod.containers);
        for container in containers.filter(|container| container.id == id) {
            if let ContainerState::Running { started } = container.state {
                let (reason, message) = (String::new(), String::new());
                container.state = ContainerState::Exited { code, reason, message, started, finished };
            }
        }
    }

    fn now(&self) -> Time {
        self.clock.map_or_else(Time::now, |clock| clock())
    }
}

fn vm_of(id: &str) -> String {
    format!("vm-{id}")
}

fn pod_of(uid: &str) -> String {
    format!("pod-{uid}")
}

/// Whether a VM is an earlier incarnation of another's server.
fn is_earlier(id: &str, than: &str) -> bool {
    matches!((Vm::parts(id), Vm::parts(than)), (Some((a, n)), Some((b, m))) if a == b && n < m)
}

fn health(part: &str) -> Health {
    Health { part: part.into(), version: "simulated".into(), ..Health::default() }
}

#[async_trait]
impl Attach for Host {
    async fn attach(&self, nic: &Nic) -> Result<Attachment> {
        Err(DriverFault::Unavailable(format!("the simulated port {} has no device", nic.port_id)))
    }
}

#[async_trait]
impl VmDriver for Host {
    async fn health(&self) -> Health {
        health("VMs")
    }

    async fn list(&self) -> Result<Vec<SeenVm>> {
        self.act("list VMs", |inside| inside.vms.values().filter(|vm| inside.shows(&vm.id)).cloned().collect())
    }

    async fn ensure(&self, vm: &WantedVm, _: &dyn Attach) -> Result<SeenVm> {
        let lost = |inside: &Inside| {
            let made = vm.disks.iter().any(|disk| disk.made);
            inside.lasting && made && !inside.disks.contains_key(&vm.id)
        };
        if lost(&self.inside()) {
            return Err(DriverFault::Refused(format!("the disk of {} is gone (simulated)", vm.id)));
        }
        let kept = vm.disks.iter().find_map(|disk| disk.take_from.clone());
        let gone = |inside: &Inside, from: &String| {
            inside.lasting && !inside.disks.contains_key(&vm.id) && !inside.disks.contains_key(from)
        };
        if let Some(from) = kept.as_ref().filter(|from| gone(&self.inside(), from)) {
            return Err(DriverFault::Refused(format!("what was kept of {from} is gone (simulated)")));
        }
        self.change("ensure VM", vm_of(&vm.id), vm.generation, |inside| {
            let phase = match vm {
                WantedVm { running: false, .. } => VmPhase::Stopped,
                WantedVm { suspended: true, .. } => VmPhase::Suspended,
                WantedVm { paused: true, .. } => VmPhase::Paused,
                _ => VmPhase::Running,
            };
            let seen = SeenVm {
                id: vm.id.clone(),
                generation: vm.generation,
                phase,
                message: String::new(),
                ended: false,
                soft_reboots: vm.soft_reboots,
                hard_reboots: vm.hard_reboots,
                rescued: vm.rescue,
                made: true,
                pid: None,
            };
            if !inside.disks.contains_key(&vm.id) {
                // Whoever still removes what is taken over comes late from here on.
                kept.as_ref().map_or(Ok(()), |from| inside.pass(vm_of(from), vm.generation))?;
                let content = kept.and_then(|from| inside.disks.remove(&from)).unwrap_or_else(|| vm.id.clone());
                inside.disks.insert(vm.id.clone(), content);
            }
            if inside.vms.insert(vm.id.clone(), seen.clone()).is_none() {
                inside.started(&vm.id);
            }
            Ok(seen)
        })?
    }

    async fn remove(&self, id: &str, keep: bool, at: Generation) -> Result<()> {
        self.change("remove VM", vm_of(id), at, |inside| {
            let ran = inside.vms.remove(id).is_some();
            if keep {
                // Also where there is nothing to keep: so it is known that nothing was lost.
                inside.disks.entry(id.to_owned()).or_insert_with(|| id.to_owned());
                return;
            }
            let before = inside.disks.len();
            inside.disks.retain(|disk, _| disk != id && !is_earlier(disk, id));
            if (ran || inside.disks.len() < before)
                && let Some(witness) = &inside.witness
            {
                witness(id);
            }
        })
    }

    async fn put_aside(&self, id: &str, to: &Path, at: Generation) -> Result<bool> {
        self.change("put VM aside", vm_of(id), at, |inside| {
            let Some(vm) = inside.vms.remove(id) else { return false };
            let disks = inside.disks.remove(id);
            inside.aside.insert(to.to_owned(), (vm, disks));
            true
        })
    }

    async fn give_back(&self, id: &str, from: &Path, at: Generation) -> Result<()> {
        self.change("give VM back", vm_of(id), at, |inside| {
            if inside.disks.contains_key(id) {
                return Err(DriverFault::Refused(format!("VM {id} has other disks by now")));
            }
            let Some((mut vm, disks)) = inside.aside.remove(from) else {
                return Err(DriverFault::Refused(format!("nothing was put aside in {}", from.display())));
            };
            vm.generation = at;
            inside.vms.insert(id.to_owned(), vm);
            if let Some(content) = disks {
                inside.disks.insert(id.to_owned(), content);
            }
            Ok(())
        })?
    }

    async fn copy_disk(&self, id: &str, disk: &str, to: &Path, at: Generation) -> Result<u64> {
        if !self.inside().vms.contains_key(id) {
            return Err(DriverFault::NotReady(format!("there is no VM {id} (simulated)")));
        }
        let bytes = format!("simulated disk {disk} of {id}");
        let size = bytes.len() as u64;
        let written = self.change("copy disk", vm_of(id), at, |_| {
            to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(to, bytes)
        })?;
        written.map(|()| size).map_err(|e| DriverFault::Failed(format!("cannot write {}: {e}", to.display())))
    }

    async fn end_copy(&self, id: &str, at: Generation) -> Result<()> {
        self.change("end copy", vm_of(id), at, |_| ())
    }

    fn forget_generations(&self) -> Result<()> {
        self.inside().forget_generations()
    }

    /// Simulated guests use nothing.
    async fn usage(&self, id: &str) -> Result<VmUsage> {
        let runs = |vm: &SeenVm| matches!(vm.phase, VmPhase::Running | VmPhase::Paused);
        if !self.inside().vms.get(id).is_some_and(runs) {
            return Err(DriverFault::NotReady(format!("VM {id} does not run (simulated)")));
        }
        Ok(VmUsage::default())
    }

    fn console_log(&self, _: &str) -> PathBuf {
        PathBuf::from("/dev/null")
    }
}

#[async_trait]
impl PodDriver for Host {
    async fn health(&self) -> Health {
        health("pods")
    }

    async fn list(&self) -> Result<Vec<SeenPod>> {
        self.act("list pods", |inside| inside.pods.values().filter(|pod| inside.shows(&pod.uid)).cloned().collect())
    }

    async fn look(&self, uid: &str) -> Result<Option<SeenPod>> {
        self.act("look at pod", |inside| inside.pods.get(uid).cloned())
    }

    async fn ensure_sandbox(&self, pod: &WantedPod) -> Result<()> {
        self.change("ensure sandbox", pod_of(&pod.uid), pod.generation, |inside| {
            let now = inside.now();
            let seen = inside.pods.entry(pod.uid.clone()).or_insert_with(|| SeenPod {
                uid: pod.uid.clone(),
                generation: pod.generation,
                name: pod.name.clone(),
                namespace: pod.namespace.clone(),
                cluster_id: pod.cluster_id.clone(),
                ready: true,
                created: Some(now),
                containers: Vec::new(),
            });
            seen.generation = pod.generation;
        })
    }

    async fn ensure_image(&self, pod: &WantedPod, container: &str) -> Result<String> {
        let image = pod.containers.iter().find(|c| c.name == container).map(|c| c.image.clone());
        self.act("ensure image", |_| image.unwrap_or_default())
    }

    async fn ensure_container(&self, pod: &WantedPod, container: &str) -> Result<()> {
        let wanted = pod.containers.iter().find(|c| c.name == container).cloned();
        self.change("ensure container", pod_of(&pod.uid), pod.generation, |inside| {
            let started = inside.now();
            let (Some(wanted), Some(seen)) = (wanted, inside.pods.get_mut(&pod.uid)) else { return };
            seen.generation = pod.generation;
            if seen.containers.iter().any(|c| c.name == wanted.name && c.attempt == wanted.attempt) {
                return;
            }
            let id = format!("{}-{}-{}", pod.uid, wanted.name, wanted.attempt);
            seen.containers.push(SeenContainer {
                id: id.clone(),
                name: wanted.name,
                attempt: wanted.attempt,
                image: wanted.image.clone(),
                image_ref: wanted.image,
                state: ContainerState::Running { started },
                log_path: PathBuf::from("/dev/null"),
            });
            inside.started(&id);
        })
    }

    async fn stop_container(&self, container_id: &str, _: Duration) -> Result<()> {
        self.act("stop container", |inside| inside.end_container(container_id, 143))
    }

    async fn remove(&self, uid: &str, _: Duration, at: Generation) -> Result<()> {
        self.change("remove pod", pod_of(uid), at, |inside| {
            inside.pods.remove(uid);
        })
    }

    fn forget_generations(&self) -> Result<()> {
        self.inside().forget_generations()
    }

    async fn exec(&self, container_id: &str, _: &[String], _: Duration) -> Result<ExecOutput> {
        Err(DriverFault::Refused(format!("nothing runs in the simulated container {container_id}")))
    }

    fn exec_program(&self, container_id: &str, _: &[String], _: bool) -> Result<Vec<String>> {
        Err(DriverFault::Refused(format!("nothing runs in the simulated container {container_id}")))
    }

    async fn stream(&self, _: &StreamRequest) -> Result<String> {
        Err(DriverFault::Refused("a simulated host has no streams".into()))
    }
}

#[async_trait]
impl NetDriver for Host {
    async fn health(&self) -> Health {
        health("network")
    }

    async fn apply(&self, network: &HostNetwork, at: Generation) -> Result<SeenNetwork> {
        self.change("apply network", NETWORK.to_owned(), at, |inside| {
            inside.network = network.clone();
            let wires = network.domains.iter().flat_map(|d| &d.bridges).flat_map(|b| &b.ports);
            let wires =
                wires.map(|wire| SeenWire { port_id: wire.port_id.clone(), active: wire.up, failed: false }).collect();
            SeenNetwork { wires, late: Vec::new() }
        })
    }

    async fn plug(&self, port_id: &str, _: &Path, _: &str, at: Generation) -> Result<()> {
        let known = |network: &HostNetwork| {
            let mut wires = network.domains.iter().flat_map(|d| &d.bridges).flat_map(|b| &b.ports);
            wires.any(|wire| wire.port_id == port_id)
        };
        if !known(&self.inside().network) {
            return Err(DriverFault::NotReady(format!("the port {port_id} is not part of the simulated network")));
        }
        self.change("plug", format!("port-{port_id}"), at, |_| ())
    }

    async fn unplug(&self, port_id: &str, at: Generation) -> Result<()> {
        self.change("unplug", format!("port-{port_id}"), at, |_| ())
    }

    fn forget_generations(&self) -> Result<()> {
        self.inside().forget_generations()
    }

    async fn dial(&self, port_id: &str, _: SocketAddr) -> Result<std::net::TcpStream> {
        Err(DriverFault::Unavailable(format!("nobody answers behind the simulated port {port_id}")))
    }

    async fn purge(&self) -> Result<()> {
        self.act("purge", |inside| inside.network = HostNetwork::default())
    }
}
