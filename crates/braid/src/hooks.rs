//! Calls the webhooks that clusters ask. A tenant names their URLs, so they are opened as images are fetched: what is not of the
//! public Internet, and the cloud itself, is not reached unless the operator said so. One connection for each call: keeping them
//! open for tenants would be a share of its own.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use face_kube::{Hook, Hooks};
use store::Store;

use crate::imports::{Web, public_ranges};

/// Calls webhooks by the way that images come.
pub struct WebHooks {
    pub web: Web,
    pub store: Store,
}

impl Hooks for WebHooks {
    fn call(&self, hook: Hook) -> Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send + '_>> {
        Box::pin(async move {
            let public = public_ranges(&self.store.snapshot());
            self.web.post(&hook.url, hook.authorities.as_deref(), hook.body, hook.most, hook.timeout, &public).await
        })
    }
}
