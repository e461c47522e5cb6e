//! Whether KVM is of use here. A host may have `/dev/kvm` and make a VM with it, and yet run a guest wrongly or a
//! hundred times slower than expected (clouds whose machines are VMs themselves). So a guest is run: the firmware boots
//! one sector, which writes to a port that ends QEMU. That is some millions of instructions in three processor modes,
//! with interrupts; a working KVM does it in a fraction of a second. QEMU's own emulation runs the same beside it, at the
//! same load: a KVM that is slower than that is none. Refused: looking for the device or asking it for its version; a probe
//! of a few instructions, which a broken KVM passes too; a limit of time alone, which one that is eight times slower than
//! emulation, and hangs with kernels, keeps on a quiet machine.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use driver::{DriverFault, Result};
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(4);
/// isa-debug-exit turns a byte into an exit code: twice the byte and one more.
const FINISHED: i32 = 0x10 * 2 + 1;

/// What executes guests' instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

/// What was found, and why KVM is not used if it is not.
#[derive(Clone, Debug)]
pub struct Found {
    pub accel: Accel,
    pub why: String,
    /// QEMU's version.
    pub version: String,
}

/// From this version on QEMU takes KVM as an open file.
const TAKES_KVM: u32 = 10;

impl Found {
    /// Whether QEMU can run guests for a user who has no rights.
    pub fn serves_users(&self) -> bool {
        let major = self.version.trim_start_matches("QEMU ").split('.').next().and_then(|n| n.parse::<u32>().ok());
        self.accel == Accel::Tcg || major.is_some_and(|major| major >= TAKES_KVM)
    }
}

/// QEMU's version, and the best accelerator, remembered in `dir` for this kernel and this QEMU.
pub async fn find(binary: &Path, wanted: Option<Accel>, dir: &Path) -> Result<Found> {
    let version = version(binary).await?;
    if let Some(accel) = wanted {
        return Ok(Found { accel, why: "chosen".to_owned(), version });
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // With the number of the way in which it is found out.
    let key = format!("2 {} {version}\n", kernel.trim());
    let cache = dir.join("kvm-probe");
    let known = std::fs::read_to_string(&cache).ok();
    let problem = match known.as_deref().and_then(|text| text.strip_prefix(&key)) {
        Some(problem) => problem.to_owned(),
        None => match probe(binary, dir).await {
            Some(problem) => {
                if let Err(error) = std::fs::write(&cache, format!("{key}{problem}")) {
                    tracing::warn!(%error, "cannot remember the KVM probe");
                }
                problem
            }
            // Perhaps the host was busy: tried again at the next start.
            None => format!("a test guest under KVM did not finish within {LIMIT:?}"),
        },
    };
    let accel = if problem.is_empty() { Accel::Kvm } else { Accel::Tcg };
    Ok(Found { accel, why: problem, version })
}

async fn version(binary: &Path) -> Result<String> {
    let unusable = |why: String| DriverFault::Unavailable(format!("VMs cannot run: {}: {why}", binary.display()));
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(20), output).await;
    let output = output.map_err(|_| unusable("does not answer".to_owned()))?.map_err(|e| unusable(e.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.split_whitespace().skip_while(|word| *word != "version").nth(1);
    Ok(format!("QEMU {}", number.ok_or_else(|| unusable("tells no version".to_owned()))?))
}

/// Runs a guest under KVM; what went wrong, in words (empty: nothing), or none if it did not finish in time.
async fn probe(binary: &Path, dir: &Path) -> Option<String> {
    if !Path::new("/dev/kvm").exists() {
        return Some("there is no /dev/kvm".to_owned());
    }
    let disk = dir.join("kvm-probe.img");
    if let Err(error) = std::fs::write(&disk, boot_sector()) {
        return Some(format!("the KVM probe cannot be written: {error}"));
    }
    let compared = compare(binary, &disk).await;
    let _ = std::fs::remove_file(&disk);
    compared
}

/// The better of two runs of each, in turns.
async fn compare(binary: &Path, disk: &Path) -> Option<String> {
    let (mut kvm, mut tcg) = (LIMIT, LIMIT);
    for _ in 0..2 {
        match run(binary, Accel::Kvm, disk).await? {
            Ok(time) => kvm = kvm.min(time),
            Err(why) => return Some(format!("a test guest under KVM {why}")),
        }
        match run(binary, Accel::Tcg, disk).await? {
            Ok(time) => tcg = tcg.min(time),
            Err(why) => return Some(format!("a test guest without KVM {why}")),
        }
    }
    Some(match is_faster(kvm, tcg) {
        true => String::new(),
        false => format!("a test guest took {kvm:.1?} under KVM and {tcg:.1?} without"),
    })
}

/// What starts and ends QEMU takes about as long with as without, so a working KVM can look as slow as emulation does, but
/// not slower.
fn is_faster(kvm: Duration, tcg: Duration) -> bool {
    kvm < tcg.mul_f64(1.5)
}

/// How long the guest took, or what went wrong; none if it did not finish in time.
async fn run(binary: &Path, accel: Accel, disk: &Path) -> Option<std::result::Result<Duration, String>> {
    let (accel, cpu) = match accel {
        Accel::Kvm => ("kvm", "host"),
        Accel::Tcg => ("tcg", "max"),
    };
    let mut command = Command::new(binary);
    command.args(["-machine", "q35", "-accel", accel, "-cpu", cpu, "-m", "32", "-nodefaults", "-no-user-config"]);
    command.args(["-display", "none", "-device", "isa-debug-exit,iobase=0x501,iosize=2", "-drive"]);
    command
        .arg(format!("if=none,id=probe,format=raw,snapshot=on,file={}", disk.display().to_string().replace(',', ",,")));
    command.args(["-device", "virtio-blk-pci,drive=probe"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let begun = Instant::now();
    Some(match tokio::time::timeout(LIMIT, command.output()).await.ok()? {
        Err(error) => Err(format!("could not be run: {error}")),
        Ok(output) if output.status.code() == Some(FINISHED) => Ok(begun.elapsed()),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(format!("failed: {}", words.lines().next().unwrap_or("without a word")))
        }
    })
}

/// A disk whose first sector ends QEMU. Firmware does not boot disks of one sector.
fn boot_sector() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    let code = [
        0xba, 0x01, 0x05, // mov dx, 0x501
        0xb0, 0x10, // mov al, 0x10
        0xee, // out dx, al
        0xf4, // hlt
    ];
    disk[..code.len()].copy_from_slice(&code);
    disk[510] = 0x55;
    disk[511] = 0xaa;
    disk
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The probe's guest does finish where guests run: under TCG.
    #[tokio::test]
    async fn the_probe_finishes_without_kvm() {
        let Some(binary) = crate::process::which("qemu-system-x86_64") else { return };
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        std::fs::write(&disk, boot_sector()).unwrap();
        // A busy machine may need longer than the probe waits.
        for _ in 0..20 {
            if let Some(done) = run(&binary, Accel::Tcg, &disk).await {
                assert!(done.is_ok(), "{done:?}");
                return;
            }
        }
        panic!("the probe's guest never finished");
    }

    #[test]
    fn a_kvm_that_is_slower_than_emulation_is_none() {
        let ms = Duration::from_millis;
        assert!(is_faster(ms(90), ms(170)) && is_faster(ms(180), ms(170)));
        assert!(!is_faster(ms(1400), ms(170)));
    }
}
