//! Who may be connected, and how often. One address cannot take the places of the others, and the host itself has places
//! that no stranger can take, so that its operator gets in whatever happens outside.
//!
//! Letting connections wait in the kernel's queue until a place is free was refused: the queue is the strangers' too.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use gate::Client;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Who takes places.
pub trait Guest: Clone + Eq + Hash + Unpin {
    /// The most that one may have, and all together.
    const EACH: usize;
    const ALL: usize;
    /// The most that this host's own have together, beside those of all others.
    const OWN: usize = 0;

    fn is_own(&self) -> bool {
        false
    }
}

/// At the public port.
impl Guest for Client {
    const EACH: usize = 256;
    const ALL: usize = 4096;
    const OWN: usize = 1024;

    fn is_own(&self) -> bool {
        self.is_local()
    }
}

/// At the API of a cluster, which its pods reach: the cluster's id.
impl Guest for String {
    const EACH: usize = 1024;
    const ALL: usize = 8192;
}

/// Which places are taken.
pub struct Places<K> {
    taken: Mutex<HashMap<K, usize>>,
}

impl<K: Guest> Places<K> {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default() })
    }

    /// A place for as long as the value lives, if there is one.
    pub fn take(self: &Arc<Self>, who: K) -> Option<Place<K>> {
        let mut taken = self.taken();
        let held = taken.get(&who).copied().unwrap_or_default();
        let alike = taken.iter().filter(|(other, _)| other.is_own() == who.is_own());
        let together: usize = alike.map(|(_, held)| held).sum();
        let room = if who.is_own() { together < K::OWN } else { held < K::EACH && together < K::ALL };
        room.then(|| {
            taken.insert(who.clone(), held + 1);
            Place { places: self.clone(), who }
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place; given back when dropped.
pub struct Place<K: Guest> {
    places: Arc<Places<K>>,
    who: K,
}

impl<K: Guest> Drop for Place<K> {
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

/// A client that has not finished its TLS greeting by then is dropped.
const GREETING: Duration = Duration::from_secs(10);

/// A client's stream with its place, which it keeps however the protocol on it changes.
pub struct Seated<K: Guest> {
    stream: TcpStream,
    _place: Place<K>,
}

impl<K: Guest> Seated<K> {
    /// The client behind TLS, if it greets in time.
    pub async fn greet(stream: TcpStream, place: Place<K>, tls: &TlsAcceptor) -> Option<TlsStream<Self>> {
        let _ = stream.set_nodelay(true);
        let greeted = tokio::time::timeout(GREETING, tls.accept(Self { stream, _place: place })).await;
        greeted.ok()?.ok()
    }
}

impl<K: Guest> AsyncRead for Seated<K> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<K: Guest> AsyncWrite for Seated<K> {
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

    fn client(text: &str) -> Client {
        Client::at(text.parse().expect("an address"))
    }

    #[test]
    fn one_address_leaves_room_for_the_others() {
        let places = Places::<Client>::new();
        let mut held: Vec<_> = (0..Client::EACH).map(|_| places.take(client("192.0.2.1")).expect("a place")).collect();
        assert!(places.take(client("192.0.2.1")).is_none());
        assert!(places.take(client("192.0.2.2")).is_some());
        held.pop();
        assert!(places.take(client("192.0.2.1")).is_some(), "what is given back can be taken again");
    }

    #[test]
    fn all_strangers_together_leave_room_for_the_host() {
        let places = Places::<Client>::new();
        let strangers = (0..Client::ALL / Client::EACH + 1)
            .flat_map(|n| (0..Client::EACH).map(move |_| Client::at([192, 0, 2, n as u8].into())));
        let held: Vec<_> = strangers.map_while(|client| places.take(client)).collect();
        assert_eq!(held.len(), Client::ALL);
        assert!(places.take(client("198.51.100.1")).is_none());
        assert!(places.take(client("127.0.0.1")).is_some() && places.take(client("::1")).is_some());
        drop(held);
        assert!(places.taken().is_empty(), "nothing is remembered of who is gone");
    }
}
