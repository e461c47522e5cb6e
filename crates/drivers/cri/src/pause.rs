//! The image of the process that holds a pod's namespaces, made by ourselves, because there is no registry to rely on
//! when the first pod starts. The program is assembled here by hand: it ignores SIGCHLD, by which the kernel reaps
//! orphans for it (it is init where containers share a pid namespace), and sleeps for ever. Refused: our own binary under
//! another name, too large for that, and dynamically linked; `sleep` from busybox, which is not on every host.

use std::io;

use serde_json::json;
use sha2::{Digest, Sha256};

/// The name by which containerd knows it.
pub const IMAGE: &str = "braid.local/braid-pause:1";

/// An OCI layout in a tar: one layer with one program. None where we have no program for the host's processor.
pub fn image() -> io::Result<Option<Vec<u8>>> {
    let Some(program) = program() else { return Ok(None) };
    let layer = archive(&[("pause".to_owned(), program, 0o755)])?;
    let config = serde_json::to_vec(&json!({
        "architecture": oci_architecture(), "os": "linux", "config": {"Entrypoint": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}, "history": [{"created_by": "braid"}],
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len()}],
    }))?;
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(&manifest), "size": manifest.len(),
            "annotations": {"io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": "1"},
        }],
    }))?;
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(), 0o644),
        ("index.json".to_owned(), index, 0o644),
    ];
    for blob in [layer, config, manifest] {
        files.push((format!("blobs/sha256/{}", hex(&blob)), blob, 0o644));
    }
    archive(&files).map(Some)
}

fn archive(files: &[(String, Vec<u8>, u32)]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        tar.append_data(&mut header, path, bytes.as_slice())?;
    }
    tar.into_inner()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn oci_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// The processor's number in an ELF header, and the program's machine code. `sigaction` follows the code at once; its
/// address is relative to the code, so that nothing needs to be loaded at a particular place.
#[cfg(target_arch = "x86_64")]
const MACHINE: Option<(u16, &[u8])> = Some((
    62,
    &[
        0xb8, 0x0d, 0x00, 0x00, 0x00, // mov eax, 13 (rt_sigaction)
        0xbf, 0x11, 0x00, 0x00, 0x00, // mov edi, 17 (SIGCHLD)
        0x48, 0x8d, 0x35, 0x13, 0x00, 0x00, 0x00, // lea rsi, [rip + 19]: behind the code
        0x31, 0xd2, // xor edx, edx
        0x41, 0xba, 0x08, 0x00, 0x00, 0x00, // mov r10d, 8
        0x0f, 0x05, // syscall
        0xb8, 0x22, 0x00, 0x00, 0x00, // mov eax, 34 (pause)
        0x0f, 0x05, // syscall
        0xeb, 0xf7, // jmp to the mov before
    ],
));
#[cfg(not(target_arch = "x86_64"))]
const MACHINE: Option<(u16, &[u8])> = None;

/// A static ELF program of one loaded segment.
fn program() -> Option<Vec<u8>> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let (machine, code) = MACHINE?;
    // struct sigaction: handler SIG_IGN, no flags, no restorer, empty mask.
    let sigaction: [u64; 4] = [1, 0, 0, 0];
    let size = HEADERS + code.len() as u64 + 32;
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little endian, System V
    elf.extend(2u16.to_le_bytes()); // an executable
    elf.extend(machine.to_le_bytes());
    elf.extend(1u32.to_le_bytes());
    elf.extend((BASE + HEADERS).to_le_bytes()); // entry
    elf.extend(64u64.to_le_bytes()); // program headers follow
    elf.extend(0u64.to_le_bytes()); // no sections
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes()); // load
    elf.extend(5u32.to_le_bytes()); // read, execute
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    for word in sigaction {
        elf.extend(word.to_le_bytes());
    }
    Some(elf)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    /// It runs, ignores the death of children and sleeps.
    #[test]
    fn the_program_sleeps_and_ignores_children() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, super::program().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let text = std::fs::read_to_string(&status).unwrap();
            let line = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("").trim().to_owned();
            let ignored = u64::from_str_radix(&line("SigIgn:"), 16).unwrap_or(0);
            if line("State:").starts_with('S') && ignored & (1 << 16) != 0 {
                break;
            }
            assert!(Instant::now() < deadline, "{text}");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_image_is_the_same_each_time() {
        assert_eq!(super::image().unwrap(), super::image().unwrap());
    }
}
