//! RFC 7386.

use serde_json::{Map, Value};

/// Applies a merge patch: null removes, objects merge, everything else replaces.
pub fn patch(object: &mut Value, patch: Value) {
    let Value::Object(fields) = patch else {
        *object = patch;
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(target) = object else { return };
    for (name, value) in fields {
        if value.is_null() {
            target.remove(&name);
        } else {
            self::patch(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn merges() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        super::patch(&mut object, json!({"a": {"b": null, "e": {"f": null, "g": 1}}, "d": [2, 3]}));
        assert_eq!(object, json!({"a": {"c": 2, "e": {"g": 1}}, "d": [2, 3]}));
    }
}
