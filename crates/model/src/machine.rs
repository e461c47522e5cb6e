//! What a VM's machine is made of, from its image's properties and its flavor's extra specs, by Nova's names. A property
//! acts, or the server is refused in words: one that did nothing would let a guest start that cannot boot, or that is less
//! safe than was asked for. Properties that Nova does not know are anybody's own and say nothing here.
//!
//! `docs/images.md` is the table of all of them; a test holds it so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Flavor;

/// An enum of which each value has a word of Nova's.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$more:meta])* $value:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$more])* $value),+ }
        impl $name {
            /// The words that it can be.
            pub const WORDS: &[&str] = &[$($word),+];
            fn read(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$value),)+ _ => None }
            }
        }
    };
}

words!(
    /// What starts the guest's boot loader.
    Firmware { #[default] Bios = "bios", Uefi = "uefi" }
);
words!(
    /// How a disk is connected.
    Bus { #[default] Virtio = "virtio", Scsi = "scsi", Ide = "ide", Sata = "sata" }
);
words!(
    /// The controller of SCSI disks.
    ScsiModel {
        #[default] Virtio = "virtio-scsi", Lsi = "lsilogic", Sas1068 = "lsisas1068", Sas1078 = "lsisas1078",
        Paravirtual = "vmpvscsi",
    }
);
words!(
    /// A network interface's hardware.
    NicModel {
        #[default] Virtio = "virtio", E1000 = "e1000", E1000e = "e1000e", Igb = "igb", Rtl8139 = "rtl8139",
        Ne2000 = "ne2k_pci", Pcnet = "pcnet", Vmxnet3 = "vmxnet3",
    }
);
words!(
    /// A graphics adapter.
    Video {
        #[default] None = "none", Vga = "vga", Cirrus = "cirrus", Virtio = "virtio", Bochs = "bochs", Vmware = "vmvga",
    }
);
words!(
    /// The interface of a virtual trusted platform module.
    TpmModel { #[default] Tis = "tpm-tis", Crb = "tpm-crb" }
);
words!(
    /// How pointer and keyboard are connected.
    InputBus { #[default] Usb = "usb", Virtio = "virtio" }
);
words!(
    /// What happens when the guest does not calm its watchdog.
    Watchdog {
        #[default] Disabled = "disabled", Nothing = "none", Pause = "pause", Poweroff = "poweroff", Reset = "reset",
    }
);

/// Sockets, cores, threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    pub sockets: u64,
    pub cores: u64,
    pub threads: u64,
}

/// A VM's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub firmware: Firmware,
    /// The firmware's variables are made anew at each start.
    pub stateless: bool,
    pub secure_boot: bool,
    /// QEMU's name of the machine; empty: the one that fits the disks' bus.
    pub chipset: String,
    pub disk_bus: Bus,
    /// Of the disk that a server is rescued with; `None`: as the others.
    pub rescue_bus: Option<Bus>,
    /// Of the config drive; `None`: as the disks.
    pub cdrom_bus: Option<Bus>,
    pub scsi: ScsiModel,
    /// What the guest discards is not given back to the host.
    pub keep_discarded: bool,
    pub nic: NicModel,
    pub video: Video,
    /// MiB; 0: as the adapter comes.
    pub video_mib: u64,
    /// There is a channel to an agent in the guest.
    pub guest_agent: bool,
    pub tpm: Option<TpmModel>,
    pub boot_menu: bool,
    /// `None`: as QEMU makes it, a socket for each core.
    pub topology: Option<Topology>,
    /// `None`: as the accelerator has it.
    pub pmu: Option<bool>,
    pub hide_hypervisor: bool,
    /// `None`: as QEMU's machine has it.
    pub hpet: Option<bool>,
    /// A pointer that is where it points, and a keyboard.
    pub tablet: Option<InputBus>,
    pub watchdog: Watchdog,
    /// Virtio's newer form of rings.
    pub packed_rings: bool,
    /// Local time, and what Windows wants of a hypervisor.
    pub windows: bool,
    /// Seconds that the guest has to power off; `None`: as usual.
    pub stop_seconds: Option<u64>,
}

impl Video {
    /// How many MiB it can have, if that can be said. QEMU's process has them beside the guest's memory.
    fn memory(self) -> Option<std::ops::RangeInclusive<u64>> {
        match self {
            Self::None | Self::Cirrus | Self::Virtio => None,
            Self::Vga | Self::Vmware => Some(1..=256),
            Self::Bochs => Some(4..=256),
        }
    }
}

/// Prefixes of properties that are a matter of this module.
const PREFIXES: &[&str] = &["hw_", "os_", "img_"];

/// Properties that Nova knows and that are not built, with the values that ask for nothing, and pass.
const NOT_BUILT: &[(&str, &[&str])] = &[
    ("hw_architecture", &["x86_64"]),
    ("hw_auto_disk_config", &["true"]),
    ("hw_cpu_policy", &["shared"]),
    ("hw_cpu_realtime", &["false"]),
    ("hw_cpu_realtime_mask", &[]),
    ("hw_cpu_thread_policy", &[]),
    ("hw_device_id", &[]),
    ("hw_emulation_architecture", &["x86_64"]),
    ("hw_emulator_threads_policy", &[]),
    ("hw_ephemeral_encryption", &["false"]),
    ("hw_ephemeral_encryption_format", &[]),
    ("hw_ephemeral_encryption_secret_uuid", &[]),
    ("hw_floppy_bus", &[]),
    ("hw_ipxe_boot", &["false"]),
    ("hw_locked_memory", &["false"]),
    ("hw_maxphysaddr_bits", &[]),
    ("hw_maxphysaddr_mode", &[]),
    ("hw_mem_encryption", &["false"]),
    ("hw_mem_encryption_model", &[]),
    ("hw_mem_page_size", &["small", "any"]),
    ("hw_numa_nodes", &[]),
    ("hw_pci_numa_affinity_policy", &["legacy"]),
    ("hw_pmem", &[]),
    ("hw_rescue_device", &["disk"]),
    ("hw_rng_model", &["virtio"]),
    ("hw_serial_port_count", &["1"]),
    ("hw_sound_model", &[]),
    ("hw_tpm_secret_security", &[]),
    ("hw_tpm_version", &["2.0"]),
    ("hw_usb_model", &[]),
    ("hw_vif_multiqueue_enabled", &["false"]),
    ("hw_viommu_model", &["none"]),
    ("hw_vm_mode", &["hvm"]),
    ("img_hv_requested_version", &[]),
    ("img_hv_type", &["kvm", "qemu"]),
    ("img_root_device_name", &["vda", "/dev/vda"]),
    ("os_require_quiesce", &["false"]),
];

/// Of these the image's value counts, where image and flavor differ; of all others they must be the same.
const IMAGES_FIRST: &[&str] = &["hw_watchdog_action", "hw_cpu_sockets", "hw_cpu_cores", "hw_cpu_threads"];

/// Whether an image's property is kept with what was made from it.
pub fn is_hardware(property: &str) -> bool {
    PREFIXES.iter().any(|prefix| property.starts_with(prefix))
}

/// How many sockets, cores and threads are wanted, and are allowed at most.
#[derive(Default)]
struct TopologyRequest {
    wanted: [Option<u64>; 3],
    most: [Option<u64>; 3],
}

/// What an image's properties and its flavor say together.
struct Reader {
    machine: Machine,
    requested: TopologyRequest,
    secure_boot: Option<String>,
    pointer: bool,
    input_bus: Option<InputBus>,
    tpm_version: bool,
}

impl Machine {
    /// The machine that an image with such properties has in such a flavor; else what is wrong, in words for a person.
    pub fn of(properties: &BTreeMap<String, String>, flavor: &Flavor) -> Result<Self, String> {
        let mut reader = Reader {
            machine: Self::default(),
            requested: TopologyRequest::default(),
            secure_boot: None,
            pointer: false,
            input_bus: None,
            tpm_version: false,
        };
        for (name, value) in merged(properties, &flavor.extra_specs)? {
            reader.read(&name, &value).map_err(|why| format!("Image property or extra spec {name}={value}: {why}"))?;
        }
        reader.finish(flavor)
    }

    /// QEMU's name of the machine.
    pub fn chipset(&self) -> &str {
        let buses = [Some(self.disk_bus), self.rescue_bus, self.cdrom_bus];
        match self.chipset.as_str() {
            // Only the older one has such a controller.
            "" if buses.contains(&Some(Bus::Ide)) => "pc",
            "" => "q35",
            named => named,
        }
    }

    /// The newer of both machines, with PCI Express.
    pub fn is_q35(&self) -> bool {
        self.chipset().contains("q35")
    }
}

/// Both under the names of image properties.
fn merged(
    properties: &BTreeMap<String, String>,
    specs: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut all: BTreeMap<String, String> =
        properties.iter().filter(|(name, _)| is_hardware(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    for (spec, value) in specs {
        let Some((scope, rest)) = spec.split_once(':').filter(|(scope, _)| matches!(*scope, "hw" | "os")) else {
            continue;
        };
        let name = match rest {
            "hide_hypervisor_id" => "img_hide_hypervisor_id".to_owned(),
            rest => format!("{scope}_{rest}"),
        };
        let images = all.get(&name);
        if images.is_some_and(|images| images != value) && !IMAGES_FIRST.contains(&name.as_str()) {
            let images = images.map(String::as_str).unwrap_or_default();
            return Err(format!("The image says {name}={images} and the flavor {spec}={value}: they must agree"));
        }
        all.entry(name).or_insert_with(|| value.clone());
    }
    let most = specs.get("hw_video:ram_max_mb").and_then(|most| most.parse::<u64>().ok()).unwrap_or(0);
    match all.get("hw_video_ram").map(|mib| mib.parse::<u64>()) {
        Some(Ok(mib)) if mib > most => Err(format!(
            "The image asks for {mib} MiB of video memory (hw_video_ram), and the flavor allows {most} (hw_video:ram_max_mb)"
        )),
        _ => Ok(all),
    }
}

fn one_of<T>(value: Option<T>, words: &[&str]) -> Result<T, String> {
    value.ok_or_else(|| format!("this cloud has {} only", words.join(", ")))
}

fn number(value: &str) -> Result<u64, String> {
    value.parse().ok().filter(|n| (1..=100_000).contains(n)).ok_or_else(|| "not a number from 1 to 100000".to_owned())
}

fn boolean(value: &str) -> Result<bool, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// `pc`, `q35`, or one of these of a version of QEMU's.
fn chipset(value: &str) -> Result<String, String> {
    let version = value.strip_prefix("pc-q35-").or_else(|| value.strip_prefix("pc-i440fx-"));
    let number = |part: &str| matches!(part.len(), 1..=3) && part.bytes().all(|b| b.is_ascii_digit());
    let good = |v: &str| matches!(v.split('.').count(), 2 | 3) && v.split('.').all(number);
    let known = matches!(value, "pc" | "q35") || version.is_some_and(good);
    if known { Ok(value.to_owned()) } else { Err("this cloud has pc, q35 and their versions only".to_owned()) }
}

impl Reader {
    fn read(&mut self, name: &str, value: &str) -> Result<(), String> {
        let machine = &mut self.machine;
        match name {
            "hw_firmware_type" => machine.firmware = one_of(Firmware::read(value), Firmware::WORDS)?,
            "hw_firmware_stateless" => machine.stateless = boolean(value)?,
            "os_secure_boot" => self.secure_boot = Some(value.to_owned()),
            "hw_machine_type" => machine.chipset = chipset(value)?,
            "hw_disk_bus" => machine.disk_bus = one_of(Bus::read(value), Bus::WORDS)?,
            "hw_rescue_bus" => machine.rescue_bus = Some(one_of(Bus::read(value), Bus::WORDS)?),
            "hw_cdrom_bus" => machine.cdrom_bus = Some(one_of(Bus::read(value), Bus::WORDS)?),
            "hw_scsi_model" => machine.scsi = one_of(ScsiModel::read(value), ScsiModel::WORDS)?,
            "hw_disk_discard" => match value {
                "unmap" => {}
                "ignore" => machine.keep_discarded = true,
                _ => return Err("this cloud has unmap, ignore only".to_owned()),
            },
            "hw_vif_model" => machine.nic = one_of(NicModel::read(value), NicModel::WORDS)?,
            "hw_video_model" => machine.video = one_of(Video::read(value), Video::WORDS)?,
            "hw_video_ram" => machine.video_mib = number(value)?,
            "hw_qemu_guest_agent" => machine.guest_agent = boolean(value)?,
            "hw_tpm_model" => machine.tpm = Some(one_of(TpmModel::read(value), TpmModel::WORDS)?),
            "hw_boot_menu" => machine.boot_menu = boolean(value)?,
            "hw_pmu" => machine.pmu = Some(boolean(value)?),
            "hw_time_hpet" => machine.hpet = Some(boolean(value)?),
            "hw_pointer_model" => {
                self.pointer = value == "usbtablet";
                if !self.pointer && value != "ps2mouse" {
                    return Err("this cloud has usbtablet, ps2mouse only".to_owned());
                }
            }
            "hw_input_bus" => self.input_bus = Some(one_of(InputBus::read(value), InputBus::WORDS)?),
            "hw_watchdog_action" => machine.watchdog = one_of(Watchdog::read(value), Watchdog::WORDS)?,
            "hw_virtio_packed_ring" => machine.packed_rings = boolean(value)?,
            "img_hide_hypervisor_id" => machine.hide_hypervisor = boolean(value)?,
            "os_type" => machine.windows = value == "windows",
            "img_config_drive" => {
                if !matches!(value, "mandatory" | "optional") {
                    return Err("it is mandatory or optional".to_owned());
                }
            }
            "os_shutdown_timeout" => machine.stop_seconds = Some(number(value)?),
            _ => return self.read_rest(name, value),
        }
        Ok(())
    }

    fn read_rest(&mut self, name: &str, value: &str) -> Result<(), String> {
        for (index, part) in ["sockets", "cores", "threads"].iter().enumerate() {
            match name.strip_prefix("hw_cpu_").map(|rest| (rest.strip_prefix("max_"), rest)) {
                Some((Some(most), _)) if most == *part => self.requested.most[index] = Some(number(value)?),
                Some((None, wanted)) if wanted == *part => self.requested.wanted[index] = Some(number(value)?),
                _ => {}
            }
        }
        self.tpm_version |= name == "hw_tpm_version";
        // Of each of a guest's nodes there is a property with its number.
        let stem =
            if name.starts_with("hw_numa_cpus.") || name.starts_with("hw_numa_mem.") { "hw_numa_nodes" } else { name };
        let Some((_, harmless)) = NOT_BUILT.iter().find(|(known, _)| *known == stem) else { return Ok(()) };
        let same = |word: &&str| match boolean(word) {
            Ok(said) if word.parse::<u64>().is_err() => boolean(value) == Ok(said),
            _ => *word == value,
        };
        if harmless.iter().any(same) {
            return Ok(());
        }
        let only = if harmless.is_empty() { String::new() } else { format!(", only {}", harmless.join(", ")) };
        Err(format!("this cloud does not have that{only}"))
    }

    /// What fits together.
    fn finish(self, flavor: &Flavor) -> Result<Machine, String> {
        let mut machine = self.machine;
        let uefi = machine.firmware == Firmware::Uefi;
        match self.secure_boot.as_deref() {
            None | Some("disabled") => {}
            Some("required") if !uefi => return Err("os_secure_boot=required needs hw_firmware_type=uefi".into()),
            Some("required") if !machine.is_q35() => {
                return Err(format!(
                    "os_secure_boot=required needs the machine q35, and this one is {}",
                    machine.chipset()
                ));
            }
            Some("required") => machine.secure_boot = true,
            Some("optional") => machine.secure_boot = uefi && machine.is_q35(),
            Some(other) => return Err(format!("os_secure_boot={other}: it is required, optional or disabled")),
        }
        if machine.stateless && !uefi {
            return Err("hw_firmware_stateless needs hw_firmware_type=uefi".into());
        }
        let buses = [Some(machine.disk_bus), machine.rescue_bus, machine.cdrom_bus];
        if machine.is_q35() && buses.contains(&Some(Bus::Ide)) {
            return Err(format!(
                "The machine {} has no IDE: it is hw_machine_type=pc, or the bus sata",
                machine.chipset()
            ));
        }
        if self.tpm_version && machine.tpm.is_none() {
            machine.tpm = Some(TpmModel::Tis);
        }
        if machine.video_mib > 0 && machine.video.memory().is_none() {
            return Err("hw_video_ram needs a hw_video_model that has memory of its own: vga, bochs, vmvga".into());
        }
        if let Some(most) =
            machine.video.memory().filter(|most| machine.video_mib > 0 && !most.contains(&machine.video_mib))
        {
            let (least, most) = (most.start(), most.end());
            return Err(format!(
                "hw_video_ram: this hw_video_model has {least} to {most} MiB, not {}",
                machine.video_mib
            ));
        }
        machine.tablet = match (self.pointer, self.input_bus) {
            (true, Some(InputBus::Virtio)) => {
                return Err("hw_pointer_model=usbtablet and hw_input_bus=virtio disagree".into());
            }
            (true, _) => Some(InputBus::Usb),
            (false, bus) => bus,
        };
        machine.topology = self.requested.topology(flavor.vcpus)?;
        Ok(machine)
    }
}

impl TopologyRequest {
    /// Of all that make up so many cores and are not above what is allowed, the one that has most of what is wanted; of those,
    /// the one with most sockets.
    fn topology(&self, vcpus: u64) -> Result<Option<Topology>, String> {
        if self.wanted.iter().chain(&self.most).all(Option::is_none) {
            return Ok(None);
        }
        let divisors = |n: u64| (1..=n).filter(move |part| n.is_multiple_of(*part));
        let all = divisors(vcpus)
            .flat_map(|sockets| divisors(vcpus / sockets).map(move |cores| [sockets, cores, vcpus / sockets / cores]));
        let allowed =
            all.filter(|parts| parts.iter().zip(&self.most).all(|(part, most)| most.is_none_or(|most| *part <= most)));
        let had =
            |parts: &[u64; 3]| parts.iter().zip(&self.wanted).filter(|(part, wanted)| **wanted == Some(**part)).count();
        let best = allowed.max_by_key(|parts| (had(parts), parts[0], parts[1]));
        let [sockets, cores, threads] = best.ok_or_else(|| {
            format!("hw_cpu_max_*: no number of sockets, cores and threads makes {vcpus} vCPUs within these limits")
        })?;
        Ok(Some(Topology { sockets, cores, threads }))
    }
}

#[cfg(test)]
mod tests;
