//! The metadata that the server writes: names, uids, moments.

use model::Time;
use serde_json::{Map, Value};

/// The letters of generated names: none that makes words or is mistaken for another.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five random letters for a generated name.
pub fn suffix() -> String {
    let random = uuid::Uuid::new_v4();
    random.as_bytes()[..5].iter().map(|b| LETTERS[usize::from(*b) % LETTERS.len()] as char).collect()
}

/// A generated name: the prefix, cut to fit, and five random letters.
pub fn generate(prefix: &str) -> String {
    let end = prefix.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|end| *end <= 58).last().unwrap_or(0);
    format!("{}{}", &prefix[..end], suffix())
}

/// A moment as metadata has it, to the second.
pub fn stamp(moment: Time) -> String {
    match Time::from_second(moment.as_second()) {
        Ok(second) => second.to_string(),
        Err(_) => moment.to_string(),
    }
}

/// The metadata of an object, made if it is not there.
pub fn of(object: &mut Value) -> &mut Map<String, Value> {
    model::object_in(object, "metadata")
}

/// A text field of the metadata; empty if it is not there.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit() {
        let name = generate(&"ä".repeat(100));
        assert!(name.len() <= 63 && name.chars().count() == 29 + 5);
        assert_eq!(stamp("2026-01-02T03:04:05.678Z".parse().unwrap()), "2026-01-02T03:04:05Z");
    }
}
