//! Starts a VM's QEMU. The machine is q35 unless somebody asks for the older one: microvm boots a second sooner under TCG (1.6 s to init against 2.8 s
//! on a quiet machine), but most of that is the unpacking of a compressed kernel (on a busy machine q35 took 5.3 s with
//! an unpacked kernel, 9.8 s with a bzImage), and it has no PCI Express, into which volumes are to be plugged while the
//! guest runs, and boots no disk by itself.
//!
//! QEMU is told all paths relative to the VM's directory, in which it runs: sockets may not have long ones.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use driver::{DriverFault, Result};
use model::wanted::{Boot, WantedVm};
use serde_json::json;

use crate::accel::Accel;
use crate::detach::detach;
use crate::disk::{self, Ready};
use crate::firmware::Files;
use crate::hardware;
use crate::process::Process;
use crate::user::{self, User};
use crate::{PROCESS, failed};

/// Room for translated code in MiB. QEMU's own choice is up to a gigabyte a VM.
const TRANSLATIONS: u32 = 128;

/// All that a QEMU is made from.
pub struct Plan<'a> {
    pub binary: &'a Path,
    pub accel: Accel,
    pub dir: &'a Path,
    pub vm: &'a WantedVm,
    pub disks: &'a [Ready],
    /// `None`: the BIOS that QEMU brings.
    pub firmware: Option<&'a Files>,
    /// A file with the guest's memory, to go on from.
    pub memory: Option<&'a str>,
    /// One for each interface, in order.
    pub taps: &'a [OwnedFd],
    /// KVM, opened for a user who could not.
    pub kvm: Option<OwnedFd>,
    /// `None`: as who we are.
    pub user: Option<User>,
}

/// KVM, for a QEMU that may not open it by itself.
pub fn open_kvm() -> Result<OwnedFd> {
    let file = fs::File::options().read(true).write(true).open("/dev/kvm");
    file.map(OwnedFd::from).map_err(|e| failed("cannot open /dev/kvm".to_owned(), e))
}

/// What a guest boots from that is not on its disk, in the VM's directory.
const KERNEL: &str = "boot.kernel";
const INITRD: &str = "boot.initrd";

/// Brings the guest's kernel into the VM's directory, under names that QEMU is told.
pub async fn bring_kernel(dir: &Path, boot: &Boot) -> Result<()> {
    for name in [KERNEL, INITRD] {
        let _ = fs::remove_file(dir.join(name));
    }
    let Boot::Kernel { kernel, initrd, .. } = boot else { return Ok(()) };
    let bring = async |from: &Path, name: &str| {
        disk::link_or_copy(from, &dir.join(name)).await.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => DriverFault::Refused(format!("cannot boot from {}: {e}", from.display())),
            _ => failed(format!("cannot bring {} into {}", from.display(), dir.display()), e),
        })
    };
    bring(kernel, KERNEL).await?;
    match initrd {
        Some(initrd) => bring(initrd, INITRD).await,
        None => Ok(()),
    }
}

/// By this argument a QEMU is known to be that of a VM.
pub fn mark(id: &str) -> String {
    format!("guest={id}")
}

/// Starts QEMU, which outlives us.
pub fn start(plan: &Plan) -> Result<Process> {
    let fault = |e: io::Error| failed("cannot start QEMU".to_owned(), e);
    for old in ["qmp.sock", "serial.sock", hardware::AGENT, PROCESS] {
        let _ = fs::remove_file(plan.dir.join(old));
    }
    let log = user::fresh(&plan.dir.join("qemu.log")).map_err(fault)?;
    let mut command = Command::new(plan.binary);
    command.args(arguments(plan)).current_dir(plan.dir).stdin(Stdio::null());
    command.stdout(log.try_clone().map_err(fault)?).stderr(log);
    detach(&mut command, plan.taps.iter().chain(&plan.kvm).map(AsRawFd::as_raw_fd).collect(), plan.user);
    // tokio reaps it when it ends while we run; the handle itself is of no use.
    let child = tokio::process::Command::from(command).spawn().map_err(fault)?;
    let process = child.id().and_then(|pid| Process::find(pid as i32));
    let process =
        process.ok_or_else(|| DriverFault::Failed(format!("QEMU ended at once: {}", last_words(plan.dir))))?;
    process.record(&plan.dir.join(PROCESS)).map_err(fault)?;
    Ok(process)
}

/// What QEMU said last, for messages.
pub fn last_words(dir: &Path) -> String {
    let text = fs::read(dir.join("qemu.log")).unwrap_or_default();
    last_line(&String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..])).to_owned()
}

fn last_line(text: &str) -> &str {
    // "terminating on signal" is what we made it say; a hint follows what is wrong.
    let said = |l: &&str| !l.is_empty() && !l.contains("terminating on signal") && !l.starts_with("Use -");
    let line = text.lines().rev().map(str::trim).find(said);
    line.map_or("without a word", |l| l.trim_start_matches("qemu-system-x86_64: "))
}

pub fn arguments(plan: &Plan) -> Vec<String> {
    let vm = plan.vm;
    let mut words = Vec::new();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("-name", mark(&vm.id));
    match (plan.accel, &plan.kvm) {
        (Accel::Kvm, Some(kvm)) => {
            add("-add-fd", format!("fd={},set=1", kvm.as_raw_fd()));
            add("-accel", "kvm,device=/dev/fdset/1".to_owned());
        }
        (Accel::Kvm, None) => add("-accel", "kvm".to_owned()),
        (Accel::Tcg, _) => add("-accel", format!("tcg,thread=multi,tb-size={TRANSLATIONS}")),
    }
    hardware::board(plan, &mut add);
    // By these names guests' cloud-init knows that there is a metadata service to ask.
    add("-smbios", "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,version=Braid".to_owned());
    add("-display", "none".to_owned());
    add("-vga", "none".to_owned());
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".to_owned());
    add("-qmp", "unix:qmp.sock,server=on,wait=off".to_owned());
    add(
        "-chardev",
        "socket,id=serial0,path=serial.sock,server=on,wait=off,logfile=console.log,logappend=on".to_owned(),
    );
    add("-serial", "chardev:serial0".to_owned());
    hardware::extras(plan, &mut add);
    hardware::disks(plan, &mut add);
    hardware::nics(plan, &mut add);
    if let Boot::Kernel { initrd, cmdline, .. } = &vm.boot {
        // By names in the VM's directory: the way to the images is closed to it.
        add("-kernel", KERNEL.to_owned());
        if initrd.is_some() {
            add("-initrd", INITRD.to_owned());
        }
        add("-append", cmdline.clone());
    }
    if let Some(memory) = plan.memory {
        add("-incoming", format!("file:{memory}"));
    }
    // With -no-shutdown a guest that powers itself off leaves its QEMU standing, so that whoever looks later knows why
    // it does not run; a QEMU that is gone was killed or died.
    words.extend(["-nodefaults", "-no-user-config", "-no-shutdown"].map(str::to_owned));
    words
}

pub fn blockdev(disk: &Ready, keep_discarded: bool) -> serde_json::Value {
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let discard = if keep_discarded { "ignore" } else { "unmap" };
    let file = |file: &Path| json!({"driver": "file", "filename": name(file), "discard": discard});
    let mut node = json!({
        "node-name": disk::node(&disk.id), "driver": disk.format, "file": file(&disk.file),
        "read-only": disk.read_only, "discard": discard,
    });
    if let Some((base, format)) = &disk.base {
        let mut backing = json!({"driver": format, "file": file(base), "read-only": true});
        if format == "qcow2" {
            // Whatever its header may say.
            backing["backing"] = serde_json::Value::Null;
        }
        node["backing"] = backing;
    }
    node
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn what_is_wrong_is_told_and_not_the_hint() {
        let machine = "qemu-system-x86_64: unsupported machine type \"pc-q35-99.0\"\nUse -machine help to list supported machines\n";
        assert_eq!(last_line(machine), "unsupported machine type \"pc-q35-99.0\"");
        assert_eq!(last_line("a\nqemu-system-x86_64: terminating on signal 15\n\n"), "a");
        assert_eq!(last_line("\n"), "without a word");
    }
}
