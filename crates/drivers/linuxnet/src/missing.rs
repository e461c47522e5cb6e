//! What this machine lacks for networks of ours, as far as that shows before anything is made: said when a cloud starts, so
//! that nobody has to find it out by a server that never gets its address.

use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Why no network can run here.
pub fn missing() -> Option<String> {
    if driver::process::which("nft").is_none() {
        return Some("networks cannot run: nft is not installed (Debian: nftables)".to_owned());
    }
    if !nix::unistd::geteuid().is_root() {
        return Some("networks cannot run: they need root".to_owned());
    }
    // In a thread, which takes the new namespace with it when it ends.
    let tried = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join();
    if let Ok(Err(error)) = tried {
        return Some(format!(
            "networks cannot run: no namespace can be made here ({error}); in a container without rights?"
        ));
    }
    let tun = !Path::new("/dev/net/tun").exists();
    tun.then(|| "VMs cannot be plugged in: there is no /dev/net/tun".to_owned())
}
