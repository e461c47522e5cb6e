//! The driver with real guests. Skipped, saying so, where QEMU or the test images are missing.
#![allow(clippy::print_stderr)]

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use driver::suite::{self, VmBench};
use driver::{Attach, Attachment, DriverFault, SeenVm, VmDriver};
use driver_qemu::{Config, Qemu};
use model::VmPhase;
use model::machine::{Firmware, Machine, TpmModel};
use model::wanted::{Boot, Disk, Generation, Nic, WantedVm};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const IMAGES: &str = "/var/cache/braid/images";
/// Here nothing is older than anything else.
const NOW: Generation = Generation(1);
/// A guest under TCG on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

struct NoTaps;

#[async_trait]
impl Attach for NoTaps {
    async fn attach(&self, nic: &Nic) -> driver::Result<Attachment> {
        Err(DriverFault::NotReady(format!("there is no tap {}", nic.device)))
    }
}

/// A driver in a directory of its own. What it leaves behind is killed.
struct Bench {
    dir: tempfile::TempDir,
    qemu: Qemu,
}

impl Bench {
    fn new() -> Option<Self> {
        let missing = ["tiny.vmlinuz", "tiny.initrd", "tiny.img"].iter().find(|f| !Path::new(IMAGES).join(f).exists());
        if missing.is_some() || !Path::new("/usr/bin/qemu-system-x86_64").exists() {
            eprintln!("skipped: needs qemu-system-x86_64 and the images in {IMAGES}");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let qemu = Self::driver(dir.path());
        Some(Self { dir, qemu })
    }

    fn driver(dir: &Path) -> Qemu {
        Qemu::new(Config { dir: dir.join("qemu"), ..Config::default() })
    }

    fn vm(&self, id: &str) -> WantedVm {
        let image = |name: &str| PathBuf::from(IMAGES).join(name).canonicalize().expect("an image");
        let unpacked = Path::new(IMAGES).join("tiny.vmlinux").exists();
        WantedVm {
            generation: NOW,
            id: id.to_owned(),
            uuid: "6f1c8a52-3f0e-4b1e-9d4d-0a6f5d1f2b3c".to_owned(),
            name: "a name, with a comma".to_owned(),
            vcpus: 1,
            memory_mib: 192,
            running: true,
            paused: false,
            suspended: false,
            rescue: false,
            soft_reboots: 0,
            hard_reboots: 0,
            boot: Boot::Kernel {
                kernel: image(if unpacked { "tiny.vmlinux" } else { "tiny.vmlinuz" }),
                initrd: Some(image("tiny.initrd")),
                cmdline: "console=ttyS0 quiet swiotlb=noforce".to_owned(),
            },
            disks: vec![Disk {
                id: "root".to_owned(),
                base: Some(image("tiny.img")),
                format: "raw".to_owned(),
                size: 64 << 20,
                read_only: false,
                take_from: None,
                made: false,
            }],
            machine: Default::default(),
            config_drive: Default::default(),
            nics: vec![],
        }
    }

    async fn ensure(&self, vm: &WantedVm) -> SeenVm {
        self.qemu.ensure(vm, &NoTaps).await.expect("a step")
    }

    /// Takes steps until the VM is so.
    async fn until(&self, vm: &WantedVm, what: &str, good: impl Fn(&SeenVm) -> bool) -> SeenVm {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.ensure(vm).await;
            if good(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "waited in vain: {what}: {seen:?}: {}", self.console(vm));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn console(&self, vm: &WantedVm) -> String {
        String::from_utf8_lossy(&std::fs::read(self.qemu.console_log(&vm.id)).unwrap_or_default()).into_owned()
    }

    /// Until the console has shown a text that often.
    async fn shown(&self, vm: &WantedVm, text: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.console(vm).matches(text).count() < times {
            assert!(Instant::now() < deadline, "no {text:?} on the console: {}", self.console(vm));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Types a line into the guest's shell, once that has a prompt. What the guest has not read yet is lost when the
    /// connection is dropped.
    #[must_use]
    async fn type_line(&self, vm: &WantedVm, line: &str) -> UnixStream {
        self.shown(vm, "\n# ", 1).await;
        let mut serial = UnixStream::connect(self.qemu.console_socket(&vm.id)).expect("a serial line");
        serial.write_all(format!("{line}\n").as_bytes()).expect("a line");
        serial
    }

    async fn booted(&self, vm: &WantedVm, times: usize) {
        self.shown(vm, "braid-guest: init started", times).await;
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let vms = std::fs::read_dir(self.dir.path().join("qemu/vms")).into_iter().flatten().flatten();
        for vm in vms {
            let record = std::fs::read_to_string(vm.path().join("process")).unwrap_or_default();
            if let Some(pid) = record.split(' ').next().and_then(|pid| pid.parse().ok()) {
                let ours = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == vm.path());
                let _ = ours.then(|| kill(Pid::from_raw(pid), Signal::SIGKILL));
            }
        }
    }
}

/// The cases that every driver of VMs must pass.
struct Common(Bench, bool);

#[async_trait]
impl Attach for Common {
    async fn attach(&self, nic: &Nic) -> driver::Result<Attachment> {
        NoTaps.attach(nic).await
    }
}

impl VmBench for Common {
    fn driver(&self) -> Box<dyn VmDriver> {
        Box::new(Bench::driver(self.0.dir.path()))
    }
    fn vm(&self, id: &str) -> WantedVm {
        self.0.vm(id)
    }
    fn folder(&self) -> &Path {
        self.0.dir.path()
    }
    fn runs(&self) -> bool {
        self.1
    }
    fn kept(&self) -> Vec<String> {
        let kept = std::fs::read_dir(self.0.dir.path().join("qemu/kept")).into_iter().flatten().flatten();
        kept.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

#[tokio::test]
async fn what_every_driver_does_with_vms() {
    for runs in [false, true] {
        let Some(bench) = Bench::new() else { return };
        suite::vms(&Common(bench, runs)).await;
    }
}

#[tokio::test]
async fn what_every_driver_does_with_old_orders() {
    let Some(bench) = Bench::new() else { return };
    suite::old_orders_for_vms(&Common(bench, false)).await;
}

#[tokio::test]
async fn what_every_driver_does_with_kept_disks() {
    let Some(bench) = Bench::new() else { return };
    suite::kept_disks(&Common(bench, true)).await;
}

fn runs(seen: &SeenVm) -> bool {
    seen.phase == VmPhase::Running
}

/// A guest that breaks out of its QEMU is nobody, and takes no more than it was promised.
#[tokio::test]
async fn a_vm_has_a_user_and_limits_of_its_own() {
    let Some(mut bench) = Bench::new() else { return };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    // As a cloud's folder is.
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(bench.dir.path(), closed).expect("closed");
    let group = format!("braid-test-vms-{}", std::process::id());
    let dir = bench.dir.path().join("qemu");
    let config = || Config {
        dir: dir.clone(),
        first_user: Some(1_950_000_000),
        group: Some(group.clone()),
        ..Config::default()
    };
    bench.qemu = Qemu::new(config());
    let (one, two) = (bench.vm("one.1"), bench.vm("two.1"));
    let about = |seen: SeenVm| {
        let pid = seen.pid.expect("a process");
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status")
            + &std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("groups")
    };
    for (vm, user) in [(&one, 1_950_000_000), (&two, 1_950_000_001)] {
        let text = about(bench.until(vm, "it runs", runs).await);
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        assert_eq!(line("Uid:"), format!("Uid:\t{user}\t{user}\t{user}\t{user}"), "{text}");
        assert_eq!(line("CapEff:"), "CapEff:\t0000000000000000", "{text}");
        if text.contains("memory") {
            assert!(text.contains(&format!("memory:/{group}/{}", vm.id)), "{text}");
        }
    }
    // Its disk is copied while it runs and when it does not, though it reaches nothing outside of its directory.
    let copy = bench.dir.path().join("copies/one");
    assert_eq!(bench.qemu.copy_disk("one.1", "root", &copy, NOW).await.expect("a copy"), 64 << 20);
    assert!(copy.exists());
    // The next driver knows the users, and what was put aside comes back.
    let next = Qemu::new(config());
    let aside = bench.dir.path().join("aside");
    assert!(next.put_aside("one.1", &aside, NOW).await.expect("put aside"));
    assert!(aside.join("root.qcow2").exists());
    assert!(!next.put_aside("one.1", &aside, NOW).await.expect("nothing is there"));
    next.give_back("one.1", &aside, NOW).await.expect("given back");
    assert_eq!(next.copy_disk("one.1", "root", &copy, NOW).await.expect("a copy"), 64 << 20);
    bench.until(&one, "it runs again", runs).await;
    for vm in [&one, &two] {
        next.remove(&vm.id, false, NOW).await.expect("removed");
    }
    let left = std::fs::read_dir(bench.dir.path().join("qemu/users")).expect("users").count();
    assert_eq!(left, 0, "their users are free");
    driver::cgroup::remove(&group).await;
    let groups = std::fs::read_dir("/sys/fs/cgroup").expect("control groups").flatten().map(|tree| tree.path());
    let left: Vec<_> = groups.map(|tree| tree.join(group.trim_start_matches('/'))).filter(|dir| dir.exists()).collect();
    assert!(left.is_empty(), "groups of VMs are left: {left:?}");
}

/// The pid of a VM's swtpm, while it runs.
fn swtpm(dir: &Path) -> Option<u32> {
    let record = std::fs::read_to_string(dir.join("tpm.process")).ok()?;
    let pid = record.split(' ').next()?.parse().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    (!stat.contains(") Z ")).then_some(pid)
}

/// UEFI starts the guest's kernel, and there is a TPM, a process of its own. What both know outlives a hard reboot, sleep,
/// and the incarnation.
#[tokio::test]
async fn uefi_and_a_tpm_keep_what_they_know() {
    let Some(mut bench) = Bench::new() else { return };
    if !["/usr/bin/swtpm", "/usr/share/qemu/firmware"].iter().all(|path| Path::new(path).exists()) {
        eprintln!("skipped: needs swtpm and ovmf");
        return;
    }
    let (vms, user) = (bench.dir.path().join("qemu/vms"), 1_951_000_000);
    let root = nix::unistd::geteuid().is_root();
    let config = Config { dir: bench.dir.path().join("qemu"), ..Config::default() };
    bench.qemu = Qemu::new(Config { first_user: root.then_some(user), ..config });
    let machine = Machine { firmware: Firmware::Uefi, tpm: Some(TpmModel::Crb), ..Machine::default() };
    let mut vm = WantedVm { memory_mib: 256, machine, ..bench.vm("trusted.1") };
    if let Boot::Kernel { kernel, .. } = &mut vm.boot {
        // Firmware starts kernels that are packed.
        *kernel = Path::new(IMAGES).join("tiny.vmlinuz").canonicalize().expect("a kernel");
    }
    bench.until(&vm, "it runs", runs).await;
    let ask = "cat /sys/class/tpm/tpm0/tpm_version_major /sys/firmware/efi/fw_platform_size | tr '\\n' ' '; echo said";
    let _line = bench.type_line(&vm, ask).await;
    bench.shown(&vm, "2 64 said", 1).await;

    let dir = vms.join("trusted.1");
    let kept = std::fs::metadata(dir.join("tpm/tpm2-00.permall")).expect("the TPM's state");
    assert_eq!(kept.mode() & 0o777, 0o600);
    assert!(!root || kept.uid() == user, "{}", kept.uid());
    let first = swtpm(&dir).expect("swtpm runs");
    vm.hard_reboots = 1;
    bench.until(&vm, "a hard reboot", |seen| runs(seen) && seen.hard_reboots == 1).await;
    // Its third prompt: it rests.
    bench.shown(&vm, "\n# ", 3).await;
    let second = swtpm(&dir).expect("swtpm runs");
    assert_ne!(first, second);
    vm.suspended = true;
    bench.until(&vm, "it sleeps", |seen| seen.phase == VmPhase::Suspended && seen.pid.is_none()).await;
    vm.suspended = false;
    bench.until(&vm, "it goes on", runs).await;
    let _line = bench.type_line(&vm, "cat /sys/class/tpm/tpm0/tpm_version_major | tr '\\n' ' '; echo again").await;
    bench.shown(&vm, "2 again", 1).await;

    let variables = std::fs::metadata(dir.join("uefi.vars")).expect("variables").ino();
    std::fs::write(dir.join("tpm/mark"), "").expect("a mark");
    bench.qemu.remove(&vm.id, true, NOW).await.expect("removed");
    assert_eq!(swtpm(&dir), None);
    let mut next = WantedVm { id: "trusted.2".to_owned(), hard_reboots: 0, ..vm };
    next.disks[0].take_from = Some("trusted.1".to_owned());
    bench.until(&next, "it runs", runs).await;
    let dir = vms.join("trusted.2");
    assert_eq!(std::fs::metadata(dir.join("uefi.vars")).expect("variables").ino(), variables);
    assert!(dir.join("tpm/mark").exists());
    bench.booted(&next, 1).await;
    let last = swtpm(&dir).expect("swtpm runs");
    bench.qemu.remove(&next.id, false, NOW).await.expect("removed");
    let ended = std::fs::read_to_string(format!("/proc/{last}/stat")).map_or(true, |stat| stat.contains(") Z "));
    assert!(ended, "swtpm is gone");
}

/// The guest finds it by its label and reads the files under their names.
#[tokio::test]
async fn the_guest_reads_its_config_drive() {
    let Some(bench) = Bench::new() else { return };
    let mut vm = bench.vm("config.1");
    let said = "{\"hostname\": \"by-config-drive\"}\n";
    vm.config_drive = [
        ("openstack/latest/meta_data.json".to_owned(), said.as_bytes().to_vec()),
        ("openstack/latest/user_data".to_owned(), b"#!/bin/sh\n".to_vec()),
    ]
    .into();
    bench.until(&vm, "it runs", |seen| seen.phase == VmPhase::Running).await;
    let look = "mkdir /c; mount -o ro $(findfs LABEL=config-2) /c; cat /c/openstack/latest/meta_data.json; find /c -type f; \
                echo all-\"read\"";
    let _line = bench.type_line(&vm, look).await;
    bench.shown(&vm, "all-read", 1).await;
    let console = bench.console(&vm);
    assert!(console.contains(said.trim()), "{console}");
    assert!(console.contains("/c/openstack/latest/user_data"), "{console}");
    let config = bench.dir.path().join("qemu/vms/config.1/config.iso");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(config).expect("the drive").permissions());
    assert_eq!(mode & 0o777, 0o600, "a password may be in it");
    bench.qemu.remove(&vm.id, false, NOW).await.expect("removed");
}

/// Copies of a disk in use and of one that is not both have what the guest wrote, and depend on nothing.
#[tokio::test]
async fn a_disk_is_copied_with_and_without_its_guest() {
    let Some(bench) = Bench::new() else { return };
    let mut vm = bench.vm("copied.1");
    let runs = |seen: &SeenVm| seen.phase == VmPhase::Running;
    bench.until(&vm, "it runs", runs).await;
    let _line = bench.type_line(&vm, "echo left-here >/root/note; sync; echo all-\"written\"").await;
    bench.shown(&vm, "all-written", 1).await;
    let usage = bench.qemu.usage(&vm.id).await.expect("what it has used");
    assert_eq!(
        (usage.disks.len(), usage.cpu_nanoseconds.len()),
        (vm.disks.len(), usize::try_from(vm.vcpus).unwrap()),
        "{usage:?}"
    );
    assert!(usage.disks[0].write_bytes > 0 && usage.disks[0].read_bytes > 0, "{usage:?}");
    assert!(usage.cpu_nanoseconds[0] > 0 && usage.resident_kib > Some(1024), "{usage:?}");
    let (live, still) = (bench.dir.path().join("live"), bench.dir.path().join("still"));
    for _ in 0..2 {
        let size = bench.qemu.copy_disk(&vm.id, "root", &live, NOW).await.expect("a copy of a disk in use");
        assert_eq!(size, 64 << 20);
    }
    vm.running = false;
    bench.until(&vm, "it stops", |seen| seen.phase == VmPhase::Stopped && seen.pid.is_none()).await;
    bench.qemu.copy_disk(&vm.id, "root", &still, NOW).await.expect("a copy of a disk that nobody uses");
    bench.qemu.remove(&vm.id, false, NOW).await.expect("removed");
    let none = bench.qemu.copy_disk(&vm.id, "root", &still, NOW).await.expect_err("nothing is there");
    assert!(matches!(none, DriverFault::NotReady(_)), "{none}");

    for (id, file) in [("live.1", live), ("still.1", still)] {
        let mut vm = bench.vm(id);
        vm.disks[0].base = Some(file);
        vm.disks[0].format = "qcow2".to_owned();
        bench.until(&vm, "it runs from the copy", runs).await;
        let _line = bench.type_line(&vm, "cat /root/note").await;
        bench.shown(&vm, "left-here", 1).await;
        bench.qemu.remove(id, false, NOW).await.expect("removed");
    }
}

/// A suspended guest goes on where it was, also for another Braid.
#[tokio::test]
async fn a_guest_is_suspended_and_goes_on() {
    let Some(mut bench) = Bench::new() else { return };
    let mut vm = bench.vm("suspended.1");
    let runs = |seen: &SeenVm| seen.phase == VmPhase::Running;
    bench.until(&vm, "it runs", runs).await;
    let line = bench.type_line(&vm, "n=1; while sleep 1; do echo at-$n; n=$((n+1)); done").await;
    bench.shown(&vm, "at-2", 1).await;
    vm.suspended = true;
    bench.until(&vm, "it is suspended", |seen| seen.phase == VmPhase::Suspended && seen.pid.is_none()).await;
    drop(line);
    bench.qemu = Bench::driver(bench.dir.path());
    assert_eq!(bench.ensure(&vm).await.phase, VmPhase::Suspended);
    let said = bench.console(&vm).matches("at-").count();
    vm.suspended = false;
    bench.until(&vm, "it goes on", runs).await;
    bench.shown(&vm, &format!("at-{}", said + 1), 1).await;
    assert_eq!(bench.console(&vm).matches("init started").count(), 1, "it was not booted");
    assert!(!bench.dir.path().join("qemu/vms/suspended.1/memory").exists());

    vm.suspended = true;
    bench.until(&vm, "it is suspended again", |seen| seen.phase == VmPhase::Suspended && seen.pid.is_none()).await;
    (vm.suspended, vm.hard_reboots) = (false, 1);
    bench.until(&vm, "it is started anew", runs).await;
    bench.booted(&vm, 2).await;
    bench.qemu.remove(&vm.id, false, NOW).await.expect("removed");
}

/// One that answered once does not start any more when it does not.
#[tokio::test]
async fn a_qemu_that_hangs_is_not_one_that_starts() {
    let Some(bench) = Bench::new() else { return };
    let vm = bench.vm("hangs.1");
    let seen = bench.until(&vm, "it runs", |seen| seen.phase == VmPhase::Running).await;
    let pid = Pid::from_raw(seen.pid.expect("a process") as i32);
    kill(pid, Signal::SIGSTOP).expect("stopped");
    let seen = bench.ensure(&vm).await;
    assert!(seen.phase == VmPhase::Unknown && seen.message.contains("does not answer"), "{seen:?}");
    kill(pid, Signal::SIGCONT).expect("it goes on");
    bench.until(&vm, "it runs on", |seen| seen.phase == VmPhase::Running).await;
    bench.qemu.remove(&vm.id, false, NOW).await.expect("removed");
}

#[tokio::test]
async fn a_guest_is_rescued() {
    let Some(bench) = Bench::new() else { return };
    let plain = bench.vm("rescued.1");
    bench.until(&plain, "it runs", |seen| seen.phase == VmPhase::Running).await;
    bench.booted(&plain, 1).await;
    let mut vm = plain.clone();
    vm.rescue = true;
    vm.disks.insert(0, Disk { id: "rescue".to_owned(), size: 0, ..plain.disks[0].clone() });
    bench.until(&vm, "it is rescued", |seen| seen.phase == VmPhase::Running && seen.rescued).await;
    bench.booted(&vm, 2).await;
    bench.shown(&vm, "\n# ", 1).await;
    let _line = bench.type_line(&vm, "cat /sys/block/vda/serial /sys/block/vdb/serial").await;
    bench.shown(&vm, "rescueroot", 1).await;
    bench.until(&plain, "it is itself again", |seen| seen.phase == VmPhase::Running && !seen.rescued).await;
    bench.booted(&vm, 3).await;
    assert!(!bench.dir.path().join("qemu/vms/rescued.1/rescue.qcow2").exists());
    bench.qemu.remove(&vm.id, false, NOW).await.expect("removed");
}

#[tokio::test]
async fn a_guest_boots_pauses_and_reboots() {
    let Some(bench) = Bench::new() else { return };
    let health = bench.qemu.health().await;
    assert_eq!(health.problem, "");
    eprintln!("{}", health.version);
    let mut vm = bench.vm("server-a.1");
    let started = Instant::now();
    let first = bench.until(&vm, "it runs", runs).await;
    eprintln!("QEMU answers after {:?}", started.elapsed());
    bench.booted(&vm, 1).await;
    eprintln!("init runs after {:?}", started.elapsed());

    // Another driver, as after a restart of Braid, finds the same process.
    let second = Bench::driver(bench.dir.path());
    assert_eq!(second.list().await.expect("a list"), std::slice::from_ref(&first));
    assert_eq!(second.ensure(&vm, &NoTaps).await.expect("a step").pid, first.pid);

    vm.paused = true;
    bench.until(&vm, "it pauses", |seen| seen.phase == VmPhase::Paused).await;
    vm.paused = false;
    assert_eq!(bench.until(&vm, "it goes on", runs).await.pid, first.pid);

    vm.soft_reboots = 1;
    let rebooted = bench.until(&vm, "a soft reboot", |seen| runs(seen) && seen.soft_reboots == 1).await;
    assert_ne!(rebooted.pid, first.pid);
    bench.booted(&vm, 2).await;
    assert!(bench.console(&vm).contains("reboot: Power down"), "it was asked politely: {}", bench.console(&vm));

    vm.hard_reboots = 1;
    let again = bench.until(&vm, "a hard reboot", |seen| runs(seen) && seen.hard_reboots == 1).await;
    assert_ne!(again.pid, rebooted.pid);
    bench.booted(&vm, 3).await;

    bench.qemu.remove(&vm.id, false, NOW).await.expect("removed");
    bench.qemu.remove(&vm.id, false, NOW).await.expect("removed twice");
    assert_eq!(bench.qemu.list().await.expect("a list"), []);
    let pid = again.pid.expect("a process");
    let ended = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    assert!(ended, "QEMU is gone");
    assert!(!bench.dir.path().join("qemu/vms/server-a.1").exists());
}

#[tokio::test]
async fn a_guest_that_stopped_stays_so_until_it_is_started() {
    let Some(bench) = Bench::new() else { return };
    let mut vm = bench.vm("server-b.1");
    bench.until(&vm, "it runs", runs).await;
    let _serial = bench.type_line(&vm, "echo left >/root/note; sync; poweroff").await;
    let off =
        bench.until(&vm, "it powers itself off", |seen| seen.phase == VmPhase::Stopped && seen.pid.is_none()).await;
    assert_eq!(off.message, "the guest powered itself off");
    assert_eq!(bench.ensure(&vm).await, off, "it stays off");

    vm.hard_reboots = 1;
    let on = bench.until(&vm, "it is started", runs).await;
    bench.booted(&vm, 2).await;
    kill(Pid::from_raw(on.pid.expect("a process") as i32), Signal::SIGKILL).expect("killed");
    let dead = bench.until(&vm, "its death is noticed", |seen| seen.phase == VmPhase::Stopped).await;
    assert!(dead.message.starts_with("QEMU was killed or died"), "{}", dead.message);
    assert_eq!(bench.ensure(&vm).await.pid, None, "it stays dead");

    vm.running = false;
    let off = bench.ensure(&vm).await;
    assert_eq!((off.phase, off.message.as_str()), (VmPhase::Stopped, ""));
    vm.running = true;
    bench.until(&vm, "it is started again", runs).await;
    bench.booted(&vm, 3).await;
    vm.running = false;
    bench.until(&vm, "it is stopped", |seen| seen.phase == VmPhase::Stopped && seen.pid.is_none()).await;

    // The next incarnation takes the disk over.
    bench.qemu.remove("server-b.1", true, NOW).await.expect("removed");
    assert_eq!(bench.qemu.list().await.expect("a list"), []);
    let mut next = bench.vm("server-b.2");
    next.disks[0].take_from = Some("server-b.1".to_owned());
    next.disks[0].size = 128 << 20;
    bench.until(&next, "it runs", runs).await;
    let _serial = bench.type_line(&next, "cat /root/note /sys/block/vda/size | tr '\\n' ' '").await;
    bench.shown(&next, "left 262144", 1).await;
    bench.qemu.purge().await.expect("purged");
    assert!(!bench.dir.path().join("qemu").exists());
}

/// A tap in a namespace of its own, which it keeps alive.
struct Tap;

#[async_trait]
impl Attach for Tap {
    #[allow(unsafe_code)]
    async fn attach(&self, _: &Nic) -> driver::Result<Attachment> {
        let open = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace");
            let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
            // SAFETY: an ifreq of zeros is valid, the kernel reads and writes within it only.
            unsafe {
                let mut request: libc::ifreq = std::mem::zeroed();
                request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
                assert_eq!(libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &mut request), 0);
            }
            OwnedFd::from(tun)
        };
        Ok(Attachment::Tap(std::thread::spawn(open).join().expect("a tap")))
    }
}

#[tokio::test]
async fn a_guest_has_the_interface_and_the_disks_that_it_was_given() {
    let Some(bench) = Bench::new() else { return };
    let mut vm = bench.vm("server-d.1");
    vm.nics = vec![nic()];
    let config = bench.dir.path().join("config.iso");
    std::fs::write(&config, [b'c'; 1 << 20]).expect("a file");
    let disk = |id: &str, base, size, read_only| Disk {
        id: id.to_owned(),
        base,
        format: "raw".to_owned(),
        size,
        read_only,
        take_from: None,
        made: false,
    };
    vm.disks.push(disk("config", Some(config), 0, true));
    vm.disks.push(disk("0f8ad0f4-56c1-4d38-9a3f-6d3c7b1a2e55", None, 32 << 20, false));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = bench.qemu.ensure(&vm, &Tap).await.expect("a step");
        if runs(&seen) {
            break;
        }
        assert!(seen.phase == VmPhase::Starting && Instant::now() < deadline, "it does not run: {seen:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let files = "/sys/class/net/eth0/address /sys/class/net/eth0/mtu /sys/block/vdb/ro /sys/block/vdc/serial";
    let _serial = bench.type_line(&vm, &format!("cat {files} | tr '\\n' ' '; head -c 3 /dev/vdb")).await;
    bench.shown(&vm, "fa:16:3e:00:00:01 1450 1 0f8ad0f4-56c1-4d38-9", 1).await;
    bench.shown(&vm, "ccc", 1).await;
    bench.qemu.remove(&vm.id, false, NOW).await.expect("removed");
}

fn nic() -> Nic {
    Nic {
        port_id: "p".to_owned(),
        mac: "fa:16:3e:00:00:01".to_owned(),
        mtu: 1450,
        device: "tap0".to_owned(),
        namespace: "ns".to_owned(),
    }
}

#[tokio::test]
async fn what_cannot_work_says_why() {
    let Some(bench) = Bench::new() else { return };
    let mut vm = bench.vm("server-c.1");
    vm.nics = vec![nic()];
    let fault = bench.qemu.ensure(&vm, &NoTaps).await.expect_err("no tap");
    assert_eq!(fault, DriverFault::NotReady("there is no tap tap0".to_owned()));
    let mut small = bench.vm("server-c.2");
    small.disks[0].size = 1 << 20;
    let fault = bench.qemu.ensure(&small, &NoTaps).await.expect_err("too small");
    assert!(matches!(&fault, DriverFault::Refused(text) if text.contains("needs a disk of")), "{fault}");
    let mut kernel = bench.vm("server-c.3");
    kernel.boot = Boot::Kernel { kernel: "/no/such/kernel".into(), initrd: None, cmdline: String::new() };
    let fault = bench.qemu.ensure(&kernel, &NoTaps).await.expect_err("no kernel");
    assert!(matches!(&fault, DriverFault::Refused(text) if text.contains("/no/such/kernel")), "{fault}");
    assert!(bench.qemu.ensure(&WantedVm { id: "../x".to_owned(), ..kernel }, &NoTaps).await.is_err());
    let absent =
        Qemu::new(Config { dir: bench.dir.path().join("other"), binary: Some("/no/qemu".into()), ..Config::default() });
    assert!(absent.health().await.problem.starts_with("VMs cannot run: /no/qemu"), "{:?}", absent.health().await);
}
