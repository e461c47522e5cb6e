//! Whether the claims that are stored in etcd are those that follow from the rows there. They always should be; the suite
//! asks after every random history, and an operator may ask after mending something by hand.

use std::collections::BTreeMap;

use super::{Shared, txn};
use crate::StoreFault;

impl Shared {
    /// Every difference, in words.
    pub async fn audit(&self) -> Result<Vec<String>, StoreFault> {
        let (book, at) = self.read(0).await?;
        let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = txn::claims(&self.names, &book);
        let mut wrong = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', " by ");
        self.each(self.names.claims(), at, |kv| {
            match expected.remove(&kv.key) {
                Some(value) if value == kv.value => {}
                Some(value) => wrong.push(format!("{} is {}, not {}", text(&kv.key), text(&kv.value), text(&value))),
                None => wrong.push(format!("{} stands without a row", text(&kv.key))),
            }
            Ok(())
        })
        .await?;
        wrong.extend(expected.keys().map(|key| format!("{} is missing", text(key))));
        Ok(wrong)
    }
}
