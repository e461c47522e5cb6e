//! Who guesses a user's password is slowed down: after some failures in a row each further try must wait for a while
//! since the last, twice as long each time, up to a bound. A try within the wait is answered as a wrong password is, after
//! the same work, and counts for nothing.
//!
//! Counted by user *and* client address. A lock by user alone was refused: ten requests a minute from anywhere would keep
//! the rightful owner out for ever. The host itself is never kept waiting, so that its administrator always gets in.
//! Kept in memory, by each process for itself: writing a row for each failure would let strangers fill the store.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::SignedDuration;
use model::Time;

use crate::Client;

/// Failures in a row that cost nothing.
const FREE: u32 = 5;
/// The longest wait between two tries.
const LONGEST: SignedDuration = SignedDuration::from_secs(30);
/// After what pause failures are forgotten.
const FORGOTTEN: SignedDuration = SignedDuration::from_mins(15);
/// Pairs of user and client that are remembered; beyond, the one that failed longest ago is forgotten.
const MOST: usize = 16_384;

/// Failures of users that exist, by user and client.
#[derive(Default)]
pub struct Lockout {
    failures: Mutex<HashMap<(String, Client), Failures>>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Time,
}

impl Failures {
    /// From when on the next try counts.
    fn until(self) -> Time {
        let doublings = self.count.saturating_sub(FREE);
        let wait = match doublings {
            0 => SignedDuration::ZERO,
            n => SignedDuration::from_secs(1i64 << n.min(16)).min(LONGEST),
        };
        self.last + wait
    }
}

impl Lockout {
    fn failures(&self) -> MutexGuard<'_, HashMap<(String, Client), Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a try of this client at this user comes too early, whatever the password.
    pub fn waits(&self, user: &str, client: Client, now: Time) -> bool {
        !client.is_local() && self.failures().get(&(user.to_owned(), client)).is_some_and(|f| now < f.until())
    }

    /// The user's password was wrong, or right. For tries that did not come too early.
    pub fn tried(&self, user: &str, client: Client, right: bool, now: Time) {
        let mut failures = self.failures();
        let key = (user.to_owned(), client);
        if right {
            failures.remove(&key);
            return;
        }
        if failures.len() >= MOST && !failures.contains_key(&key) {
            failures.retain(|_, f| now.duration_since(f.last) < FORGOTTEN);
            let oldest = failures.iter().min_by_key(|(_, f)| f.last).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest.filter(|_| failures.len() >= MOST) {
                failures.remove(&oldest);
            }
        }
        let known = failures.entry(key).or_insert(Failures { count: 0, last: now });
        if now.duration_since(known.last) >= FORGOTTEN {
            known.count = 0;
        }
        *known = Failures { count: known.count.saturating_add(1), last: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time::from_second(1_800_000_000 + second).unwrap()
    }

    fn client(text: &str) -> Client {
        Client::at(text.parse().unwrap())
    }

    #[test]
    fn failures_make_one_wait_longer_each_time_up_to_a_bound() {
        let (lockout, here) = (Lockout::default(), client("192.0.2.1"));
        for _ in 0..5 {
            assert!(!lockout.waits("a", here, at(0)));
            lockout.tried("a", here, false, at(0));
        }
        let mut now = 0;
        for wait in [2, 4, 8, 16, 30, 30] {
            lockout.tried("a", here, false, at(now));
            assert!(lockout.waits("a", here, at(now + wait - 1)), "{wait}");
            now += wait;
            assert!(!lockout.waits("a", here, at(now)), "{wait}");
        }
        lockout.tried("a", here, true, at(now));
        lockout.tried("a", here, false, at(now));
        assert!(!lockout.waits("a", here, at(now)), "a login forgets what was before");
    }

    #[test]
    fn a_stranger_keeps_neither_the_owner_nor_the_host_waiting() {
        let (lockout, stranger) = (Lockout::default(), client("192.0.2.1"));
        let local = client("127.0.0.1");
        for _ in 0..100 {
            lockout.tried("a", stranger, false, at(0));
            lockout.tried("a", local, false, at(0));
        }
        assert!(lockout.waits("a", stranger, at(1)));
        assert!(!lockout.waits("a", client("192.0.2.2"), at(1)));
        assert!(!lockout.waits("b", stranger, at(1)));
        assert!(!lockout.waits("a", local, at(1)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let lockout = Lockout::default();
        for n in 0..MOST as u32 + 10 {
            lockout.tried(
                "a",
                Client::at(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()),
                false,
                at(i64::from(n)),
            );
        }
        assert!(lockout.failures().len() <= MOST);
    }
}
