//! RFC 6902.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::check::size;
use crate::fault::{Failure, Result};

/// The most operations of one patch, as Kubernetes has it.
const MAX_OPERATIONS: usize = 10_000;

/// The most bytes that the copies of one patch may make: a few that copy themselves would fill the memory.
const MAX_COPIED: usize = 3 << 20;

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
    let mut copied = 0;
    for operation in &patch.0 {
        if let PatchOperation::Copy(copy) = operation {
            copied += object.pointer(copy.from.as_str()).map_or(0, size);
            if copied > MAX_COPIED {
                let message = format!("The copies of a JSON patch may make {MAX_COPIED} bytes at most");
                return Err(Failure::new(413, "RequestEntityTooLarge", message));
            }
        }
        json_patch::patch(object, std::slice::from_ref(operation)).map_err(|e| {
            let message = format!("the server rejected our request due to an error in our request: {e}");
            let mut failure = Failure::new(422, "Invalid", message);
            failure.set_details(serde_json::json!({}));
            failure
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn copies_are_bounded() {
        let mut object = json!({"a": {"x": "0123456789"}});
        let copy = |i: usize| json!({"op": "copy", "from": "/a", "path": format!("/a/c{i}")});
        let patch: Vec<_> = (0..40).map(copy).collect();
        assert_eq!(super::patch(&mut object, patch.into()).unwrap_err().code(), 413);
        let mut object = json!({"a": 1});
        super::patch(
            &mut object,
            json!([{"op": "test", "path": "/a", "value": 1}, {"op": "add", "path": "/b", "value": 2}]),
        )
        .unwrap();
        assert_eq!(object, json!({"a": 1, "b": 2}));
        assert_eq!(super::patch(&mut object, json!([{"op": "remove", "path": "/none"}])).unwrap_err().code(), 422);
    }
}
