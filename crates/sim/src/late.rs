//! Orders that sleep. An agent may be stopped between its decision and the host, for as long as it likes: other agents take
//! its place, rows move on, and then it wakes and does what it had decided. So each host keeps copies of the orders that it
//! was given, and gets one of them again later.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use driver::sim::Host;
use driver::{
    Attach, Attachment, ContainerState, ExecOutput, Health, NetDriver, PodDriver, Result, SeenNetwork, SeenPod, SeenVm,
    StreamRequest, Used, VmDriver,
};
use model::VmUsage;
use model::hostnet::HostNetwork;
use model::wanted::{Generation, Nic, WantedPod, WantedVm};

use crate::mutation::Mutation;

/// The oldest are forgotten beyond so many.
const KEPT: usize = 64;

/// An order that was decided and may come late.
#[derive(Clone)]
enum Order {
    EnsureVm(Box<WantedVm>),
    RemoveVm(String, bool, Generation),
    PutAside(String, PathBuf, Generation),
    Sandbox(Box<WantedPod>),
    Container(Box<WantedPod>, String),
    RemovePod(String, Generation),
    Network(Box<HostNetwork>, Generation),
}

/// A simulated host whose orders may come late; clones are the same host.
#[derive(Clone, Default)]
pub struct Late {
    pub host: Host,
    /// A bug on purpose in what the host is told.
    mutation: Option<Mutation>,
    orders: Arc<Mutex<Vec<Order>>>,
}

impl std::ops::Deref for Late {
    type Target = Host;
    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Late {
    pub fn new(mutation: Option<Mutation>) -> Self {
        Self { mutation, ..Self::default() }
    }

    fn orders(&self) -> MutexGuard<'_, Vec<Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, order: Order) {
        let mut orders = self.orders();
        orders.push(order);
        if orders.len() > KEPT {
            orders.remove(0);
        }
    }

    /// What the host takes a pod for.
    fn misread(&self, pod: &mut SeenPod) {
        for container in &mut pod.containers {
            match (&mut container.state, self.mutation) {
                (ContainerState::Exited { started, .. }, Some(Mutation::Ends)) => {
                    container.state = ContainerState::Running { started: *started };
                }
                (ContainerState::Exited { code, .. }, Some(Mutation::Codes)) => *code = 1,
                _ => {}
            }
        }
    }

    /// One who has slept wakes and does what it had decided; nobody hears how that went. The error says what should have
    /// been refused, as far as no check of the rows could tell.
    pub async fn wake(&self, chance: &mut fastrand::Rng) -> std::result::Result<(), String> {
        let order = {
            let orders = self.orders();
            if orders.is_empty() {
                return Ok(());
            }
            orders[chance.usize(0..orders.len())].clone()
        };
        let host = &self.host;
        match order {
            Order::EnsureVm(vm) => drop(host.ensure(&vm, host).await),
            Order::RemoveVm(id, keep, at) => drop(VmDriver::remove(host, &id, keep, at).await),
            Order::PutAside(id, to, at) => drop(host.put_aside(&id, &to, at).await),
            Order::Sandbox(pod) => drop(host.ensure_sandbox(&pod).await),
            Order::Container(pod, name) => drop(host.ensure_container(&pod, &name).await),
            Order::RemovePod(uid, at) => drop(PodDriver::remove(host, &uid, Duration::ZERO, at).await),
            Order::Network(network, at) => {
                let (before, newest) = (host.network(), host.network_generation());
                drop(host.apply(&network, at).await);
                if at < newest && host.network() != before {
                    return Err(format!("the network of {newest} was replaced by that of {at}"));
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Attach for Late {
    async fn attach(&self, nic: &Nic) -> Result<Attachment> {
        self.host.attach(nic).await
    }
}

#[async_trait]
impl VmDriver for Late {
    async fn health(&self) -> Health {
        VmDriver::health(&self.host).await
    }
    async fn list(&self) -> Result<Vec<SeenVm>> {
        VmDriver::list(&self.host).await
    }
    async fn ensure(&self, vm: &WantedVm, ports: &dyn Attach) -> Result<SeenVm> {
        let mut vm = vm.clone();
        if self.mutation == Some(Mutation::Reboots) {
            (vm.soft_reboots, vm.hard_reboots) = (0, 0);
        }
        self.note(Order::EnsureVm(Box::new(vm.clone())));
        self.host.ensure(&vm, ports).await
    }
    async fn remove(&self, id: &str, keep_disks: bool, at: Generation) -> Result<()> {
        let keep_disks = keep_disks && self.mutation != Some(Mutation::KeptDisks);
        self.note(Order::RemoveVm(id.to_owned(), keep_disks, at));
        let removed = VmDriver::remove(&self.host, id, keep_disks, at).await;
        if self.mutation == Some(Mutation::Believed) { Ok(()) } else { removed }
    }
    async fn put_aside(&self, id: &str, to: &Path, at: Generation) -> Result<bool> {
        if self.mutation == Some(Mutation::Aside) {
            return VmDriver::remove(self, id, false, at).await.map(|()| false);
        }
        self.note(Order::PutAside(id.to_owned(), to.to_owned(), at));
        self.host.put_aside(id, to, at).await
    }
    async fn give_back(&self, id: &str, from: &Path, at: Generation) -> Result<()> {
        self.host.give_back(id, from, at).await
    }
    async fn copy_disk(&self, id: &str, disk: &str, to: &Path, at: Generation) -> Result<u64> {
        self.host.copy_disk(id, disk, to, at).await
    }
    async fn end_copy(&self, id: &str, at: Generation) -> Result<()> {
        self.host.end_copy(id, at).await
    }
    fn forget_generations(&self) -> Result<()> {
        VmDriver::forget_generations(&self.host)
    }
    async fn usage(&self, id: &str) -> Result<VmUsage> {
        self.host.usage(id).await
    }
    fn console_log(&self, id: &str) -> PathBuf {
        self.host.console_log(id)
    }
}

#[async_trait]
impl PodDriver for Late {
    async fn health(&self) -> Health {
        PodDriver::health(&self.host).await
    }
    async fn list(&self) -> Result<Vec<SeenPod>> {
        let mut pods = PodDriver::list(&self.host).await?;
        pods.iter_mut().for_each(|pod| self.misread(pod));
        Ok(pods)
    }
    async fn look(&self, uid: &str) -> Result<Option<SeenPod>> {
        let mut pod = self.host.look(uid).await?;
        pod.iter_mut().for_each(|pod| self.misread(pod));
        Ok(pod)
    }
    async fn ensure_sandbox(&self, pod: &WantedPod) -> Result<()> {
        self.note(Order::Sandbox(Box::new(pod.clone())));
        self.host.ensure_sandbox(pod).await
    }
    async fn ensure_image(&self, pod: &WantedPod, container: &str) -> Result<String> {
        self.host.ensure_image(pod, container).await
    }
    async fn ensure_container(&self, pod: &WantedPod, container: &str) -> Result<()> {
        self.note(Order::Container(Box::new(pod.clone()), container.to_owned()));
        self.host.ensure_container(pod, container).await
    }
    async fn stop_container(&self, container_id: &str, grace: Duration) -> Result<()> {
        self.host.stop_container(container_id, grace).await
    }
    async fn remove(&self, uid: &str, grace: Duration, at: Generation) -> Result<()> {
        self.note(Order::RemovePod(uid.to_owned(), at));
        PodDriver::remove(&self.host, uid, grace, at).await
    }
    fn forget_generations(&self) -> Result<()> {
        PodDriver::forget_generations(&self.host)
    }
    async fn used(&self, uid: &str) -> Result<BTreeMap<String, Used>> {
        self.host.used(uid).await
    }
    async fn exec(&self, container_id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        self.host.exec(container_id, command, timeout).await
    }
    async fn stream(&self, request: &StreamRequest) -> Result<String> {
        self.host.stream(request).await
    }
}

#[async_trait]
impl NetDriver for Late {
    async fn health(&self) -> Health {
        NetDriver::health(&self.host).await
    }
    async fn apply(&self, network: &HostNetwork, at: Generation) -> Result<SeenNetwork> {
        let mut network = network.clone();
        if self.mutation == Some(Mutation::Rules) {
            let bridges = network.domains.iter_mut().flat_map(|domain| &mut domain.bridges);
            bridges.flat_map(|bridge| &mut bridge.ports).for_each(|wire| wire.rules = Some(Vec::new()));
        }
        if self.mutation == Some(Mutation::Wires) {
            let bridges = network.domains.iter_mut().flat_map(|domain| &mut domain.bridges);
            bridges.for_each(|bridge| _ = bridge.ports.pop());
        }
        self.note(Order::Network(Box::new(network.clone()), at));
        self.host.apply(&network, at).await
    }
    async fn plug(&self, port_id: &str, netns: &Path, ifname: &str, at: Generation) -> Result<()> {
        self.host.plug(port_id, netns, ifname, at).await
    }
    async fn unplug(&self, port_id: &str, at: Generation) -> Result<()> {
        self.host.unplug(port_id, at).await
    }
    fn forget_generations(&self) -> Result<()> {
        NetDriver::forget_generations(&self.host)
    }
    async fn dial(&self, port_id: &str, to: SocketAddr) -> Result<TcpStream> {
        self.host.dial(port_id, to).await
    }
    async fn purge(&self) -> Result<()> {
        self.host.purge().await
    }
}
