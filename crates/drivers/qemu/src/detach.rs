//! Processes of a VM (QEMU, its TPM, programs that read its disks) begin as what they are to be: apart from us, and the VM's
//! user.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{Gid, Uid};

use crate::user::User;

/// The child leads a session of its own, keeps the open files, under their numbers, and is the VM's user for good.
#[allow(unsafe_code)]
pub fn detach(command: &mut Command, files: Vec<i32>, user: Option<User>) {
    let prepare = move || {
        nix::unistd::setsid()?;
        if let Some(user) = user {
            nix::unistd::setgroups(&[])?;
            nix::unistd::setgid(Gid::from_raw(user.id))?;
            nix::unistd::setuid(Uid::from_raw(user.id))?;
        }
        for file in &files {
            // SAFETY: fcntl on a descriptor that the parent holds open until after the fork; it touches no memory.
            if unsafe { libc::fcntl(*file, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only setsid(2), setgroups(2), setgid(2), setuid(2) and fcntl(2) are called, which take no
    // locks in a process of one thread; the closure reads a vector that was made before the fork and allocates nothing.
    unsafe {
        command.pre_exec(prepare);
    }
}
