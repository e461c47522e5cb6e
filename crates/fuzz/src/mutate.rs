//! Small changes of inputs: of their bytes, and of the JSON in them, where most of the faces' readers are.

use fastrand::Rng;
use serde_json::{Value, json};

/// Longer inputs teach nothing that shorter ones do not.
const LONGEST: usize = 64 << 10;

/// What parsers stumble over.
const WORDS: &[&str] = &[
    "",
    "0",
    "-1",
    "1e400",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "null",
    "{}",
    "[]",
    "\"",
    "\\",
    "\u{0}",
    "%00",
    "%",
    "%2",
    "%2f",
    "..",
    "/",
    "//",
    "?",
    "&",
    "=",
    ",",
    ";",
    ":",
    "*",
    "in (",
    "!=",
    "notin",
    "é",
    "\u{202e}",
    "\u{1f980}",
    "limit=",
    "marker=",
    "sort=",
    "fields=",
    "continue=",
    "labelSelector=",
    "fieldSelector=",
    "sha256:",
    "::",
    "::ffff:1.2.3.4",
    "255.255.255.255/33",
    "2026-13-45T99:99:99Z",
    "a.b.c",
    "$patch",
    "$setElementOrder/",
    "$retainKeys",
    "managedFields",
    "f:metadata",
    "k:{",
    "v:",
    "~1",
    "~0",
    "-",
];

/// The input with one to four changes.
pub fn mutate(input: &[u8], others: &[Vec<u8>], chance: &mut Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..chance.u8(1..5) {
        bytes = match chance.u8(0..10) {
            0..5 => json_part(&bytes, chance).unwrap_or_else(|| change(bytes, others, chance)),
            _ => change(bytes, others, chance),
        };
        bytes.truncate(LONGEST);
    }
    bytes
}

fn change(mut bytes: Vec<u8>, others: &[Vec<u8>], chance: &mut Rng) -> Vec<u8> {
    let at = chance.usize(0..=bytes.len());
    let end = (at + chance.usize(0..16)).min(bytes.len());
    match chance.u8(0..8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << chance.u8(0..8),
        1 if at < bytes.len() => bytes[at] = chance.u8(..),
        2 => bytes.truncate(at),
        3 => _ = bytes.drain(at..end),
        4 => {
            let part = bytes[at..end].to_vec();
            let times = [1, 2, 200][chance.usize(0..3)];
            bytes.splice(at..at, part.repeat(times));
        }
        5 => {
            let Some(other) = others.get(chance.usize(0..others.len().max(1))) else { return bytes };
            let from = chance.usize(0..=other.len());
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
        _ => _ = bytes.splice(at..end, WORDS[chance.usize(0..WORDS.len())].bytes()),
    }
    bytes
}

/// Changes one place in the JSON behind the first line.
fn json_part(bytes: &[u8], chance: &mut Rng) -> Option<Vec<u8>> {
    let start = bytes.iter().position(|b| *b == b'\n')? + 1;
    let mut value: Value = serde_json::from_slice(&bytes[start..]).ok()?;
    let place = chance.usize(0..count(&value));
    let mut left = place;
    at(&mut value, &mut left, chance);
    Some([&bytes[..start], value.to_string().as_bytes()].concat())
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0usize,
    }
}

/// Replaces the place that is `left` steps away.
fn at(value: &mut Value, left: &mut usize, chance: &mut Rng) -> bool {
    if *left == 0 {
        *value = other(value, chance);
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| at(item, left, chance)),
        Value::Object(fields) => fields.values_mut().any(|field| at(field, left, chance)),
        _ => false,
    }
}

fn other(value: &Value, chance: &mut Rng) -> Value {
    let word = WORDS[chance.usize(0..WORDS.len())];
    match chance.u8(0..14) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(i64::MIN),
        5 => json!(1.5),
        6 => json!(1e300),
        7 => json!("x".repeat([1, 64, 256, 5000][chance.usize(0..4)])),
        8 => json!([value]),
        9 => json!([value, value, value]),
        10 => json!({word: value}),
        11 => (0..chance.u8(1..120)).fold(json!({}), |inner, _| json!({"a": [inner]})),
        12 => match value {
            Value::Object(fields) => {
                let mut fields = fields.clone();
                fields.insert(word.to_owned(), json!(word));
                Value::Object(fields)
            }
            Value::String(text) => json!(format!("{text}{word}")),
            Value::Number(number) => json!(number.to_string()),
            _ => json!(word),
        },
        _ => json!(word),
    }
}
