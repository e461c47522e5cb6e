//! What images and flavors say, and what machine comes of it or is refused.

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn with(properties: &[(&str, &str)], specs: &[(&str, &str)]) -> Result<Machine, String> {
    let flavor = Flavor { extra_specs: map(specs), ..Flavor::new("f", "f", 4, 512, 1) };
    Machine::of(&map(properties), &flavor)
}

fn of(properties: &[(&str, &str)]) -> Result<Machine, String> {
    with(properties, &[])
}

#[test]
fn what_nobody_says_is_as_it_was() {
    assert_eq!(of(&[]), Ok(Machine::default()));
    let own = [("hw_of_ours", "x"), ("os_distro", "debian"), ("owner_specified", "y"), ("os_admin_user", "z")];
    assert_eq!(of(&own), Ok(Machine::default()));
    assert_eq!(Machine::default().chipset(), "q35");
}

#[test]
fn what_acts_is_read() {
    let machine = of(&[
        ("hw_firmware_type", "uefi"),
        ("hw_disk_bus", "scsi"),
        ("hw_scsi_model", "lsilogic"),
        ("hw_vif_model", "e1000"),
        ("hw_tpm_version", "2.0"),
        ("hw_tpm_model", "tpm-crb"),
        ("hw_qemu_guest_agent", "yes"),
        ("os_secure_boot", "required"),
    ])
    .unwrap();
    let (bus, scsi, nic) = (Bus::Scsi, ScsiModel::Lsi, NicModel::E1000);
    let firmware = Firmware::Uefi;
    let wanted = Machine {
        firmware,
        secure_boot: true,
        disk_bus: bus,
        scsi,
        nic,
        guest_agent: true,
        tpm: Some(TpmModel::Crb),
        ..Machine::default()
    };
    assert_eq!(machine, wanted);
    assert_eq!(of(&[("hw_disk_bus", "ide")]).unwrap().chipset(), "pc");
    assert_eq!(of(&[("hw_pointer_model", "usbtablet")]).unwrap().tablet, Some(InputBus::Usb));
    assert!(!of(&[("os_secure_boot", "optional")]).unwrap().secure_boot);
}

#[test]
fn what_is_not_built_or_does_not_fit_is_refused_in_words() {
    let refused = [
        (&[("hw_disk_bus", "xen")][..], "virtio, scsi, ide, sata"),
        (&[("hw_vif_model", "lan9118")], "vmxnet3"),
        (&[("hw_machine_type", "microvm")], "pc, q35"),
        (&[("hw_machine_type", "pc-q35-9.0,x=y")], "pc, q35"),
        (&[("hw_machine_type", "pc-q35-....")], "pc, q35"),
        (&[("hw_machine_type", "pc-q35-9")], "pc, q35"),
        (&[("hw_machine_type", "pc-i440fx-9.")], "pc, q35"),
        (&[("hw_machine_type", "q35"), ("hw_disk_bus", "ide")], "has no IDE"),
        (&[("os_secure_boot", "required")], "needs hw_firmware_type=uefi"),
        (
            &[("os_secure_boot", "required"), ("hw_firmware_type", "uefi"), ("hw_machine_type", "pc")],
            "needs the machine q35",
        ),
        (&[("hw_firmware_stateless", "true")], "needs hw_firmware_type=uefi"),
        (&[("hw_tpm_version", "1.2")], "only 2.0"),
        (&[("hw_mem_encryption", "yes")], "does not have that, only false"),
        (&[("hw_numa_nodes", "2")], "does not have that"),
        (&[("hw_numa_cpus.0", "1")], "does not have that"),
        (&[("hw_serial_port_count", "2")], "only 1"),
        (&[("hw_boot_menu", "perhaps")], "neither true nor false"),
        (&[("hw_video_ram", "16"), ("hw_video_model", "vga")], "the flavor allows 0"),
        (&[("hw_pointer_model", "usbtablet"), ("hw_input_bus", "virtio")], "disagree"),
        (&[("hw_cpu_max_sockets", "1"), ("hw_cpu_max_cores", "1"), ("hw_cpu_max_threads", "2")], "makes 4 vCPUs"),
    ];
    for (properties, words) in refused {
        let why = of(properties).unwrap_err();
        assert!(why.contains(words), "{properties:?}: {why}");
    }
    for harmless in [("hw_mem_encryption", "False"), ("hw_cpu_policy", "shared"), ("hw_serial_port_count", "1")] {
        assert_eq!(of(&[harmless]), Ok(Machine::default()), "{harmless:?}");
    }
}

#[test]
fn flavors_say_the_same_by_their_own_names() {
    assert_eq!(with(&[], &[("hw:tpm_version", "2.0")]).unwrap().tpm, Some(TpmModel::Tis));
    assert!(with(&[], &[("hw:hide_hypervisor_id", "true")]).unwrap().hide_hypervisor);
    assert!(with(&[], &[("hw:cpu_policy", "dedicated")]).unwrap_err().contains("only shared"));
    let both = with(&[("hw_tpm_model", "tpm-tis")], &[("hw:tpm_model", "tpm-crb")]).unwrap_err();
    assert!(both.contains("must agree"), "{both}");
    let watchdog = with(&[("hw_watchdog_action", "reset")], &[("hw:watchdog_action", "pause")]).unwrap().watchdog;
    assert_eq!(watchdog, Watchdog::Reset);
    let video = with(&[("hw_video_ram", "16"), ("hw_video_model", "vga")], &[("hw_video:ram_max_mb", "32")]).unwrap();
    assert_eq!(video.video_mib, 16);
    for (model, mib, words) in [("vga", "512", "1 to 256 MiB, not 512"), ("bochs", "2", "4 to 256 MiB, not 2")] {
        let asked = [("hw_video_ram", mib), ("hw_video_model", model)];
        let why = with(&asked, &[("hw_video:ram_max_mb", "1024")]).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn cores_are_arranged_as_wanted() {
    let parts = |properties: &[(&str, &str)]| of(properties).unwrap().topology.map(|t| (t.sockets, t.cores, t.threads));
    assert_eq!(parts(&[]), None);
    assert_eq!(parts(&[("hw_cpu_sockets", "1")]), Some((1, 4, 1)));
    assert_eq!(parts(&[("hw_cpu_threads", "2")]), Some((2, 1, 2)));
    assert_eq!(parts(&[("hw_cpu_max_sockets", "2")]), Some((2, 2, 1)));
    // What cannot be is a wish only.
    assert_eq!(parts(&[("hw_cpu_cores", "3")]), Some((4, 1, 1)));
}

/// The page has a line for each property, and none that is not one.
#[test]
fn the_table_of_properties_is_complete() {
    let page = include_str!("../../../../docs/images.md");
    let source = include_str!("../machine.rs");
    let quoted = source.split('"').skip(1).step_by(2).filter(|text| is_hardware(text) && text.len() > 4);
    let plain = |text: &&str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let mut count = 0;
    for name in quoted.filter(plain).filter(|name| !matches!(*name, "hw_cpu_")) {
        assert!(page.contains(&format!("| `{name}` |")), "docs/images.md has no line on {name}");
        count += 1;
    }
    for part in ["sockets", "cores", "threads"] {
        assert!(page.contains(&format!("| `hw_cpu_{part}` |")) && page.contains(&format!("| `hw_cpu_max_{part}` |")));
    }
    assert!(count > 50, "{count}");
}
