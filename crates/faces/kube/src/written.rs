//! Objects as JSON, as they were written last: lists that are asked for again, and a hundred watches of one event, write an
//! object once. The bytes are a row's as of a revision, so nothing of them can grow old; who may see them is decided before.
//! Bytes beside every row were refused: they would take as much memory as the rows, and most rows are never listed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use model::{Key, Revision, Row};
use serde::Serialize;
use serde_json::Value;

use crate::body::Shown;

/// How many bytes are kept, about.
const MOST: usize = 32 << 20;

/// What was written, in two halves: when the newer one is full it becomes the older one, whose place it takes.
#[derive(Default)]
pub(crate) struct Written {
    halves: Mutex<[Half; 2]>,
    /// How often an object was written.
    times: AtomicU64,
}

#[derive(Default)]
struct Half {
    objects: HashMap<(Key, Part), (Revision, Bytes)>,
    bytes: usize,
}

/// What of an object is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    All,
    Metadata,
}

impl Half {
    fn get(&self, key: &(Key, Part), revision: Revision) -> Option<Bytes> {
        self.objects.get(key).filter(|(written, _)| *written == revision).map(|(_, bytes)| bytes.clone())
    }
}

impl Written {
    /// A row's object, as its clients see it.
    pub fn of(&self, row: &Row, body: &Value) -> serde_json::Result<Bytes> {
        self.part(row, Part::All, &Shown { body, revision: row.modified })
    }

    /// Of a row's object the metadata alone, as they are shown.
    pub fn metadata(&self, row: &Row, shown: &impl Serialize) -> serde_json::Result<Bytes> {
        self.part(row, Part::Metadata, shown)
    }

    fn part(&self, row: &Row, part: Part, shown: &impl Serialize) -> serde_json::Result<Bytes> {
        let key = (row.key.clone(), part);
        let found =
            |halves: &[Half; 2]| halves[0].get(&key, row.modified).ok_or_else(|| halves[1].get(&key, row.modified));
        let older = match found(&self.halves.lock().unwrap_or_else(PoisonError::into_inner)) {
            Ok(newer) => return Ok(newer),
            Err(older) => older,
        };
        let bytes = match older {
            Some(bytes) => bytes,
            None => {
                self.times.fetch_add(1, Ordering::Relaxed);
                serde_json::to_vec(shown)?.into_boxed_slice().into()
            }
        };
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if halves[0].bytes + bytes.len() > MOST / 2 {
            halves.swap(0, 1);
            halves[0] = Half::default();
        }
        let half = &mut halves[0];
        half.bytes += bytes.len();
        if let Some((_, before)) = half.objects.insert(key, (row.modified, bytes.clone())) {
            half.bytes -= before.len();
        }
        Ok(bytes)
    }

    /// How often an object was written so far.
    pub fn times(&self) -> u64 {
        self.times.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use model::{Resource, Setting};
    use serde_json::json;

    use super::*;

    fn row(name: &str, modified: Revision) -> Row {
        let setting = Setting { name: name.into(), value: json!(1) };
        Row { key: setting.key(), object: setting.into(), created: 1, modified }
    }

    #[test]
    fn an_object_is_written_once_for_each_revision() {
        let (written, body) = (Written::default(), json!({"metadata": {"name": "a"}}));
        let first = written.of(&row("a", 7), &body).expect("JSON");
        assert_eq!(&first[..], br#"{"metadata":{"name":"a","resourceVersion":"7"}}"#);
        assert_eq!(written.of(&row("a", 7), &body).expect("JSON").as_ptr(), first.as_ptr());
        assert!(written.of(&row("a", 8), &body).expect("JSON").ends_with(br#""8"}}"#));
        assert_eq!(written.times(), 2);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for_and_what_is_asked_for_stays() {
        let (written, body) = (Written::default(), json!({"data": "x".repeat(1 << 20)}));
        for n in 0..100 {
            written.of(&row("asked", 1), &body).expect("JSON");
            written.of(&row(&format!("r{n}"), 1), &body).expect("JSON");
        }
        assert_eq!(written.times(), 101);
        let halves = written.halves.lock().expect("nobody panicked");
        assert!(halves.iter().map(|half| half.bytes).sum::<usize>() <= MOST);
        let kept: usize = halves.iter().flat_map(|half| half.objects.values()).map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(kept, halves.iter().map(|half| half.bytes).sum::<usize>(), "what is counted is what is there");
    }
}
