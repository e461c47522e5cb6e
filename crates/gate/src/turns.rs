//! Who may compute next. As many at once as there are processors; those who wait are let in address by address in turn,
//! so that whoever sends a hundred log-ins waits for them, and nobody else does.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::Client;

/// How many of one client may wait.
const EACH: usize = 64;
/// How many may wait in all. Beyond, the last of whoever has most waiting is sent away.
const ALL: usize = 1024;

/// The turns of one kind of work.
#[derive(Clone)]
pub struct Turns(Arc<Shared>);

struct Shared {
    places: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    waiting: usize,
    queues: HashMap<Client, VecDeque<oneshot::Sender<Turn>>>,
    /// Clients that have somebody waiting, in the order in which they come next.
    order: VecDeque<Client>,
}

/// A place; passed on to the next when dropped.
pub struct Turn(Option<Arc<Shared>>);

impl Turns {
    pub fn new(places: usize) -> Self {
        Self(Arc::new(Shared { places, state: Mutex::default() }))
    }

    /// Waits for a turn; `None`: too many wait already.
    pub async fn take(&self, client: Client) -> Option<Turn> {
        let waits = {
            let mut state = self.0.state();
            if state.running < self.0.places {
                state.running += 1;
                return Some(Turn(Some(self.0.clone())));
            }
            state.queue(client)?
        };
        waits.await.ok()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queue(&mut self, client: Client) -> Option<oneshot::Receiver<Turn>> {
        if self.queues.get(&client).is_some_and(|queue| queue.len() >= EACH) {
            return None;
        }
        if self.waiting >= ALL {
            let longest = self.queues.iter().max_by_key(|(_, queue)| queue.len()).map(|(client, _)| *client)?;
            self.queues.get_mut(&longest)?.pop_back();
            self.waiting -= 1;
        }
        let (sender, receiver) = oneshot::channel();
        if !self.order.contains(&client) {
            self.order.push_back(client);
        }
        self.queues.entry(client).or_default().push_back(sender);
        self.waiting += 1;
        Some(receiver)
    }

    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        while let Some(client) = self.order.pop_front() {
            let Some(queue) = self.queues.get_mut(&client) else { continue };
            let next = queue.pop_front();
            if queue.is_empty() {
                self.queues.remove(&client);
            } else {
                self.order.push_back(client);
            }
            if next.is_some() {
                self.waiting -= 1;
                return next;
            }
        }
        self.running -= 1;
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        loop {
            // A statement of its own: what is sent must not be dropped under the lock.
            let next = shared.state().next();
            let Some(next) = next else { return };
            match next.send(Turn(Some(shared.clone()))) {
                Ok(()) => return,
                // Whoever waited has gone.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn client(n: u8) -> Client {
        Client::at([192, 0, 2, n].into())
    }

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn many_of_one_client_do_not_keep_another_waiting() {
        let turns = Turns::new(1);
        let Poll::Ready(Some(first)) = poll(pin!(turns.take(client(1)))) else { panic!("a free place") };
        let mut crowd: Vec<_> = (0..EACH).map(|_| Box::pin(turns.take(client(1)))).collect();
        assert!(crowd.iter_mut().all(|f| poll(f.as_mut()).is_pending()));
        assert!(matches!(poll(pin!(turns.take(client(1)))), Poll::Ready(None)), "one client has its share");
        let mut other = Box::pin(turns.take(client(2)));
        assert!(poll(other.as_mut()).is_pending());
        drop(first);
        let Poll::Ready(Some(second)) = poll(crowd[0].as_mut()) else { panic!("the next in line") };
        assert!(poll(other.as_mut()).is_pending());
        drop(second);
        let Poll::Ready(Some(third)) = poll(other.as_mut()) else { panic!("the other is next, before the crowd") };
        // Whoever gave up is passed over, and no place is lost.
        drop(crowd);
        drop(third);
        assert!(matches!(poll(pin!(turns.take(client(3)))), Poll::Ready(Some(_))));
        assert_eq!(turns.0.state().running, 0);
    }

    #[test]
    fn a_crowd_of_addresses_gives_way_to_one_more() {
        let turns = Turns::new(1);
        let _first = poll(pin!(turns.take(client(0))));
        let mut crowd = Vec::new();
        for n in 0..ALL {
            let mut waits = Box::pin(turns.take(client((n / EACH) as u8)));
            assert!(poll(waits.as_mut()).is_pending());
            crowd.push(waits);
        }
        assert!(poll(pin!(turns.take(client(200)))).is_pending());
        let refused = crowd.iter_mut().filter_map(|f| match poll(f.as_mut()) {
            Poll::Ready(None) => Some(()),
            _ => None,
        });
        assert_eq!(refused.count(), 1);
    }
}
