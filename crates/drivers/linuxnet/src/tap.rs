//! Taps for VMs, opened as QEMU expects them.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The kernel's `struct ifreq`, as far as it matters here.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

// Safe wrappers for this call do not exist; the macro makes the function that is called below.
#[allow(unsafe_code)]
mod call {
    nix::ioctl_write_ptr_bad!(set_tap, nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()), super::Request);
}

/// Opens the tap of that name, making it if need be, in the namespace in which the thread is. It lives as long as
/// somebody holds it open.
#[allow(unsafe_code)]
pub fn open(name: &str) -> io::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let mut request = Request { name: [0; 16], flags: flags as i16, rest: [0; 22] };
    let bytes = name.as_bytes();
    let room = request.name.get_mut(..bytes.len()).filter(|room| room.len() < 16);
    room.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is too long for a device")))?
        .copy_from_slice(bytes);
    // SAFETY: the descriptor is open, and the request has the size and layout that the kernel reads and writes.
    unsafe { call::set_tap(file.as_raw_fd(), &raw const request) }?;
    Ok(file.into())
}
