//! Who may be connected, and how often. One address cannot take the places of the others, and the host itself has places
//! that no stranger can take, so that its operator gets in whatever happens outside.
//!
//! Letting connections wait in the kernel's queue until a place is free was refused: the queue is the strangers' too.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// This machine.
    Own,
    V4(u32),
    /// A subnet: a host of IPv6 has as many addresses as it likes.
    V6(u64),
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self::Own,
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// Who takes places.
pub trait Client: Clone + Eq + Hash + Unpin {
    /// The most that one may have, and all together.
    const EACH: usize;
    const ALL: usize;

    /// Has places of its own, beside those of all others.
    fn is_own(&self) -> Option<usize> {
        None
    }
}

/// At the public port.
impl Client for Peer {
    const EACH: usize = 256;
    const ALL: usize = 4096;

    fn is_own(&self) -> Option<usize> {
        (*self == Self::Own).then_some(1024)
    }
}

/// At the API of a cluster, which its pods reach: the cluster's id.
impl Client for String {
    const EACH: usize = 1024;
    const ALL: usize = 8192;
}

/// Which places are taken.
pub struct Places<K> {
    taken: Mutex<HashMap<K, usize>>,
}

impl<K: Client> Places<K> {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default() })
    }

    /// A place for as long as the value lives, if there is one.
    pub fn take(self: &Arc<Self>, who: K) -> Option<Place<K>> {
        let mut taken = self.taken();
        let own = taken.get(&who).copied().unwrap_or_default();
        let room = match who.is_own() {
            Some(most) => own < most,
            None => {
                let others = taken.iter().filter(|(who, _)| who.is_own().is_none());
                own < K::EACH && others.map(|(_, taken)| taken).sum::<usize>() < K::ALL
            }
        };
        room.then(|| {
            taken.insert(who.clone(), own + 1);
            Place { places: self.clone(), who }
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place; given back when dropped.
pub struct Place<K: Client> {
    places: Arc<Places<K>>,
    who: K,
}

impl<K: Client> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(own) = taken.get_mut(&self.who) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.who);
            }
        }
    }
}

/// A client's stream with its place, which it keeps however the protocol on it changes.
pub struct Seated<K: Client> {
    stream: TcpStream,
    _place: Place<K>,
}

impl<K: Client> Seated<K> {
    pub fn new(stream: TcpStream, place: Place<K>) -> Self {
        Self { stream, _place: place }
    }
}

impl<K: Client> AsyncRead for Seated<K> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<K: Client> AsyncWrite for Seated<K> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::from(text.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn one_address_leaves_room_for_the_others() {
        let places = Places::<Peer>::new();
        let mut held: Vec<_> = (0..Peer::EACH).map(|_| places.take(peer("192.0.2.1")).expect("a place")).collect();
        assert!(places.take(peer("192.0.2.1")).is_none());
        assert!(places.take(peer("192.0.2.2")).is_some());
        held.pop();
        assert!(places.take(peer("192.0.2.1")).is_some(), "what is given back can be taken again");
    }

    #[test]
    fn all_strangers_together_leave_room_for_the_host() {
        let places = Places::<Peer>::new();
        let strangers = (0..Peer::ALL / Peer::EACH + 1).flat_map(|n| (0..Peer::EACH).map(move |_| Peer::V4(n as u32)));
        let held: Vec<_> = strangers.map_while(|peer| places.take(peer)).collect();
        assert_eq!(held.len(), Peer::ALL);
        assert!(places.take(peer("192.0.2.200")).is_none());
        assert!(places.take(peer("127.0.0.1")).is_some() && places.take(peer("::1")).is_some());
        drop(held);
        assert!(places.taken().is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn a_subnet_of_ipv6_is_one_peer() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_eq!(peer("::ffff:127.0.0.1"), Peer::Own);
    }
}
