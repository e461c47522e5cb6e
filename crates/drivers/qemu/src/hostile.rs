//! What reads a stranger's bytes, for the crate `fuzz`.

use std::path::Path;

/// Reads the header of an image file.
pub fn image_header(file: &Path) {
    let _ = crate::disk::qcow2(file);
}

/// Reads what a QEMU says, and whether it did what it was told.
pub async fn qmp(said: &[u8]) -> bool {
    crate::qmp::converse(said, tokio::io::sink(), "query-status", serde_json::json!({})).await.is_ok()
}
