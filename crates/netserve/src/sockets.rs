//! What the servers in a namespace do alike with their sockets: listen, and answer each connection or packet that comes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// After a socket's error, which passes; a server whose bridge went away is ended from outside.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket on an address that may be about to be there.
pub fn bound(address: IpAddr, kind: SockType, port: u16) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv4() {
        setsockopt(&fd, sockopt::IpFreebind, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, port)))?;
    Ok(fd)
}

/// A listener on such an address.
pub fn listener(address: IpAddr, port: u16) -> io::Result<std::net::TcpListener> {
    let fd = bound(address, SockType::Stream, port)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd.into())
}

/// Serves each connection, at most so many at a time (more wait), until it is dropped.
pub async fn connections<F>(listener: TcpListener, most: usize, serve: impl Fn(TcpStream, SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut served = JoinSet::new();
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while served.try_join_next().is_some() {}
        if served.len() >= most {
            served.join_next().await;
        }
        served.spawn(serve(stream, client));
    }
}

/// Sends what is answered to each packet, and to whom, until it is dropped.
pub async fn packets(
    socket: UdpSocket,
    network_id: &str,
    answer: impl Fn(&[u8], SocketAddr) -> Option<(Vec<u8>, SocketAddr)>,
) {
    let mut buffer = [0; 1500];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if let Some((answer, to)) = answer(&buffer[..length], client)
            && let Err(error) = socket.send_to(&answer, to).await
        {
            tracing::warn!(network_id, %to, %error, "an answer could not be sent");
        }
    }
}
