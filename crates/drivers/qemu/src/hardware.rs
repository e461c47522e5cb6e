//! A machine in QEMU's words: what Nova's `hw_*` properties ask for, device by device. What fits together was decided by
//! whoever made the [`Machine`]; here nothing is left out.

use std::os::fd::{AsRawFd, OwnedFd};

use driver::{Attachment, DriverFault};
use model::machine::{Bus, Firmware, InputBus, Machine, NicModel, ScsiModel, Video, Watchdog};
use model::wanted::{Nic, WantedVm};

use crate::accel::Accel;
use crate::disk::{self, Ready, short};
use crate::firmware::Files;
use crate::launch::{Plan, blockdev};
use crate::tpm;

/// The channel to an agent in the guest, in the VM's directory.
pub const AGENT: &str = "agent.sock";

/// Takes an option and its value.
type Add<'a> = &'a mut dyn FnMut(&str, String);

/// What the machine is, and what is soldered to it.
pub fn board(plan: &Plan, add: Add) {
    let (vm, machine) = (plan.vm, &plan.vm.machine);
    let mut kind = format!("{},vmport=off", machine.chipset());
    if let Some(hpet) = machine.hpet {
        kind += &format!(",hpet={}", on(hpet));
    }
    if let Some(files) = plan.firmware {
        firmware(files, vm, &mut kind, add);
    }
    add("-machine", kind);
    processor(plan, add);
    add("-smp", smp(vm.vcpus.max(1), machine));
    add("-m", format!("{}M", vm.memory_mib));
    add("-uuid", vm.uuid.clone());
    add("-rtc", format!("base={}", if machine.windows { "localtime" } else { "utc" }));
    if machine.boot_menu {
        add("-boot", "menu=on,splash-time=3000".to_owned());
    }
}

fn firmware(files: &Files, vm: &WantedVm, kind: &mut String, add: Add) {
    let machine = &vm.machine;
    let code = serde_json::json!({"node-name": "firmware", "driver": files.code_format, "read-only": true,
        "file": {"driver": "file", "filename": files.code}});
    let variables = serde_json::json!({"node-name": "variables", "driver": files.variables_format,
        "file": {"driver": "file", "filename": crate::firmware::variables_of(machine, vm.rescue)}});
    add("-blockdev", code.to_string());
    add("-blockdev", variables.to_string());
    *kind += ",pflash0=firmware,pflash1=variables";
    if machine.secure_boot {
        // Only the firmware itself may write to its variables.
        *kind += ",smm=on";
        add("-global", "driver=cfi.pflash01,property=secure,value=on".to_owned());
        add("-global", "ICH9-LPC.disable_s3=1".to_owned());
    }
}

fn processor(plan: &Plan, add: Add) {
    let machine = &plan.vm.machine;
    let mut cpu = match plan.accel {
        Accel::Kvm => "host".to_owned(),
        Accel::Tcg => "max".to_owned(),
    };
    if let Some(pmu) = machine.pmu {
        cpu += &format!(",pmu={}", on(pmu));
    }
    if machine.hide_hypervisor {
        cpu += ",kvm=off";
    }
    if machine.windows && plan.accel == Accel::Kvm {
        cpu += ",hv-relaxed=on,hv-vapic=on,hv-spinlocks=0x1fff,hv-time=on";
    }
    add("-cpu", cpu);
}

fn on(yes: bool) -> &'static str {
    if yes { "on" } else { "off" }
}

fn smp(vcpus: u64, machine: &Machine) -> String {
    match machine.topology {
        None => vcpus.to_string(),
        Some(t) => format!("{vcpus},sockets={},cores={},threads={}", t.sockets, t.cores, t.threads),
    }
}

/// The bus of one of the VM's disks.
fn bus_of(machine: &Machine, disk: &Ready) -> Bus {
    match disk.id.as_str() {
        "config" => machine.cdrom_bus.unwrap_or(machine.disk_bus),
        "rescue" => machine.rescue_bus.unwrap_or(machine.disk_bus),
        _ => machine.disk_bus,
    }
}

/// The disks and what they are connected to.
pub fn disks(plan: &Plan, add: Add) {
    let machine = &plan.vm.machine;
    let has = |bus| plan.disks.iter().any(|disk| bus_of(machine, disk) == bus);
    if has(Bus::Scsi) {
        add("-device", format!("{},id=scsi", controller(machine.scsi)));
    }
    if has(Bus::Sata) && !machine.is_q35() {
        add("-device", "ich9-ahci,id=sata".to_owned());
    }
    let mut taken = [0; 3];
    for (index, disk) in plan.disks.iter().enumerate() {
        add("-blockdev", blockdev(disk, machine.keep_discarded).to_string());
        let bus = bus_of(machine, disk);
        let place = match bus {
            Bus::Virtio => 0,
            Bus::Scsi => next(&mut taken[0]),
            Bus::Ide => next(&mut taken[1]),
            Bus::Sata => next(&mut taken[2]),
        };
        add("-device", disk_device(machine, disk, bus, place, index + 1));
    }
}

fn next(count: &mut usize) -> usize {
    *count += 1;
    *count - 1
}

fn controller(model: ScsiModel) -> &'static str {
    match model {
        ScsiModel::Virtio => "virtio-scsi-pci",
        ScsiModel::Lsi => "lsi53c895a",
        ScsiModel::Sas1068 => "mptsas1068",
        ScsiModel::Sas1078 => "megasas",
        ScsiModel::Paravirtual => "pvscsi",
    }
}

/// A disk, or a drive with the config drive as its disc, at that place of its bus.
fn disk_device(machine: &Machine, disk: &Ready, bus: Bus, place: usize, order: usize) -> String {
    let (id, drive) = (short(&disk.id), disk::node(&disk.id));
    let config = disk.id == "config";
    let sort = if config { "cd" } else { "hd" };
    // A config drive starts nothing.
    let boots = if config { String::new() } else { format!(",bootindex={order}") };
    let rings = if machine.packed_rings { ",packed=on" } else { "" };
    let device = match bus {
        Bus::Virtio => format!("virtio-blk-pci{rings}"),
        Bus::Scsi => format!("scsi-{sort},bus=scsi.0,scsi-id={place}"),
        Bus::Ide => format!("ide-{sort},bus=ide.{},unit={}", place / 2, place % 2),
        Bus::Sata if machine.is_q35() => format!("ide-{sort},bus=ide.{place}"),
        Bus::Sata => format!("ide-{sort},bus=sata.{place}"),
    };
    format!("{device},drive={drive},id=blk-{id},serial={id}{boots}")
}

/// What an interface is attached by. Others than taps are refused: vhost-user needs the guest's memory shared with another
/// program, a PCI function needs VFIO and memory that is locked, and neither is arranged.
pub fn tap(nic: &Nic, attachment: Attachment) -> driver::Result<OwnedFd> {
    match attachment {
        Attachment::Tap(tap) => Ok(tap),
        Attachment::VhostUser(_) | Attachment::Pci(_) => Err(DriverFault::Refused(format!(
            "the port {} is attached by {attachment}; QEMU takes taps only",
            nic.port_id
        ))),
    }
}

/// The network interfaces, each with its tap.
pub fn nics(plan: &Plan, add: Add) {
    for (index, (nic, tap)) in plan.vm.nics.iter().zip(plan.taps).enumerate() {
        add("-netdev", format!("tap,id=net{index},fd={},vhost=off", tap.as_raw_fd()));
        add("-device", nic_device(&plan.vm.machine, index, nic));
    }
}

fn nic_device(machine: &Machine, index: usize, nic: &Nic) -> String {
    let (model, virtio) = match machine.nic {
        NicModel::Virtio => ("virtio-net-pci", true),
        NicModel::E1000 => ("e1000", false),
        NicModel::E1000e => ("e1000e", false),
        NicModel::Igb => ("igb", false),
        NicModel::Rtl8139 => ("rtl8139", false),
        NicModel::Ne2000 => ("ne2k_pci", false),
        NicModel::Pcnet => ("pcnet", false),
        NicModel::Vmxnet3 => ("vmxnet3", false),
    };
    // Of the others none can tell its guest; DHCP does.
    let mtu = if nic.mtu == 0 || !virtio { String::new() } else { format!(",host_mtu={}", nic.mtu) };
    let rings = if machine.packed_rings && virtio { ",packed=on" } else { "" };
    // Without a boot ROM: guests boot from disks and kernels.
    format!("{model},netdev=net{index},id=nic{index},mac={},romfile={mtu}{rings}", nic.mac)
}

/// All that is there for people, agents and watchdogs.
pub fn extras(plan: &Plan, add: Add) {
    let machine = &plan.vm.machine;
    add("-object", "rng-builtin,id=rng0".to_owned());
    add("-device", "virtio-rng-pci,rng=rng0".to_owned());
    if let Some(video) = video(machine) {
        add("-device", video);
    }
    match machine.tablet {
        None => {}
        Some(InputBus::Usb) => {
            add("-device", "qemu-xhci,id=usb".to_owned());
            add("-device", "usb-tablet,bus=usb.0".to_owned());
            add("-device", "usb-kbd,bus=usb.0".to_owned());
        }
        Some(InputBus::Virtio) => {
            add("-device", "virtio-tablet-pci".to_owned());
            add("-device", "virtio-keyboard-pci".to_owned());
        }
    }
    if machine.guest_agent {
        add("-chardev", format!("socket,id=agent,path={AGENT},server=on,wait=off"));
        add("-device", "virtio-serial-pci,id=channels".to_owned());
        add("-device", "virtserialport,bus=channels.0,chardev=agent,name=org.qemu.guest_agent.0".to_owned());
    }
    if let Some(model) = machine.tpm {
        add("-chardev", format!("socket,id=tpm,path={}", tpm::SOCKET));
        add("-tpmdev", "emulator,id=tpm0,chardev=tpm".to_owned());
        add("-device", format!("{},tpmdev=tpm0", tpm::device(model)));
    }
    let action = match machine.watchdog {
        Watchdog::Disabled => return,
        Watchdog::Nothing => "none",
        Watchdog::Pause => "pause",
        Watchdog::Poweroff => "poweroff",
        Watchdog::Reset => "reset",
    };
    add("-device", "i6300esb".to_owned());
    add("-action", format!("watchdog={action}"));
}

fn video(machine: &Machine) -> Option<String> {
    let (device, memory) = match machine.video {
        Video::None => return None,
        Video::Vga => ("VGA", "vgamem_mb"),
        Video::Cirrus => ("cirrus-vga", ""),
        Video::Virtio => ("virtio-vga", ""),
        Video::Bochs => ("bochs-display", "vgamem"),
        Video::Vmware => ("vmware-svga", "vgamem_mb"),
    };
    let unit = if machine.video == Video::Bochs { "M" } else { "" };
    Some(match machine.video_mib {
        0 => device.to_owned(),
        mib => format!("{device},{memory}={mib}{unit}"),
    })
}

/// Whether there has to be firmware that is not QEMU's own.
pub fn is_uefi(machine: &Machine) -> bool {
    machine.firmware == Firmware::Uefi
}

#[cfg(test)]
mod tests;
