//! Which things of a host need a step, and which are being worked on.
//!
//! A step of a thing whose rows and whose processes are as they were when its last step ended well would find nothing to
//! do. So each look at the host gives a digest of everything, and only what has changed is stepped; what is not as it
//! shall be is stepped at every tick, and everything now and then, in case a digest misses something. Stepping everything
//! at every news was refused: a hundred pods kept two cores busy while nothing happened.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::SignedDuration;
use model::Time;

/// A thing that is as it shall be is stepped again after this long all the same.
const AT_LEAST_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// A digest of how a thing looked: the revisions of its rows and what the drivers have of it.
pub type Digest = u64;

/// The digest of anything.
pub fn digest(of: impl Hash) -> Digest {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// How a step left its thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// As it shall be.
    Settled,
    /// Not yet: look again at the next tick.
    Unsettled,
}

/// Why the agent looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Rows changed.
    News,
    /// Time passed, or something happened on the host.
    Tick,
}

/// The work of a host, by thing.
#[derive(Default)]
pub struct Work(Mutex<HashMap<String, Thing>>);

struct Thing {
    digest: Option<Digest>,
    busy: bool,
    /// It changed while it was worked on.
    again: bool,
    settled: Option<Time>,
}

impl Work {
    /// Whether a step shall begin now; who is told so must [`Work::end`] it. Without a digest it shall, unless one is running.
    pub fn begin(&self, key: &str, digest: Option<Digest>, reason: Reason, now: Time) -> bool {
        let mut things = self.things();
        let Some(thing) = things.get_mut(key) else {
            things.insert(key.to_owned(), Thing { digest, busy: true, again: false, settled: None });
            return true;
        };
        let same = digest.is_some() && thing.digest == digest;
        if thing.busy {
            thing.again |= !same;
            return false;
        }
        let rests = match thing.settled {
            Some(since) => now.duration_since(since) < AT_LEAST_EVERY,
            None => reason == Reason::News,
        };
        if same && rests {
            return false;
        }
        (thing.digest, thing.busy) = (digest, true);
        true
    }

    /// Ends a step; whether the agent shall look again at once.
    pub fn end(&self, key: &str, left: Left, now: Time) -> bool {
        let mut things = self.things();
        let Some(thing) = things.get_mut(key) else { return false };
        thing.busy = false;
        thing.settled = (left == Left::Settled).then_some(now);
        if thing.again {
            thing.digest = None;
        }
        std::mem::take(&mut thing.again)
    }

    /// Forgets what is not there any more.
    pub fn keep(&self, keys: &HashSet<String>) {
        self.things().retain(|key, thing| thing.busy || keys.contains(key));
    }

    // Whoever panicked under this lock left it whole.
    fn things(&self) -> MutexGuard<'_, HashMap<String, Thing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time::from_second(1_000_000 + second).expect("a moment")
    }

    #[test]
    fn what_is_settled_rests_until_it_changes() {
        let work = Work::default();
        let begin = |digest, reason, second| work.begin("pod a", Some(digest), reason, at(second));
        assert!(begin(1, Reason::News, 0));
        assert!(!begin(1, Reason::Tick, 0), "it is being worked on");
        assert!(!work.end("pod a", Left::Settled, at(0)));
        assert!(!begin(1, Reason::Tick, 9));
        assert!(begin(2, Reason::News, 9), "it changed");
        work.end("pod a", Left::Settled, at(9));
        assert!(begin(2, Reason::Tick, 19), "now and then");
    }

    #[test]
    fn what_is_unsettled_waits_for_the_tick() {
        let work = Work::default();
        let begin = |digest, reason| work.begin("pod a", Some(digest), reason, at(0));
        assert!(begin(1, Reason::News));
        work.end("pod a", Left::Unsettled, at(0));
        assert!(!begin(1, Reason::News), "the news are of others");
        assert!(begin(1, Reason::Tick));
    }

    #[test]
    fn what_changes_during_a_step_is_stepped_again() {
        let work = Work::default();
        let begin = |digest| work.begin("pod a", Some(digest), Reason::News, at(0));
        assert!(begin(1));
        assert!(!begin(2));
        assert!(work.end("pod a", Left::Settled, at(0)), "look again");
        assert!(begin(2));
        assert!(!work.end("pod a", Left::Settled, at(0)));
        assert!(!begin(2));
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let work = Work::default();
        for key in ["a", "b", "c"] {
            assert!(work.begin(key, Some(1), Reason::Tick, at(0)));
        }
        work.end("a", Left::Settled, at(0));
        work.end("b", Left::Settled, at(0));
        work.keep(&HashSet::from(["a".to_owned()]));
        assert_eq!(
            work.things().keys().cloned().collect::<HashSet<_>>(),
            HashSet::from(["a".to_owned(), "c".to_owned()])
        );
    }
}
