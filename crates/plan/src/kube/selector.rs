//! Label selectors.

use serde_json::Value;

use super::map;

/// Whether labels satisfy a `LabelSelector` (`matchLabels` and `matchExpressions`). An empty selector fits everything;
/// one with an operator that does not exist fits nothing.
pub fn matches(selector: &Value, labels: &Value) -> bool {
    let labels = map(labels);
    let plain = map(&selector["matchLabels"]);
    if !plain.iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    selector["matchExpressions"].as_array().into_iter().flatten().all(|expression| {
        let value = labels.get(expression["key"].as_str().unwrap_or(""));
        let listed = || {
            let values = expression["values"].as_array();
            values.into_iter().flatten().any(|v| v.as_str() == value.copied())
        };
        match expression["operator"].as_str() {
            Some("In") => value.is_some() && listed(),
            Some("NotIn") => value.is_none() || !listed(),
            Some("Exists") => value.is_some(),
            Some("DoesNotExist") => value.is_none(),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operators() {
        let labels = json!({"app": "web", "tier": "front"});
        let one = |operator: &str, key: &str, values: Value| {
            matches(&json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}), &labels)
        };
        assert!(matches(&json!({"matchLabels": {"app": "web"}}), &labels));
        assert!(!matches(&json!({"matchLabels": {"app": "db"}}), &labels));
        assert!(one("In", "app", json!(["web", "db"])));
        assert!(!one("NotIn", "app", json!(["web"])));
        assert!(one("NotIn", "none", json!(["web"])));
        assert!(one("Exists", "tier", Value::Null));
        assert!(one("DoesNotExist", "none", Value::Null));
        assert!(!one("Like", "app", json!(["web"])));
        assert!(matches(&json!({}), &labels));
    }
}
