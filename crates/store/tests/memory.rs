//! The in-memory backend under the suite.

use async_trait::async_trait;
use store::Store;
use store::suite::Site;

struct Memory(Store);

#[async_trait]
impl Site for Memory {
    async fn open(&self) -> Store {
        self.0.clone()
    }
    fn shared(&self) -> bool {
        false
    }
    fn durable(&self) -> bool {
        false
    }
    fn resumes(&self) -> bool {
        false
    }
}

async fn make() -> Memory {
    Memory(Store::memory())
}

store::conformance!(make);

/// A simulator polls stores by itself: no runtime, no thread.
#[test]
fn a_commit_needs_no_runtime() {
    use futures_util::FutureExt;
    let store = Store::memory();
    let setting = model::Setting { name: "s".into(), value: 1.into() };
    assert_eq!(store.commit(&setting.into()).now_or_never().unwrap().unwrap(), 1);
    assert_eq!(store.watch(0).unwrap().next().now_or_never().unwrap().unwrap().len(), 1);
    assert_eq!(store.fresh().now_or_never().unwrap().unwrap().len(), 1);
}
