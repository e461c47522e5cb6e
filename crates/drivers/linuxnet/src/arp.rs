//! Gratuitous ARP: tells a segment at which MAC an address is now.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use driver::address::Mac;

const ETHERTYPE: u16 = 0x0806;

/// Announces addresses on devices (by index) of the namespace in which the thread is.
pub fn announce(mac: Mac, addresses: &[(u32, Ipv4Addr)]) -> io::Result<()> {
    let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None::<SockProtocol>)?;
    for (index, address) in addresses {
        let frame = frame(mac, *address);
        send(fd.as_raw_fd(), *index, &frame)?;
    }
    Ok(())
}

/// An ARP request for the own address, to everybody.
fn frame(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac.0);
    frame.extend(ETHERTYPE.to_be_bytes());
    // Ethernet, IPv4, their lengths, request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

// nix builds link-layer addresses only from raw ones; the call needs a pointer to one either way.
#[allow(unsafe_code)]
fn send(fd: i32, index: u32, frame: &[u8]) -> io::Result<()> {
    let target = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ETHERTYPE.to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    };
    let length = size_of_val(&target) as libc::socklen_t;
    // SAFETY: both pointers are to values that live through the call, with their true lengths.
    let sent = unsafe { libc::sendto(fd, frame.as_ptr().cast(), frame.len(), 0, (&raw const target).cast(), length) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
