//! Content-addressed bytes of VM images and OCI images: files named by their SHA-256.

/// A handle to the blob store; clones are the same store.
#[derive(Clone, Debug)]
pub struct Blobs {}
