//! One step of a VM towards what is wanted; the machine of states is drawn in the crate's documentation.

use std::fs;
use std::time::{Duration, Instant};

use driver::cgroup::{self, Limits};
use driver::{Attach, DriverFault, Result, SeenVm};
use model::VmPhase;
use model::wanted::WantedVm;

use crate::accel::Accel;
use crate::launch::{self, Plan};
use crate::process::Process;
use crate::state::{Asked, Ended, State, now, this_boot};
use crate::{FIRST_LOOK, PROCESS, Qemu, disk, failed, firmware, hardware, qmp, suspend, tpm, user};

/// Seconds that a guest has to power off before it is killed, unless its image says otherwise.
const STOP_LIMIT: u64 = 60;
const REBOOT_LIMIT: u64 = 120;
/// Threads of QEMU beside those of its cores.
const PIDS: u64 = 256;
/// Seconds between two such requests.
const ASK_PAUSE: u64 = 5;
/// A QEMU that listens answers in milliseconds; one that is being started may not listen yet.
const SILENCE_AT_START: Duration = Duration::from_secs(30);

/// What there is of a VM.
pub(crate) enum There {
    Nothing,
    /// QEMU answers, and says that the guest is so.
    Answers(Process, String),
    Silent(Process, String),
}

impl Qemu {
    pub(crate) async fn there(&self, id: &str) -> There {
        let Some(process) = self.process(id) else { return There::Nothing };
        match qmp::status(&self.vm_dir(id)).await {
            Ok(status) => There::Answers(process, status),
            // It may have ended while we asked.
            Err(_) if !process.runs() => There::Nothing,
            Err(error) => There::Silent(process, error.to_string()),
        }
    }

    /// A VM as it is, without changing anything.
    pub(crate) async fn look(&self, id: &str) -> SeenVm {
        let state = State::load(&self.vm_dir(id));
        let there = self.there(id).await;
        self.seen(id, &state, &there)
    }

    fn seen(&self, id: &str, state: &State, there: &There) -> SeenVm {
        let (phase, message, pid) = match there {
            There::Answers(process, status) if state.suspended && suspend::is_loading(status) => {
                (VmPhase::Suspended, String::new(), Some(process.pid))
            }
            There::Answers(process, status) => {
                let (phase, message) = match (&state.asked, status.as_str()) {
                    // It did as it was asked; the next step goes on from there.
                    (Some(Asked { reboot: true, .. }), "shutdown") => (VmPhase::Starting, "it is rebooting".to_owned()),
                    (Some(_), "shutdown") => (VmPhase::Stopped, String::new()),
                    _ => running_phase(status),
                };
                (phase, message, Some(process.pid))
            }
            There::Silent(process, error) if !state.answered && self.is_young(id) => {
                (VmPhase::Starting, format!("QEMU does not answer yet: {error}"), Some(process.pid))
            }
            There::Silent(process, error) => {
                (VmPhase::Unknown, format!("QEMU runs and does not answer: {error}"), Some(process.pid))
            }
            There::Nothing => match &state.ended {
                Some(Ended { message, failed: true }) => (VmPhase::Failed, message.clone(), None),
                Some(Ended { message, .. }) => (VmPhase::Stopped, message.clone(), None),
                None if state.suspended => (VmPhase::Suspended, String::new(), None),
                None if state.started => (VmPhase::Stopped, self.death(id), None),
                None => (VmPhase::Stopped, String::new(), None),
            },
        };
        let (soft_reboots, hard_reboots) = (state.soft_reboots, state.hard_reboots);
        SeenVm {
            id: id.to_owned(),
            generation: self.generations.newest(&crate::record(id)),
            phase,
            message,
            ended: phase == VmPhase::Stopped && state.ended.is_some(),
            soft_reboots,
            hard_reboots,
            rescued: state.rescue,
            made: state.made,
            pid: pid.and_then(|pid| u32::try_from(pid).ok()),
        }
    }

    fn is_young(&self, id: &str) -> bool {
        let started = fs::metadata(self.vm_dir(id).join(PROCESS)).and_then(|m| m.modified());
        started.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < SILENCE_AT_START))
    }

    /// How a QEMU ended that nobody saw end.
    fn death(&self, id: &str) -> String {
        format!("QEMU was killed or died: {}", launch::last_words(&self.vm_dir(id)))
    }

    pub(crate) async fn bring_nearer(&self, vm: &WantedVm, ports: &dyn Attach) -> Result<SeenVm> {
        let dir = self.vm_dir(&vm.id);
        fs::create_dir_all(&dir).map_err(|e| failed(format!("cannot create {}", dir.display()), e))?;
        let before = State::load(&dir);
        let mut state = before.clone();
        let there = self.there(&vm.id).await;
        if matches!(there, There::Nothing) {
            vm.disks.iter().try_for_each(|disk| disk::missing(&dir, disk))?;
        }
        state.answered |= matches!(there, There::Answers(..));
        let start = match &there {
            There::Nothing => self.step_stopped(vm, &mut state),
            There::Answers(process, status) => self.step_running(vm, &mut state, process, status).await?,
            // Nothing that it could be told; but it can be killed.
            There::Silent(process, _) => {
                let hard = vm.running && vm.hard_reboots > state.hard_reboots;
                if hard || (!vm.running && overdue(&mut state, false, stop_limit(vm))) {
                    self.kill(vm, process, &mut state).await?;
                }
                hard
            }
        };
        if start {
            let outcome = self.start(vm, ports, &mut state).await;
            self.keep(&dir, &before, &state)?;
            outcome?;
        } else {
            self.keep(&dir, &before, &state)?;
        }
        Ok(self.look(&vm.id).await)
    }

    fn keep(&self, dir: &std::path::Path, before: &State, state: &State) -> Result<()> {
        if before == state && dir.join("state.json").exists() {
            return Ok(());
        }
        state.save(dir).map_err(|e| failed(format!("cannot write to {}", dir.display()), e))
    }

    /// No QEMU runs. Whether to start one.
    fn step_stopped(&self, vm: &WantedVm, state: &mut State) -> bool {
        if state.suspended && suspend::is_obsolete(vm, state) {
            suspend::forget(&self.vm_dir(&vm.id), state);
        }
        if state.suspended {
            if std::mem::take(&mut state.loading) {
                state.ended(self.death(&vm.id));
            }
            state.started = false;
            return !vm.suspended && state.ended.is_none();
        }
        if state.started && state.asked.is_none() && state.boot == this_boot() {
            state.ended(self.death(&vm.id));
        }
        // It went away after it was asked to, or with the host.
        state.started = false;
        state.asked = None;
        if !vm.running {
            state.ended = None;
            return false;
        }
        state.ended.is_none() || vm.hard_reboots > state.hard_reboots || vm.rescue != state.rescue
    }

    /// QEMU runs and answers. Whether to start another one, this one being gone then.
    async fn step_running(&self, vm: &WantedVm, state: &mut State, process: &Process, status: &str) -> Result<bool> {
        if vm.running && (vm.hard_reboots > state.hard_reboots || vm.rescue != state.rescue) {
            self.kill(vm, process, state).await?;
            suspend::forget(&self.vm_dir(&vm.id), state);
            return Ok(true);
        }
        let kept = suspend::is_loading(status) || (status == "postmigrate" && vm.suspended);
        if state.suspended && !kept {
            suspend::forget(&self.vm_dir(&vm.id), state);
        }
        match status {
            "shutdown" => {
                let asked = state.asked.take();
                self.kill(vm, process, state).await?;
                if asked.is_none() && vm.running {
                    state.ended("the guest powered itself off".to_owned());
                }
                Ok(asked.is_some() && vm.running)
            }
            "guest-panicked" | "internal-error" => {
                let words = launch::last_words(&self.vm_dir(&vm.id));
                self.kill(vm, process, state).await?;
                state.ended(format!("the guest broke down ({status}): {words}"));
                Ok(false)
            }
            _ if !vm.running => {
                self.stop_softly(vm, state, process, status).await?;
                Ok(false)
            }
            _ if suspend::is_loading(status) => Ok(false),
            _ if vm.suspended => {
                self.suspend(vm, state, process, status).await?;
                Ok(false)
            }
            _ if vm.soft_reboots > state.soft_reboots => self.reboot_softly(vm, state, process, status).await,
            _ => {
                // It was asked to stop, did not within the time, and is wanted again.
                if state.asked.as_ref().is_some_and(|a| now().saturating_sub(a.at) > stop_limit(vm)) {
                    state.asked = None;
                }
                match (vm.paused, status) {
                    (true, "running") => self.tell(vm, "stop").await?,
                    // With an I/O error the guest waits for room on the disk; if there still is none, it waits on.
                    (false, "paused" | "prelaunch" | "postmigrate" | "io-error") => self.tell(vm, "cont").await?,
                    _ => {}
                }
                Ok(false)
            }
        }
    }

    /// A paused guest hears nothing, so it is killed, as a paused machine's plug is pulled.
    async fn stop_softly(&self, vm: &WantedVm, state: &mut State, process: &Process, status: &str) -> Result<()> {
        if status != "running" || overdue(state, false, stop_limit(vm)) {
            return self.kill(vm, process, state).await;
        }
        self.ask(vm, state).await
    }

    async fn reboot_softly(&self, vm: &WantedVm, state: &mut State, process: &Process, status: &str) -> Result<bool> {
        if status != "running" || overdue(state, true, REBOOT_LIMIT) {
            self.kill(vm, process, state).await?;
            return Ok(true);
        }
        self.ask(vm, state).await?;
        Ok(false)
    }

    /// Presses the power button, now and then: a guest that is still booting does not notice the first time.
    async fn ask(&self, vm: &WantedVm, state: &mut State) -> Result<()> {
        match &mut state.asked {
            Some(asked) if now().saturating_sub(asked.again) >= ASK_PAUSE => asked.again = now(),
            _ => return Ok(()),
        }
        self.tell(vm, "system_powerdown").await
    }

    pub(crate) async fn tell(&self, vm: &WantedVm, command: &str) -> Result<()> {
        match qmp::command(&self.vm_dir(&vm.id), command).await {
            Ok(_) => Ok(()),
            Err(error) => Err(DriverFault::Failed(format!("QEMU does not do {command}: {error}"))),
        }
    }

    /// Ends QEMU, which writes out what it holds if it can, and keeps no grudge.
    pub(crate) async fn kill(&self, vm: &WantedVm, process: &Process, state: &mut State) -> Result<()> {
        let _ = qmp::command(&self.vm_dir(&vm.id), "quit").await;
        if !process.gone_within(Duration::from_secs(2)).await && !process.kill().await {
            return Err(DriverFault::Failed(format!("QEMU (process {}) does not end", process.pid)));
        }
        state.started = false;
        state.asked = None;
        Ok(())
    }

    async fn start(&self, vm: &WantedVm, ports: &dyn Attach, state: &mut State) -> Result<()> {
        let (binary, found) = self.qemu().await?;
        let dir = self.vm_dir(&vm.id);
        let earlier = vm.disks.iter().find_map(|disk| disk.take_from.as_deref()).filter(|_| !state.made);
        // Nobody removes what is being taken over, and whoever had decided to comes late from here on.
        let taking = earlier.map(|id| Ok((id, self.pass(id, vm.generation)?))).transpose()?;
        user::clean(&dir).map_err(|e| failed(format!("cannot clean {}", dir.display()), e))?;
        if vm.rescue != state.rescue {
            disk::remove(&dir, "rescue")?;
        }
        let mut disks = Vec::new();
        for wanted in &vm.disks {
            let taken = wanted.take_from.as_deref().map(|from| self.disks_of(from)).transpose()?;
            disks.push(disk::ensure(&dir, wanted, taken.as_deref()).await?);
        }
        if !vm.config_drive.is_empty() {
            disks.push(disk::config_drive(&dir, &vm.config_drive)?);
        }
        let firmware = hardware::is_uefi(&vm.machine).then(|| firmware::find(&vm.machine)).transpose()?;
        let taken = vm.disks.iter().find_map(|disk| disk.take_from.as_deref());
        let taken = taken.map(|from| self.disks_of(from)).transpose()?;
        if let Some(files) = &firmware {
            let name = firmware::variables_of(&vm.machine, vm.rescue);
            firmware::variables(&dir, name, files, taken.as_deref(), vm.machine.stateless || vm.rescue)?;
        }
        let mut taps = Vec::new();
        for nic in &vm.nics {
            taps.push(hardware::tap(nic, ports.attach(nic).await?)?);
        }
        let user = self.users.of(&vm.id).map_err(|e| failed("cannot choose a user".to_owned(), e))?;
        let user = user.filter(|_| found.serves_users());
        launch::bring_kernel(&dir, &vm.boot).await?;
        user.map_or(Ok(()), |user| user::prepare(&dir, user))
            .map_err(|e| failed(format!("cannot prepare {}", dir.display()), e))?;
        if vm.machine.tpm.is_some() {
            let process = tpm::start(vm, &dir, taken.as_deref(), user).await?;
            self.confine(vm, &process);
        }
        if let Some((id, pass)) = taking {
            // What nobody has taken stays until the server goes.
            let _ = fs::remove_dir(self.kept_dir(id));
            self.generations.gone(pass)?;
        }
        let kvm = match user {
            Some(_) if found.accel == Accel::Kvm => Some(launch::open_kvm()?),
            _ => None,
        };
        let suspended = state.suspended;
        let memory = suspended.then_some(suspend::MEMORY);
        let (accel, firmware) = (found.accel, firmware.as_ref());
        let plan = Plan { binary, accel, dir: &dir, vm, disks: &disks, firmware, memory, taps: &taps, kvm, user };
        let (soft_reboots, hard_reboots) = (vm.soft_reboots, vm.hard_reboots);
        let boot = this_boot();
        let rescue = vm.rescue;
        *state = State {
            soft_reboots,
            hard_reboots,
            suspended,
            loading: suspended,
            rescue,
            made: true,
            started: true,
            answered: false,
            boot,
            ended: None,
            asked: None,
        };
        // On record before there is a process, so that none is ever unknown.
        state.save(&dir).map_err(|e| failed(format!("cannot write to {}", dir.display()), e))?;
        let process = match launch::start(&plan) {
            Ok(process) => process,
            Err(fault) => {
                // Nothing ran, so the next step tries again.
                state.started = false;
                return Err(fault);
            }
        };
        self.confine(vm, &process);
        tracing::info!(vm = vm.id, pid = process.pid, accel = ?found.accel, "started");
        self.first_look(vm, &process, state).await;
        Ok(())
    }

    /// A VM takes no more of the host than it was promised and QEMU itself needs. A host without control groups goes on.
    fn confine(&self, vm: &WantedVm, process: &Process) {
        let Some(group) = self.group(&vm.id) else { return };
        let limits = Limits {
            memory: Some((vm.memory_mib + vm.machine.video_mib + model::Vm::OVERHEAD_MIB) << 20),
            pids: Some(PIDS + 2 * vm.vcpus),
            cpu_milli: Some(vm.vcpus * 1000),
        };
        let pid = u32::try_from(process.pid).ok();
        if let Err(error) = cgroup::confine(&group, &limits, pid) {
            tracing::warn!(vm = vm.id, %error, "the VM is not confined");
        }
    }

    /// What QEMU objects to, it objects to at once.
    async fn first_look(&self, vm: &WantedVm, process: &Process, state: &mut State) {
        let dir = self.vm_dir(&vm.id);
        let deadline = Instant::now() + FIRST_LOOK;
        while Instant::now() < deadline {
            if !process.runs() {
                let message = format!("QEMU did not start: {}", launch::last_words(&dir));
                state.started = false;
                state.ended = Some(Ended { message, failed: true });
                if let Err(error) = tpm::end(&vm.id, &dir).await {
                    tracing::warn!(vm = vm.id, %error, "swtpm is left");
                }
                return;
            }
            if qmp::status(&dir).await.is_ok() {
                state.answered = true;
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The directory with the disks of another VM, which must not run any more.
    fn disks_of(&self, id: &str) -> Result<std::path::PathBuf> {
        disk::check_name(id, "a VM")?;
        if self.process(id).is_some() {
            return Err(DriverFault::NotReady(format!("VM {id}, whose disk is to be taken over, still runs")));
        }
        let kept = self.kept_dir(id);
        Ok(if kept.exists() { kept } else { self.vm_dir(id) })
    }
}

fn stop_limit(vm: &WantedVm) -> u64 {
    vm.machine.stop_seconds.unwrap_or(STOP_LIMIT)
}

/// Notes when the guest was first asked; whether that is too long ago.
fn overdue(state: &mut State, reboot: bool, limit: u64) -> bool {
    match &state.asked {
        Some(asked) if asked.reboot == reboot => now().saturating_sub(asked.at) >= limit,
        _ => {
            state.asked = Some(Asked { at: now(), again: 0, reboot });
            false
        }
    }
}

/// What QEMU calls it, and what it means.
fn running_phase(status: &str) -> (VmPhase, String) {
    match status {
        "running" => (VmPhase::Running, String::new()),
        "paused" | "suspended" | "postmigrate" | "finish-migrate" => (VmPhase::Paused, String::new()),
        "prelaunch" | "inmigrate" | "restore-vm" => (VmPhase::Starting, String::new()),
        "shutdown" => (VmPhase::Stopped, "the guest powered itself off".to_owned()),
        "io-error" => {
            (VmPhase::Paused, "the guest waits: its disk cannot be written, the host's may be full".to_owned())
        }
        // It was to be paused then, and goes on with its next hard reboot.
        "watchdog" => (VmPhase::Paused, "the guest did not calm its watchdog".to_owned()),
        "guest-panicked" | "internal-error" => (VmPhase::Failed, format!("the guest broke down ({status})")),
        other => (VmPhase::Unknown, format!("QEMU says that the guest is {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_its_watchdog_paused_is_paused() {
        let (phase, words) = running_phase("watchdog");
        assert_eq!((phase, words.as_str()), (VmPhase::Paused, "the guest did not calm its watchdog"));
    }
}
