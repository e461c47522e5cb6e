//! What some texts may be: tags, names in the DNS.

use serde_json::Value;

/// Neutron has no limit on their number; this one has.
const MAX_TAGS: usize = 100;

/// Checks a list of tags.
pub fn checked_tags(mut tags: Vec<String>) -> Result<Vec<String>, String> {
    if tags.len() > MAX_TAGS {
        return Err(format!("a resource has at most {MAX_TAGS} tags."));
    }
    for tag in &tags {
        if tag.is_empty() || tag.chars().count() > 255 || tag.contains(',') || tag.contains('/') {
            return Err(format!("'{tag}' is not a valid tag."));
        }
    }
    tags.sort();
    tags.dedup();
    Ok(tags)
}

/// The tags of a new resource.
pub fn fit_tags(list: Value) -> Result<Value, String> {
    let tags = list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    checked_tags(tags.collect()).map(Value::from)
}

/// One label of a DNS name.
fn is_dns_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A name in the DNS, with or without the last dot, or none.
pub fn is_domain(name: &str) -> bool {
    let bare = name.trim_end_matches('.');
    bare.is_empty() || bare.split('.').all(is_dns_label)
}
