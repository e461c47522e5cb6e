//! Who fails to log in again and again is not let in for a while, as with Keystone's `lockout_failure_attempts`: guessing a
//! password is a matter of years then. The answer is the one to a wrong password.
//!
//! Kept in memory, by each process for itself: writing a row for each failure would let strangers fill the store. The
//! lock is short, since it holds back the rightful owner too.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::SignedDuration;
use model::Time;

/// Failures in a row that are free.
const FAILURES: u32 = 10;
/// How long a user stays locked, and after what pause failures are forgotten.
const PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// Failures of users that exist; so their number is bounded.
#[derive(Default)]
pub struct Lockout {
    failures: Mutex<HashMap<String, (u32, Time)>>,
}

impl Lockout {
    fn failures(&self) -> MutexGuard<'_, HashMap<String, (u32, Time)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The user is not let in now, whatever the password.
    pub fn locked(&self, user: &str, now: Time) -> bool {
        let failures = self.failures();
        failures.get(user).is_some_and(|(count, last)| *count >= FAILURES && now.duration_since(*last) < PAUSE)
    }

    /// The user's password was wrong, or right. An attempt during a lock counts for nothing.
    pub fn tried(&self, user: &str, right: bool, now: Time) {
        let mut failures = self.failures();
        failures.retain(|_, (_, last)| now.duration_since(*last) < PAUSE);
        match failures.get_mut(user) {
            Some((count, _)) if *count >= FAILURES => {}
            _ if right => {
                failures.remove(user);
            }
            Some((count, last)) => (*count, *last) = (*count + 1, now),
            None => {
                failures.insert(user.to_owned(), (1, now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_lock_for_a_minute() {
        let at = |second: i64| Time::from_second(1_800_000_000 + second).unwrap();
        let lockout = Lockout::default();
        for second in 0..9 {
            lockout.tried("a", false, at(second));
        }
        assert!(!lockout.locked("a", at(9)));
        lockout.tried("a", true, at(9));
        for second in 10..20 {
            assert!(!lockout.locked("a", at(second)), "a login forgets what was before");
            lockout.tried("a", false, at(second));
        }
        assert!(lockout.locked("a", at(19)));
        assert!(!lockout.locked("b", at(19)), "nobody else");
        // What was under way when the lock fell neither opens nor prolongs it.
        lockout.tried("a", true, at(20));
        lockout.tried("a", false, at(60));
        assert!(lockout.locked("a", at(78)));
        assert!(!lockout.locked("a", at(79)));
        lockout.tried("a", false, at(79));
        assert!(!lockout.locked("a", at(79)), "failures are counted anew");
    }
}
