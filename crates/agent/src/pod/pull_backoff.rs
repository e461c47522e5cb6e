//! When an image may be asked for again after it could not be pulled: later each time, as the kubelet does it. Remembered in
//! this process alone: one that begins anew tries once more.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use model::Time;

/// The first wait and the longest, in seconds.
const FIRST: i64 = 10;
const LONGEST: i64 = 300;
/// What failed so long ago is forgotten.
const FORGOTTEN: i64 = 2 * LONGEST;

struct Failed {
    when: Time,
    wait: i64,
    words: String,
}

/// Images that could not be pulled, by the pod that asked and their name.
#[derive(Default)]
pub struct PullBackoff(Mutex<HashMap<(String, String), Failed>>);

impl PullBackoff {
    /// What was said the last time, if it is too early to ask again.
    pub fn holds(&self, pod: &str, image: &str, now: Time) -> Option<String> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = failed.get(&(pod.to_owned(), image.to_owned()))?;
        (age(last, now) < last.wait).then(|| last.words.clone())
    }

    pub fn failed(&self, pod: &str, image: &str, words: &str, now: Time) {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, last| age(last, now) < FORGOTTEN);
        let key = (pod.to_owned(), image.to_owned());
        let wait = failed.get(&key).map_or(FIRST, |last| (last.wait * 2).min(LONGEST));
        failed.insert(key, Failed { when: now, wait, words: words.to_owned() });
    }

    pub fn pulled(&self, pod: &str, image: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(pod.to_owned(), image.to_owned()));
    }
}

fn age(failed: &Failed, now: Time) -> i64 {
    now.duration_since(failed.when).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_longer() {
        let at = |s: i64| Time::from_second(1_000_000 + s).expect("a moment");
        let pulls = PullBackoff::default();
        assert_eq!(pulls.holds("p", "i", at(0)), None);
        pulls.failed("p", "i", "not found", at(0));
        assert_eq!(pulls.holds("p", "i", at(9)).as_deref(), Some("not found"));
        assert_eq!(pulls.holds("p", "i", at(10)), None);
        assert_eq!(pulls.holds("q", "i", at(1)), None, "another pod may ask");
        pulls.failed("p", "i", "not found", at(10));
        assert!(pulls.holds("p", "i", at(29)).is_some() && pulls.holds("p", "i", at(30)).is_none());
        pulls.pulled("p", "i");
        assert_eq!(pulls.holds("p", "i", at(11)), None);
    }
}
