//! Rows of kinds that only a newer release knows are carried: they stay where they are stored, untouched, and this process
//! goes on without them. Giving up was refused: to add a kind would end every older process of the cloud. What such a row
//! claims holds where claims are stored (etcd); a database is opened by one process at a time, and its claims are made from the
//! rows that this one knows.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use model::{BadKey, Key};

static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The key of a row that this release knows. `None`: a newer one does; that is said once for each kind.
pub fn known(text: &str) -> Result<Option<Key>, String> {
    match text.parse::<Key>() {
        Ok(key) => Ok(Some(key)),
        Err(BadKey::UnknownKind(text)) => {
            let kind = text.split('/').nth(1).unwrap_or_default().to_owned();
            let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
            if told.insert(kind.clone()) {
                tracing::warn!(
                    "the store has rows of the kind '{kind}', which this release does not know; it leaves them alone"
                );
            }
            Ok(None)
        }
        Err(error) => Err(error.to_string()),
    }
}
