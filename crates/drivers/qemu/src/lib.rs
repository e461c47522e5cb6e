//! VMs, run by QEMU: one process each, spoken to over QMP, which outlives Braid. Refused: libvirt, a daemon with a state
//! of its own between us and QEMU; cloud-hypervisor and Firecracker, which need KVM.
//!
//! ```text
//!                     ensure, running                     the guest powers off, QEMU dies
//!   nothing ─────────────────────────────> running/paused ────────────────────────────────> ended
//!      ^                                     │       ^                                       │
//!      │ remove (from anywhere)     stop asked       │ started again, if hard_reboots grew   │
//!      │                                     v       │ or it was not wanted to run meanwhile │
//!   stopped <───── the guest obeys, or KILL after 60 s ───────────────────────────────────────┘
//!
//!   suspended: the guest is stopped, its memory written to a file, QEMU ended; resumed: started from the file
//!   rescue, and its end: KILL, start with other disks
//!   soft reboot: the guest is asked to power off, and started when it has, or after 120 s in any case
//!   hard reboot: KILL, start
//! ```
//!
//! Every call of `ensure` takes at most one of these steps; nothing waits for a guest.
//!
//! What a guest does by itself counts: one that powers itself off stays off, as Nova shows it (SHUTOFF), and so does one
//! whose QEMU died or was killed; the message says which. Only `hard_reboots`, or not being wanted and wanted again, start
//! it again. (Whoever starts a server whose power is on and whose VM has ended must therefore count `hard_reboots` up.)
//! The exception is a host that was booted anew: its guests did not end by themselves and are started.
//!
//! * [`vm`]: the steps, [`suspend`]: those with memory in a file; [`state`]: what is remembered for them
//! * [`launch`]: QEMU's command line, [`hardware`]: its devices, [`firmware`]: UEFI, [`tpm`]: swtpm; [`qmp`]: what it is told later; [`accel`]: is KVM of use here
//! * [`user`]: whom QEMU runs as; [`usage`]: what it has used
//! * [`aside`]: a VM that nobody wants, out of the way and back
//! * [`disk`]: a VM's disks, [`iso`]: its config drive, [`copy`]: copies of disks that are in use; [`process`]: QEMU's process

mod accel;
mod aside;
mod copy;
mod detach;
mod disk;
mod firmware;
mod hardware;
#[doc(hidden)]
pub mod hostile;
mod iso;
mod launch;
mod qmp;
mod state;
mod suspend;
mod tpm;
mod usage;
mod user;
mod vm;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use driver::generation::{Generations, Pass};
use driver::{Attach, DriverFault, Health, Result, SeenVm, VmDriver, cgroup, process};
use futures_util::future::join_all;
use model::wanted::{Generation, WantedVm};
use model::{Vm, VmUsage};
use tokio::sync::OnceCell;

pub use accel::Accel;
use accel::Found;
use process::Process;
use state::State;

/// The file that says which process a VM is.
const PROCESS: &str = "process";
const BINARY: &str = "qemu-system-x86_64";
/// A guest can write to its console without end.
const CONSOLE_LIMIT: u64 = 8 << 20;
const CONSOLE_KEPT: u64 = 1 << 20;

#[derive(Clone, Debug, Default)]
pub struct Config {
    /// All VMs are below it.
    pub dir: PathBuf,
    /// `None`: KVM if a probe shows that it works, else TCG.
    pub accel: Option<Accel>,
    /// `None`: the one of the system.
    pub binary: Option<PathBuf>,
    /// Each VM's QEMU runs as a user of its own, from this one on; `None`: as who we are.
    pub first_user: Option<u32>,
    /// The control group, at the root of the host's, below which each VM has one. Unique on the host.
    pub group: Option<String>,
}

/// The driver. Cheap to make; keeps nothing that it could not find out again.
pub struct Qemu {
    config: Config,
    users: user::Users,
    generations: Generations,
    found: OnceCell<(PathBuf, Found)>,
    /// One step at a time for each VM.
    steps: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Qemu {
    pub fn new(config: Config) -> Self {
        let users = user::Users::new(&config.dir, config.first_user);
        let generations = Generations::new(&config.dir);
        Self { config, users, generations, found: OnceCell::new(), steps: Mutex::default() }
    }

    /// QEMU and what it runs guests with. Asked for anew as long as there is no QEMU.
    async fn qemu(&self) -> Result<&(PathBuf, Found)> {
        let find = async || {
            let fault = || DriverFault::Unavailable(missing().unwrap_or_default());
            let binary = self.config.binary.clone().or_else(|| process::which(BINARY)).ok_or_else(fault)?;
            let dir = &self.config.dir;
            fs::create_dir_all(dir).map_err(|e| failed(format!("cannot create {}", dir.display()), e))?;
            let found = accel::find(&binary, self.config.accel, dir).await?;
            if self.config.first_user.is_some() && !found.serves_users() {
                tracing::warn!(version = found.version, "this QEMU cannot be handed KVM: VMs run as root");
            }
            tracing::info!(accel = ?found.accel, why = found.why, version = found.version, "VMs can run");
            Ok((binary, found))
        };
        self.found.get_or_try_init(find).await
    }

    /// A VM's directory.
    fn vm_dir(&self, id: &str) -> PathBuf {
        self.config.dir.join("vms").join(id)
    }

    /// A VM's control group.
    fn group(&self, id: &str) -> Option<String> {
        self.config.group.as_ref().map(|group| format!("{group}/{id}"))
    }

    /// Nothing of a VM runs, and nothing of it is here any more.
    async fn forget_process(&self, id: &str) {
        self.users.forget(id);
        if let Some(group) = self.group(id) {
            cgroup::remove(&group).await;
        }
    }

    /// Where the disks of a VM are that is gone, for the next incarnation of its server.
    fn kept_dir(&self, id: &str) -> PathBuf {
        self.config.dir.join("kept").join(id)
    }

    fn step(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever is in a step holds its lock too.
        steps.retain(|_, lock| Arc::strong_count(lock) > 1);
        steps.entry(id.to_owned()).or_default().clone()
    }

    /// Leave to change a VM; asked for by whoever is in its step.
    fn pass(&self, id: &str, at: Generation) -> Result<Pass> {
        self.generations.pass(&record(id), at)
    }

    fn process(&self, id: &str) -> Option<Process> {
        let (dir, mark) = (self.vm_dir(id), launch::mark(id));
        let record = dir.join(PROCESS);
        // We may have died between starting it and writing that down.
        if !record.exists() && State::load(&dir).started {
            return Process::search(&mark, &dir);
        }
        Process::recorded(&record, &mark)
    }
}

/// A VM's name among the driver's generations.
fn record(id: &str) -> String {
    format!("vm-{id}")
}

/// Why no VM can run on this machine, as far as that shows at once.
pub fn missing() -> Option<String> {
    let packages = [(BINARY, "qemu-system-x86"), ("qemu-img", "qemu-utils")];
    let (program, package) = packages.into_iter().find(|(program, _)| process::which(program).is_none())?;
    Some(format!("VMs cannot run: {program} is not installed (Debian: {package})"))
}

#[async_trait]
impl VmDriver for Qemu {
    async fn health(&self) -> Health {
        let part = "VMs".to_owned();
        match self.qemu().await {
            Ok((_, Found { accel: Accel::Kvm, version, .. })) => {
                Health { part, version: format!("{version}, KVM"), ..Health::default() }
            }
            Ok((_, Found { why, version, .. })) => {
                Health { part, version: format!("{version}, TCG ({why})"), ..Health::default() }
            }
            Err(fault) => Health { part, problem: fault.to_string(), ..Health::default() },
        }
    }

    async fn list(&self) -> Result<Vec<SeenVm>> {
        let dir = self.config.dir.join("vms");
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| failed(format!("cannot read {}", dir.display()), e))?,
        };
        let ids = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        Ok(join_all(ids.map(async |id| self.look(&id).await)).await)
    }

    async fn ensure(&self, vm: &WantedVm, ports: &dyn Attach) -> Result<SeenVm> {
        disk::check_name(&vm.id, "a VM")?;
        let step = self.step(&vm.id);
        let _alone = step.lock().await;
        let _pass = self.pass(&vm.id, vm.generation)?;
        trim_console(&self.console_log(&vm.id));
        self.bring_nearer(vm, ports).await
    }

    async fn remove(&self, id: &str, keep_disks: bool, at: Generation) -> Result<()> {
        disk::check_name(id, "a VM")?;
        let step = self.step(id);
        let _alone = step.lock().await;
        let pass = self.pass(id, at)?;
        self.destroy(id, keep_disks).await?;
        self.generations.gone(pass)
    }

    async fn put_aside(&self, id: &str, to: &Path, at: Generation) -> Result<bool> {
        disk::check_name(id, "a VM")?;
        let step = self.step(id);
        let _alone = step.lock().await;
        let pass = self.pass(id, at)?;
        let something = self.put_aside(id, to).await?;
        self.generations.gone(pass).map(|()| something)
    }

    async fn give_back(&self, id: &str, from: &Path, at: Generation) -> Result<()> {
        disk::check_name(id, "a VM")?;
        let step = self.step(id);
        let _alone = step.lock().await;
        let _pass = self.pass(id, at)?;
        self.give_back(id, from).await
    }

    async fn copy_disk(&self, id: &str, disk: &str, to: &Path, at: Generation) -> Result<u64> {
        disk::check_name(id, "a VM")?;
        disk::check_name(disk, "a disk")?;
        self.copy(id, disk, to, at).await
    }

    async fn end_copy(&self, id: &str, at: Generation) -> Result<()> {
        disk::check_name(id, "a VM")?;
        self.forget_copy(id, at).await
    }

    fn forget_generations(&self) -> Result<()> {
        self.generations.forget()
    }

    async fn usage(&self, id: &str) -> Result<VmUsage> {
        disk::check_name(id, "a VM")?;
        self.usage_of(id).await
    }

    fn console_log(&self, id: &str) -> PathBuf {
        self.vm_dir(id).join("console.log")
    }
}

impl Qemu {
    /// The socket of a VM's first serial line, for a person at the console.
    pub fn console_socket(&self, id: &str) -> PathBuf {
        self.vm_dir(id).join("serial.sock")
    }

    /// Kills every VM and removes all that the driver ever made.
    pub async fn purge(&self) -> Result<()> {
        for vm in self.list().await? {
            let step = self.step(&vm.id);
            let _alone = step.lock().await;
            self.destroy(&vm.id, false).await?;
        }
        if let Some(group) = &self.config.group {
            cgroup::remove(group).await;
        }
        remove_dir(&self.config.dir)
            .await
            .map_err(|e| failed(format!("cannot remove {}", self.config.dir.display()), e))
    }

    /// Whoever calls is in the VM's step.
    async fn destroy(&self, id: &str, keep_disks: bool) -> Result<()> {
        if let Some(process) = self.process(id)
            && !process.kill().await
        {
            return Err(DriverFault::Failed(format!("QEMU (process {}) of VM {id} does not end", process.pid)));
        }
        tpm::end(id, &self.vm_dir(id)).await?;
        let fault = |e| failed(format!("cannot remove VM {id}"), e);
        if keep_disks {
            self.keep_disks(id).map_err(fault)?;
        } else {
            self.forget_kept(id).await.map_err(fault)?;
        }
        remove_dir(&self.vm_dir(id)).await.map_err(fault)?;
        self.forget_process(id).await;
        Ok(())
    }

    fn keep_disks(&self, id: &str) -> io::Result<()> {
        let (from, to) = (self.vm_dir(id), self.kept_dir(id));
        // Also when there is nothing to keep: so it is known that nothing was lost.
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(&from).into_iter().flatten().flatten().filter(|e| stays(&e.path())) {
            fs::rename(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    }

    /// Disks that were kept of this or of an earlier incarnation: nobody will take them over any more.
    async fn forget_kept(&self, id: &str) -> io::Result<()> {
        let Some((server, incarnation)) = Vm::parts(id) else { return remove_dir(&self.kept_dir(id)).await };
        for entry in fs::read_dir(self.config.dir.join("kept")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let kept = name.to_str().and_then(Vm::parts);
            if kept.is_some_and(|(of, n)| of == server && n <= incarnation) {
                remove_dir(&entry.path()).await?;
            }
        }
        Ok(())
    }
}

/// Goes along with the disks of a VM to its next incarnation.
fn stays(file: &Path) -> bool {
    let named = |name: &str| file.file_name().is_some_and(|own| own == name);
    disk::is_disk(file) || firmware::VARIABLES.into_iter().any(named) || named(tpm::STATE)
}

async fn remove_dir(dir: &Path) -> io::Result<()> {
    let dir = dir.to_owned();
    match driver::on_a_thread(move || fs::remove_dir_all(dir)).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Keeps the end of a console that became too long. QEMU appends, so it goes on at the new end.
fn trim_console(log: &Path) {
    use std::io::{Read, Seek, Write};
    let trim = || -> io::Result<()> {
        if fs::metadata(log)?.len() < CONSOLE_LIMIT {
            return Ok(());
        }
        let mut file = fs::File::options().read(true).append(true).open(log)?;
        let length = file.metadata()?.len();
        file.seek(io::SeekFrom::Start(length.saturating_sub(CONSOLE_KEPT)))?;
        let mut tail = Vec::new();
        (&mut file).take(CONSOLE_KEPT).read_to_end(&mut tail)?;
        file.set_len(0)?;
        file.write_all(&tail)
    };
    match trim() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => tracing::warn!(%error, "cannot trim a console's log"),
        _ => {}
    }
}

/// How long to wait for a new QEMU to answer or fail before saying that it is starting.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// A fault of the host, with what was tried.
fn failed(what: String, error: io::Error) -> DriverFault {
    DriverFault::Failed(format!("{what}: {error}"))
}
