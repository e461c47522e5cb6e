//! RFC 6902.

use json_patch::PatchOperation;
use serde_json::{Foreign, Value};

use crate::fault::{Failure, Result};

/// The most operations of one patch, as Kubernetes has it.
const MAX_OPERATIONS: usize = 10_000;

/// The most bytes that the copies of one patch may make: a few that copy themselves would fill the memory.
const MAX_COPIED: usize = 3 << 20;

/// The most items that the additions and removals of one patch may push aside in lists: each insertion at the front of a
/// long one moves all of it.
const MAX_MOVED: usize = 1 << 24;

/// How many items of a list change their place when one comes or goes at this path.
fn moved(object: &Foreign, path: &str) -> usize {
    let Some((parent, _)) = path.rsplit_once('/') else { return 0 };
    object.pointer(parent).and_then(Foreign::as_array).map_or(0, Vec::len)
}

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
    let mut tree = Foreign::from(object.take());
    let done = apply(&mut tree, &patch);
    *object = tree.into();
    done
}

fn apply(object: &mut Foreign, patch: &json_patch::Patch) -> Result<()> {
    let (mut copied, mut pushed) = (0, 0);
    for operation in &patch.0 {
        pushed += match operation {
            PatchOperation::Move(m) => moved(object, m.from.as_str()) + moved(object, m.path.as_str()),
            PatchOperation::Test(_) | PatchOperation::Replace(_) => 0,
            other => moved(object, other.path().as_str()),
        };
        if pushed > MAX_MOVED {
            let message = format!("A JSON patch may move {MAX_MOVED} items of lists at most");
            return Err(Failure::new(413, "RequestEntityTooLarge", message));
        }
        if let PatchOperation::Copy(copy) = operation {
            copied += object.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
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
    fn what_lists_move_is_bounded() {
        let mut object = json!({"a": vec![0; 20_000]});
        let add = json!({"op": "add", "path": "/a/0", "value": 1});
        let patch = serde_json::Value::Array(vec![add; 1000]);
        assert_eq!(super::patch(&mut object, patch).unwrap_err().code(), 413);
    }

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
