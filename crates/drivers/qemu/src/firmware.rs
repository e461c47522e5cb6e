//! UEFI for guests. Which files that is, distributions say in descriptors (QEMU's `docs/interop/firmware.json`), the first of
//! which that has what is needed is taken: no path of one distribution is written here. Each VM has variables of its own,
//! which go along with its disks: kept over reboots and resizes, new after a rebuild.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use driver::{DriverFault, Result};
use model::machine::Machine;
use serde::Deserialize;

use crate::{disk, failed};

/// The variables, in the VM's directory: those without and those with keys for secure boot, which go with its disks.
pub const VARIABLES: [&str; 2] = ["uefi.vars", "uefi-secure.vars"];
/// What a rescue has in their place, each time anew.
const OF_RESCUE: &str = "rescue.vars";
/// Where descriptors are; one in an earlier folder hides one of the same name in a later one.
const FOLDERS: [&str; 2] = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"];
/// The largest that is read.
const LARGEST: u64 = 64 << 20;

/// The firmware of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub code: PathBuf,
    pub code_format: String,
    /// What a new VM's variables are a copy of.
    pub template: PathBuf,
    pub variables_format: String,
}

#[derive(Deserialize)]
struct Descriptor {
    #[serde(rename = "interface-types")]
    interfaces: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    features: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    executable: Option<Image>,
    nvram_template: Option<Image>,
}

#[derive(Deserialize)]
struct Image {
    filename: PathBuf,
    format: String,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

impl Descriptor {
    fn fits(&self, machine: &Machine) -> bool {
        let chipset = if machine.is_q35() { "pc-q35-" } else { "pc-i440fx-" };
        let target = |t: &Target| t.architecture == "x86_64" && t.machines.iter().any(|m| m.starts_with(chipset));
        let has = |feature: &str| self.features.iter().any(|f| f == feature);
        let secure = match machine.secure_boot {
            true => has("secure-boot") && has("requires-smm") && has("enrolled-keys"),
            false => !has("requires-smm") && !has("enrolled-keys"),
        };
        secure && self.interfaces.iter().any(|i| i == "uefi") && self.targets.iter().any(target)
    }

    fn files(self) -> Option<Files> {
        let Mapping { device, executable, nvram_template } = self.mapping;
        let (code, template) = (executable.filter(|_| device == "flash")?, nvram_template?);
        let formats = [&code.format, &template.format].iter().all(|f| matches!(f.as_str(), "raw" | "qcow2"));
        let there = code.filename.is_file() && template.filename.is_file();
        (formats && there).then_some(Files {
            code: code.filename,
            code_format: code.format,
            template: template.filename,
            variables_format: template.format,
        })
    }
}

/// This machine's firmware for such a guest.
pub fn find(machine: &Machine) -> Result<Files> {
    find_in(&FOLDERS.map(Path::new), machine)
}

fn find_in(folders: &[&Path], machine: &Machine) -> Result<Files> {
    let mut names = std::collections::BTreeMap::new();
    for folder in folders.iter().rev() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            names.insert(entry.file_name(), entry.path());
        }
    }
    let read = |path: PathBuf| serde_json::from_slice::<Descriptor>(&fs::read(path).ok()?).ok();
    let found = names.into_values().filter_map(read).filter(|d| d.fits(machine)).find_map(Descriptor::files);
    let kind = if machine.secure_boot { "UEFI firmware with secure boot and keys" } else { "UEFI firmware" };
    found.ok_or_else(|| {
        DriverFault::Refused(format!("this host has no {kind} for the machine {} (Debian: ovmf)", machine.chipset()))
    })
}

/// The name of the variables of a machine. Firmware without keys would boot anything, whatever it was asked for.
pub fn variables_of(machine: &Machine, rescue: bool) -> &'static str {
    if rescue { OF_RESCUE } else { VARIABLES[usize::from(machine.secure_boot)] }
}

/// Makes sure that the VM has variables: those that it had, those of the incarnation whose disks it takes over, or new ones.
pub fn variables(dir: &Path, name: &str, files: &Files, taken: Option<&Path>, anew: bool) -> Result<()> {
    let own = dir.join(name);
    let bring = || {
        if let Some(other) = taken.map(|dir| dir.join(name)).filter(|other| !own.exists() && other.exists()) {
            fs::rename(other, &own)?;
        }
        if own.exists() && !anew {
            return Ok(());
        }
        if fs::metadata(&files.template)?.len() > LARGEST {
            return Err(io::Error::other("it is larger than a firmware's variables"));
        }
        let new = dir.join("uefi.new");
        let _ = fs::remove_file(&new);
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        io::copy(&mut fs::File::open(&files.template)?, &mut file)?;
        file.sync_all()?;
        fs::rename(&new, &own)?;
        disk::sync_dir(dir)
    };
    bring().map_err(|e| failed(format!("cannot make the variables from {}", files.template.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::machine::Firmware;

    const NAME: &str = VARIABLES[0];

    fn descriptor(dir: &Path, name: &str, features: &str) {
        let (code, vars) = (dir.join(format!("{name}.code")), dir.join(format!("{name}.vars")));
        fs::write(&code, "code").unwrap();
        fs::write(&vars, name).unwrap();
        let text = format!(
            r#"{{"description":"","interface-types":["uefi"],"mapping":{{"device":"flash",
            "executable":{{"filename":{code:?},"format":"raw"}},"nvram-template":{{"filename":{vars:?},"format":"raw"}}}},
            "targets":[{{"architecture":"x86_64","machines":["pc-q35-*"]}}],"features":[{features}],"tags":[]}}"#
        );
        fs::write(dir.join(format!("{name}.json")), text).unwrap();
    }

    #[test]
    fn the_first_that_has_what_is_needed_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        descriptor(dir.path(), "40-keys", r#""secure-boot","requires-smm","enrolled-keys""#);
        descriptor(dir.path(), "50-plain", "");
        fs::write(dir.path().join("10-broken.json"), "{").unwrap();
        let uefi = Machine { firmware: Firmware::Uefi, ..Machine::default() };
        let template = |machine: &Machine| find_in(&[dir.path()], machine).map(|files| files.template);
        assert_eq!(template(&uefi).unwrap(), dir.path().join("50-plain.vars"));
        assert_eq!(template(&Machine { secure_boot: true, ..uefi.clone() }).unwrap(), dir.path().join("40-keys.vars"));
        let old = template(&Machine { chipset: "pc".to_owned(), ..uefi }).unwrap_err();
        assert!(old.to_string().contains("no UEFI firmware for the machine pc"), "{old}");
    }

    #[test]
    fn keys_and_rescues_have_variables_of_their_own() {
        let plain = Machine { firmware: Firmware::Uefi, ..Machine::default() };
        let secure = Machine { secure_boot: true, ..plain.clone() };
        let names = [(&plain, false), (&secure, false), (&plain, true), (&secure, true)];
        let names = names.map(|(machine, rescue)| variables_of(machine, rescue));
        assert_eq!(names, ["uefi.vars", "uefi-secure.vars", "rescue.vars", "rescue.vars"]);
    }

    #[test]
    fn variables_are_kept_taken_over_and_made_anew() {
        let (dir, one, two) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        descriptor(dir.path(), "a", "");
        let files = find_in(&[dir.path()], &Machine::default()).unwrap();
        let text = |dir: &Path| fs::read_to_string(dir.join(NAME)).unwrap();
        variables(one.path(), NAME, &files, None, false).unwrap();
        assert_eq!(text(one.path()), "a");
        fs::write(one.path().join(NAME), "changed").unwrap();
        variables(one.path(), NAME, &files, None, false).unwrap();
        assert_eq!(text(one.path()), "changed");
        variables(two.path(), NAME, &files, Some(one.path()), false).unwrap();
        assert_eq!((text(two.path()), one.path().join(NAME).exists()), ("changed".to_owned(), false));
        variables(two.path(), NAME, &files, None, true).unwrap();
        assert_eq!(text(two.path()), "a");
    }
}
