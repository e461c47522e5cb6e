//! RFC 6902.

use serde_json::Value;

use crate::fault::{Failure, Result};

/// The most operations of one patch, as Kubernetes has it.
const MAX_OPERATIONS: usize = 10_000;

/// Applies a JSON patch.
pub fn patch(object: &mut Value, patch: Value) -> Result<()> {
    if patch.as_array().is_some_and(|p| p.len() > MAX_OPERATIONS) {
        return Err(Failure::new(
            413,
            "RequestEntityTooLarge",
            format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}"),
        ));
    }
    let patch: json_patch::Patch =
        serde_json::from_value(patch).map_err(|e| Failure::bad_request(format!("error decoding patch: {e}")))?;
    json_patch::patch(object, &patch).map_err(|e| {
        let mut failure = Failure::new(422, "Invalid", format!("the server rejected our request due to an error in our request: {e}"));
        failure.set_details(serde_json::json!({}));
        failure
    })
}
