//! Bodies in Kubernetes' protobuf.

use bytes::Bytes;
use serde_json::Value;

use crate::fault::{Failure, Result};

/// What typed Go clients send for built-in kinds.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Reads a body as JSON.
pub fn decode(_bytes: &Bytes) -> Result<Value> {
    Err(Failure::new(415, "UnsupportedMediaType", "protobuf bodies are not read; send JSON"))
}
