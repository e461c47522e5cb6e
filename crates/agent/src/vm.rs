//! VMs of this host: from a Vm row and its server to instructions for the driver, and from what the driver sees to the
//! row's status.

use std::collections::BTreeSet;

use driver::SeenVm;
use model::wanted::{Boot, Disk, Nic, WantedVm};
use model::{Change, Entry, Fault, Index, Port, Server, Snapshot, Source, Vm, VmPhase, VmStatus};

use crate::{Agent, fault};

/// Ids of all VMs that somebody wants here or that are here.
pub async fn all(agent: &Agent, snapshot: &Snapshot) -> BTreeSet<String> {
    let mut ids: BTreeSet<String> = snapshot
        .find::<Vm>(Index::Host, &agent.config().host)
        .map(|vm| Vm::id(&vm.server_id, vm.incarnation))
        .collect();
    let seen = agent.listed("listing VMs", agent.drivers().vm.list().await);
    ids.extend(seen.into_iter().map(|vm| vm.id));
    ids
}

/// Makes one VM what its row says, and the row's status what the VM is.
pub async fn step(agent: &Agent, id: &str) -> Result<(), Fault> {
    let snapshot = agent.store().fresh().await?;
    let row = snapshot.get::<Vm>(id).filter(|vm| vm.host.as_deref() == Some(&agent.config().host));
    let Some(vm) = row else {
        // Nobody wants it, and nobody will take its disk over.
        return agent.drivers().vm.remove(id, false).await.map_err(fault);
    };
    let server = snapshot.get::<Server>(&vm.server_id);
    let status = match server {
        Some(server) if !vm.deleting => match wanted(agent, &snapshot, vm, server) {
            Ok(wanted) => ensure(agent, vm.value, &wanted).await,
            Err(why) => VmStatus { phase: waiting_phase(&vm.status), message: why.to_string(), ..vm.status.clone() },
        },
        _ => {
            let keep = server.is_some_and(|s| !s.deleting && s.keep_disk && s.incarnation > vm.incarnation);
            agent.drivers().vm.remove(id, keep).await.map_err(fault)?;
            VmStatus { phase: VmPhase::Gone, message: String::new(), ..vm.status.clone() }
        }
    };
    write(agent, id, status).await
}

async fn ensure(agent: &Agent, vm: &Vm, wanted: &WantedVm) -> VmStatus {
    let drivers = agent.drivers();
    let taps: &dyn driver::TapSource = &NetTaps(agent.clone());
    match drivers.vm.ensure(wanted, taps).await {
        Ok(SeenVm { phase, message, ended, soft_reboots, hard_reboots, .. }) => {
            VmStatus { phase, message, ended, soft_reboots, hard_reboots, since: vm.status.since }
        }
        Err(driver::DriverFault::Refused(why)) => {
            VmStatus { phase: VmPhase::Failed, message: why, ..vm.status.clone() }
        }
        Err(why) => VmStatus { phase: waiting_phase(&vm.status), message: why.to_string(), ..vm.status.clone() },
    }
}

/// A VM that runs does not stop running because something else is amiss.
fn waiting_phase(status: &VmStatus) -> VmPhase {
    match status.phase {
        VmPhase::Unknown | VmPhase::Gone => VmPhase::Starting,
        other => other,
    }
}

struct NetTaps(Agent);

#[async_trait::async_trait]
impl driver::TapSource for NetTaps {
    async fn open_tap(&self, nic: &Nic) -> driver::Result<std::os::fd::OwnedFd> {
        self.0.drivers().net.open_tap(nic).await
    }
}

async fn write(agent: &Agent, id: &str, mut status: VmStatus) -> Result<(), Fault> {
    let now = agent.now();
    agent
        .write(|snapshot| {
            let mut change = Change::new();
            let Some(vm) = snapshot.get::<Vm>(id) else { return Ok(change) };
            if vm.status.phase != status.phase {
                status.since = Some(now);
            }
            if vm.status != status {
                change.edit(vm, |vm| vm.status = status.clone());
            }
            // The first time that it is as wanted is the incarnation's launch.
            let server = snapshot.get::<Server>(&vm.server_id).filter(|s| s.launched_at.is_none());
            if let Some(server) = server {
                let as_wanted = match status.phase {
                    VmPhase::Running | VmPhase::Paused => true,
                    VmPhase::Stopped => !server.power,
                    _ => false,
                };
                if as_wanted {
                    change.edit(server, |server| server.launched_at = Some(now));
                }
            }
            Ok(change)
        })
        .await
}

/// Resolves a VM into plain instructions, or says what is missing.
fn wanted(agent: &Agent, snapshot: &Snapshot, vm: Entry<'_, Vm>, server: Entry<'_, Server>) -> Result<WantedVm, Fault> {
    let id = Vm::id(&server.id, vm.incarnation);
    let gone = || Fault::invalid("the image was gone before the server could start");
    let source = vm.source.as_ref().ok_or_else(gone)?;
    let root = Disk {
        id: "root".into(),
        base: Some(agent.config().blobs.path(&source.blob)),
        format: source.format.clone(),
        size: server.flavor.disk << 30,
        read_only: false,
        take_from: (server.keep_disk && vm.incarnation > 1).then(|| Vm::id(&server.id, vm.incarnation - 1)),
    };
    Ok(WantedVm {
        id,
        uuid: server.id.clone(),
        name: server.name.clone(),
        vcpus: server.flavor.vcpus,
        memory_mib: server.flavor.ram,
        running: server.power && vm.incarnation == server.incarnation,
        paused: server.paused,
        soft_reboots: server.soft_reboots,
        hard_reboots: server.hard_reboots,
        boot: boot(agent, source),
        disks: vec![root],
        nics: nics(agent, snapshot, server.value)?,
    })
}

/// An image with a kernel of its own boots that.
fn boot(agent: &Agent, source: &Source) -> Boot {
    let path = |blob: &String| agent.config().blobs.path(blob);
    match &source.kernel {
        Some(kernel) => Boot::Kernel {
            kernel: path(kernel),
            initrd: source.initrd.as_ref().map(path),
            cmdline: source.cmdline.clone(),
        },
        None => Boot::Disk,
    }
}

/// The interfaces in the order in which they were asked for; all must be part of the network already.
fn nics(agent: &Agent, snapshot: &Snapshot, server: &Server) -> Result<Vec<Nic>, Fault> {
    let network = agent.network();
    let mut ports: Vec<_> = snapshot.find::<Port>(Index::Owner, &server.id).collect();
    ports.sort_by_key(|port| (port.created_at, port.id.clone()));
    ports
        .into_iter()
        .map(|port| {
            let place = network.domains.iter().find_map(|domain| {
                let wires = domain.bridges.iter().flat_map(|bridge| &bridge.ports);
                wires.into_iter().find(|wire| wire.port_id == port.id).map(|wire| (domain, wire))
            });
            let (domain, wire) =
                place.ok_or_else(|| Fault::Unavailable(format!("waits for the network of port {}", port.id)))?;
            Ok(Nic {
                port_id: port.id.clone(),
                mac: port.mac.clone(),
                mtu: wire.mtu,
                device: wire.device.clone(),
                namespace: domain.namespace(&agent.config().prefix),
            })
        })
        .collect()
}
