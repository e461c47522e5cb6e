//! Each property in the words of QEMU.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::machine::{Topology, TpmModel};
use model::wanted::{Boot, WantedVm};

use super::*;
use crate::launch;

fn vm(machine: Machine) -> WantedVm {
    WantedVm {
        generation: Default::default(),
        id: "a.1".to_owned(),
        uuid: "6f1c8a52-3f0e-4b1e-9d4d-0a6f5d1f2b3c".to_owned(),
        name: "a".to_owned(),
        vcpus: 4,
        memory_mib: 64,
        running: true,
        paused: false,
        suspended: false,
        rescue: false,
        soft_reboots: 0,
        hard_reboots: 0,
        boot: Boot::Disk,
        machine,
        disks: Vec::new(),
        config_drive: Default::default(),
        nics: vec![Nic {
            port_id: String::new(),
            mac: "fa:16:3e:00:00:01".to_owned(),
            mtu: 1400,
            device: String::new(),
            namespace: String::new(),
        }],
    }
}

fn disk(dir: &Path, id: &str) -> Ready {
    let file = dir.join(format!("{id}.raw"));
    std::fs::write(&file, vec![0; 1 << 20]).unwrap();
    Ready { id: id.to_owned(), file, format: "raw", base: None, read_only: id == "config" }
}

/// QEMU's command line, with a root disk, one to rescue it and a config drive in `dir`.
fn words(dir: &Path, machine: Machine) -> Vec<String> {
    let (vm, disks) = (vm(machine), ["rescue", "root", "config"].map(|id| disk(dir, id)));
    let files = Files {
        code: dir.join("code"),
        code_format: "raw".to_owned(),
        template: PathBuf::new(),
        variables_format: "raw".to_owned(),
    };
    for name in ["code", crate::firmware::VARIABLES[0], crate::firmware::VARIABLES[1]] {
        std::fs::write(dir.join(name), vec![0; 256 << 10]).unwrap();
    }
    let tap = [std::fs::File::open("/dev/null").unwrap().into()];
    let plan = Plan {
        binary: Path::new("qemu"),
        accel: Accel::Tcg,
        dir,
        firmware: is_uefi(&vm.machine).then_some(&files),
        vm: &vm,
        disks: &disks,
        memory: None,
        taps: &tap,
        kvm: None,
        user: None,
    };
    launch::arguments(&plan)
}

/// Whether QEMU takes it: it starts, without running the guest, and ends as it is told to. Else its words.
fn taken(dir: &Path, words: &[String]) -> Result<(), String> {
    let Some(binary) = crate::process::which(crate::BINARY) else { return Ok(()) };
    let words = words.iter().map(|word| match word.as_str() {
        "unix:qmp.sock,server=on,wait=off" => "stdio".to_owned(),
        word if word.starts_with("tap,id=net0") => "hubport,id=net0,hubid=0".to_owned(),
        word => word.to_owned(),
    });
    let mut command = Command::new(binary);
    command.args(words).arg("-S").current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let asked = child.stdin.take().unwrap().write_all(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}\n");
    let done = child.wait_with_output().unwrap();
    match (asked, done.status.success()) {
        (Ok(()), true) => Ok(()),
        _ => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

/// Each property, what it puts on the command line, and that QEMU takes it.
#[test]
fn each_property_acts() {
    let of = || Machine::default();
    let bus = |disk_bus| Machine { disk_bus, ..of() };
    let scsi = |scsi| Machine { scsi, ..bus(Bus::Scsi) };
    let nic = |nic| Machine { nic, ..of() };
    let video = |video| Machine { video, ..of() };
    let pc = || Machine { chipset: "pc".to_owned(), ..of() };
    let watchdog = |watchdog| Machine { watchdog, ..of() };
    let topology = Some(Topology { sockets: 1, cores: 2, threads: 2 });
    let uefi = || Machine { firmware: Firmware::Uefi, ..of() };
    let cases = [
        (of(), "q35,vmport=off"),
        (of(), "virtio-blk-pci,drive=disk-root,id=blk-root,serial=root,bootindex=2"),
        (of(), "virtio-net-pci,netdev=net0,id=nic0,mac=fa:16:3e:00:00:01,romfile=,host_mtu=1400"),
        (pc(), "pc,vmport=off"),
        (uefi(), "q35,vmport=off,pflash0=firmware,pflash1=variables"),
        (Machine { secure_boot: true, ..uefi() }, "driver=cfi.pflash01,property=secure,value=on"),
        (Machine { secure_boot: true, ..uefi() }, "q35,vmport=off,pflash0=firmware,pflash1=variables,smm=on"),
        (bus(Bus::Ide), "ide-hd,bus=ide.0,unit=1,drive=disk-root,id=blk-root,serial=root,bootindex=2"),
        (bus(Bus::Ide), "ide-cd,bus=ide.1,unit=0,drive=disk-config,id=blk-config,serial=config"),
        (bus(Bus::Ide), "pc,vmport=off"),
        (bus(Bus::Sata), "ide-hd,bus=ide.1,drive=disk-root,id=blk-root,serial=root,bootindex=2"),
        (
            Machine { disk_bus: Bus::Sata, ..pc() },
            "ide-hd,bus=sata.1,drive=disk-root,id=blk-root,serial=root,bootindex=2",
        ),
        (
            Machine { rescue_bus: Some(Bus::Sata), ..of() },
            "ide-hd,bus=ide.0,drive=disk-rescue,id=blk-rescue,serial=rescue,bootindex=1",
        ),
        (
            Machine { cdrom_bus: Some(Bus::Scsi), ..of() },
            "scsi-cd,bus=scsi.0,scsi-id=0,drive=disk-config,id=blk-config,serial=config",
        ),
        (bus(Bus::Scsi), "virtio-scsi-pci,id=scsi"),
        (scsi(ScsiModel::Lsi), "lsi53c895a,id=scsi"),
        (scsi(ScsiModel::Sas1068), "mptsas1068,id=scsi"),
        (scsi(ScsiModel::Sas1078), "megasas,id=scsi"),
        (scsi(ScsiModel::Paravirtual), "pvscsi,id=scsi"),
        (nic(NicModel::E1000), "e1000,netdev=net0,id=nic0,mac=fa:16:3e:00:00:01,romfile="),
        (nic(NicModel::E1000e), "e1000e,netdev=net0,id=nic0,mac=fa:16:3e:00:00:01,romfile="),
        (nic(NicModel::Igb), "igb,netdev=net0,id=nic0,mac=fa:16:3e:00:00:01,romfile="),
        (nic(NicModel::Rtl8139), "rtl8139,netdev=net0,id=nic0,mac=fa:16:3e:00:00:01,romfile="),
        (nic(NicModel::Ne2000), "ne2k_pci,netdev=net0,id=nic0,mac=fa:16:3e:00:00:01,romfile="),
        (nic(NicModel::Pcnet), "pcnet,netdev=net0,id=nic0,mac=fa:16:3e:00:00:01,romfile="),
        (nic(NicModel::Vmxnet3), "vmxnet3,netdev=net0,id=nic0,mac=fa:16:3e:00:00:01,romfile="),
        (Machine { video_mib: 32, ..video(Video::Vga) }, "VGA,vgamem_mb=32"),
        (video(Video::Cirrus), "cirrus-vga"),
        (video(Video::Virtio), "virtio-vga"),
        (Machine { video_mib: 32, ..video(Video::Bochs) }, "bochs-display,vgamem=32M"),
        (Machine { video_mib: 32, ..video(Video::Vmware) }, "vmware-svga,vgamem_mb=32"),
        (
            Machine { guest_agent: true, ..of() },
            "virtserialport,bus=channels.0,chardev=agent,name=org.qemu.guest_agent.0",
        ),
        (Machine { boot_menu: true, ..of() }, "menu=on,splash-time=3000"),
        (Machine { topology, ..of() }, "4,sockets=1,cores=2,threads=2"),
        (Machine { pmu: Some(false), ..of() }, "max,pmu=off"),
        (Machine { hide_hypervisor: true, ..of() }, "max,kvm=off"),
        (Machine { hpet: Some(false), ..of() }, "q35,vmport=off,hpet=off"),
        (Machine { tablet: Some(InputBus::Usb), ..of() }, "usb-tablet,bus=usb.0"),
        (Machine { tablet: Some(InputBus::Virtio), ..of() }, "virtio-tablet-pci"),
        (watchdog(Watchdog::Reset), "watchdog=reset"),
        (watchdog(Watchdog::Nothing), "watchdog=none"),
        (watchdog(Watchdog::Pause), "watchdog=pause"),
        (watchdog(Watchdog::Poweroff), "watchdog=poweroff"),
        (
            Machine { packed_rings: true, ..of() },
            "virtio-blk-pci,packed=on,drive=disk-root,id=blk-root,serial=root,bootindex=2",
        ),
        (Machine { windows: true, ..of() }, "base=localtime"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut tried = Vec::new();
    for (machine, word) in cases {
        let words = words(dir.path(), machine.clone());
        assert!(words.iter().any(|given| given == word), "{word} is not in {words:?}");
        if !tried.contains(&machine) {
            taken(dir.path(), &words).unwrap_or_else(|why| panic!("QEMU does not take {words:?}: {why}"));
            tried.push(machine);
        }
    }
    let ignoring = words(dir.path(), Machine { keep_discarded: true, ..of() });
    assert!(ignoring.iter().any(|word| word.contains(r#""discard":"ignore""#)), "{ignoring:?}");
    assert!(!words(dir.path(), of()).iter().any(|word| word.starts_with("VGA") || word == "i6300esb"));
}

/// Without swtpm QEMU cannot be asked whether it takes it; real guests are.
#[test]
fn a_tpm_is_a_socket_beside_qemu() {
    let dir = tempfile::tempdir().unwrap();
    for (model, device) in [(TpmModel::Tis, "tpm-tis,tpmdev=tpm0"), (TpmModel::Crb, "tpm-crb,tpmdev=tpm0")] {
        let words = words(dir.path(), Machine { tpm: Some(model), ..Machine::default() });
        for word in ["socket,id=tpm,path=tpm.sock", "emulator,id=tpm0,chardev=tpm", device] {
            assert!(words.iter().any(|given| given == word), "{word}");
        }
    }
}

#[test]
fn interfaces_are_attached_by_taps_alone() {
    let nic = Nic { port_id: "p1".to_owned(), ..vm(Machine::default()).nics[0].clone() };
    assert!(tap(&nic, Attachment::Tap(std::fs::File::open("/dev/null").unwrap().into())).is_ok());
    let refused = |attachment| match tap(&nic, attachment) {
        Err(DriverFault::Refused(words)) => words,
        other => panic!("{other:?}"),
    };
    let words = refused(Attachment::VhostUser("/run/vhu1".into()));
    assert_eq!(words, "the port p1 is attached by the vhost-user socket /run/vhu1; QEMU takes taps only");
    let words = refused(Attachment::Pci("0000:3b:02.1".to_owned()));
    assert_eq!(words, "the port p1 is attached by the PCI function 0000:3b:02.1; QEMU takes taps only");
}
