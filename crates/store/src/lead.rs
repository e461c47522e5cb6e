//! Leadership of a role among the processes of one store: planners run in one of them. A lock alone is unsafe, since its
//! holder may sleep through its loss; so the lease is compared inside every commit made under it.

use std::sync::Arc;

use crate::{Fence, Store};

/// This process leads a role as long as this lives and is not [lost](Leadership::lost).
pub struct Leadership {
    store: Store,
    fence: Arc<Fence>,
}

impl Leadership {
    pub(crate) fn new(store: Store, fence: Fence) -> Self {
        let fence = Arc::new(fence);
        Self { store: Store { fence: Some(fence.clone()), ..store }, fence }
    }

    /// The store as the leader writes to it: once the leadership is lost, every commit fails with
    /// [`crate::StoreFault::Deposed`].
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns when the leadership is lost.
    pub async fn lost(&self) {
        // The sender is dropped only by a keeper that gave up.
        _ = self.fence.lost.clone().wait_for(|lost| *lost).await;
    }

    pub fn is_lost(&self) -> bool {
        *self.fence.lost.borrow()
    }
}
