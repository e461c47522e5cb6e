//! The structural schema of a custom kind, read once from its definition, and what is refused of it in words: a keyword
//! that would be ignored in silence is worse than none. Refused too: a library for JSON Schema (it has neither pruning nor
//! defaults nor lists with keys, and no bound for hostile schemas).

use std::collections::BTreeMap;

use regex_lite::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::upstream::ListType;
use crate::validate::Errors;

/// The most nodes that a schema may have: what is checked against it is work.
const MAX_NODES: usize = 10_000;

/// How many levels a schema may have.
const MAX_LEVELS: usize = 48;

/// The most patterns of a schema: each is compiled when its definition is read.
const MAX_PATTERNS: usize = 500;

/// The largest program that a pattern becomes; matching takes time by its size and the text's.
const MAX_PATTERN: usize = 16 << 10;

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Is {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    pub fn holds(self, value: &Value) -> bool {
        match self {
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
        }
    }
}

/// One node of a schema.
#[derive(Debug, Default)]
pub struct Schema {
    /// `None`: whatever JSON, unless it is a number or a text.
    pub is: Option<Is>,
    pub int_or_string: bool,
    /// Fields that it does not name stay.
    pub open: bool,
    /// A whole object of the API: has `apiVersion`, `kind` and `metadata`, whether it names them or not.
    pub embedded: bool,
    pub nullable: bool,
    pub default: Option<Value>,
    pub fields: BTreeMap<String, Schema>,
    /// Of the values of a map; one with no rules if the map may hold whatever JSON.
    pub values: Option<Box<Schema>>,
    pub items: Option<Box<Schema>>,
    pub list: ListType,
    pub keys: Vec<String>,
    /// A map or struct that is owned as one.
    pub atomic: bool,
    pub rules: Rules,
}

/// What a value must keep beside its type.
#[derive(Debug, Default)]
pub struct Rules {
    pub required: Vec<String>,
    pub one_of: Option<Vec<Value>>,
    /// The bound, and whether the value itself is beyond it.
    pub least: Option<(f64, bool)>,
    pub most: Option<(f64, bool)>,
    pub multiple_of: Option<f64>,
    pub pattern: Option<Regex>,
    pub format: Option<String>,
    /// Of a text, in characters.
    pub length: Bounds,
    pub items: Bounds,
    pub fields: Bounds,
    pub all: Vec<Schema>,
    pub any: Vec<Schema>,
    pub exactly_one: Vec<Schema>,
    pub not: Option<Box<Schema>>,
}

/// How few and how many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub least: Option<u64>,
    pub most: Option<u64>,
}

/// Words that say nothing that is checked.
const PROSE: &[&str] = &["title", "description", "example", "externalDocs", "format"];

/// Reads `openAPIV3Schema`; what is wrong with it stands in `errors`, by its path.
pub fn read(schema: &Value, at: &str, errors: &mut Errors) -> Schema {
    let mut reader = Reader { errors, nodes: 0, patterns: 0 };
    let root = reader.schema(schema, at, 0, false);
    if root.is != Some(Is::Object) {
        reader.errors.invalid(format!("{at}.type"), &schema["type"], "must be object at the root");
    }
    if root.nullable {
        reader.errors.forbidden(format!("{at}.nullable"), "nullable cannot be true at the root");
    }
    root
}

/// How many parts the schemas of a definition have, roughly: what it takes of memory once it is read.
pub fn parts(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(parts).sum::<usize>(),
        Value::Array(items) => items.iter().map(parts).sum(),
        _ => 0,
    }
}

struct Reader<'a> {
    errors: &'a mut Errors,
    nodes: usize,
    patterns: usize,
}

impl Reader<'_> {
    /// `part` is a schema within `allOf` and the like: it adds rules to a node that has its type already.
    fn schema(&mut self, value: &Value, at: &str, level: usize, part: bool) -> Schema {
        self.nodes += 1;
        let mut schema = Schema::default();
        let Value::Object(words) = value else {
            self.errors.invalid(at, value, "must be a schema");
            return schema;
        };
        if level > MAX_LEVELS || self.nodes > MAX_NODES {
            if self.errors.is_empty() {
                let why = format!("a schema may have {MAX_LEVELS} levels and {MAX_NODES} parts");
                self.errors.forbidden(at, &why);
            }
            return schema;
        }
        for (word, value) in words {
            if !self.word(&mut schema, word, value, at, level, part) {
                self.errors.forbidden(format!("{at}.{word}"), refusal(word));
            }
        }
        self.bounds(&mut schema, words, at);
        if !part {
            self.whole(&schema, words, at);
        }
        schema
    }

    /// Takes one keyword; whether it is one that is known here.
    fn word(&mut self, schema: &mut Schema, word: &str, value: &Value, at: &str, level: usize, part: bool) -> bool {
        let here = format!("{at}.{word}");
        let yes = value == true;
        match word {
            "type" => match value.as_str() {
                None | Some("") => {}
                Some(text) => match Is::read(text) {
                    Some(is) => schema.is = Some(is),
                    None => self.errors.unsupported(
                        here,
                        value,
                        &["array", "boolean", "integer", "number", "object", "string"],
                    ),
                },
            },
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    let at = format!("{here}[{name}]");
                    schema.fields.insert(name.clone(), self.schema(inner, &at, level + 1, part));
                }
            }
            "additionalProperties" => {
                schema.values = match value {
                    Value::Bool(false) => None,
                    Value::Bool(true) => Some(Box::new(Schema { open: true, ..Schema::default() })),
                    inner => Some(Box::new(self.schema(inner, &here, level + 1, part))),
                }
            }
            "items" => schema.items = Some(Box::new(self.schema(value, &here, level + 1, part))),
            "required" => schema.rules.required = texts(value),
            "enum" => schema.rules.one_of = value.as_array().cloned(),
            "pattern" => schema.rules.pattern = self.pattern(value, &here),
            "multipleOf" => match value.as_f64().filter(|n| *n > 0.0) {
                Some(number) => schema.rules.multiple_of = Some(number),
                None => self.errors.invalid(here, value, "must be greater than 0"),
            },
            "allOf" => schema.rules.all = self.parts(value, &here, level),
            "anyOf" => schema.rules.any = self.parts(value, &here, level),
            "oneOf" => schema.rules.exactly_one = self.parts(value, &here, level),
            "not" => schema.rules.not = Some(Box::new(self.schema(value, &here, level + 1, true))),
            // Bounds, read together; a set says the same as what `uniqueItems` would, at its own price.
            "minimum" | "maximum" | "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties"
            | "maxProperties" => {}
            "exclusiveMinimum" | "exclusiveMaximum" => {}
            "uniqueItems" if !yes => {}
            _ if PROSE.contains(&word) => {
                schema.rules.format = words_format(word, value).or(schema.rules.format.take())
            }
            _ if part => return false,
            "default" if !value.is_null() => schema.default = Some(value.clone()),
            "default" => {}
            "nullable" => schema.nullable = yes,
            "x-kubernetes-preserve-unknown-fields" => schema.open = yes,
            "x-kubernetes-embedded-resource" => schema.embedded = yes,
            "x-kubernetes-int-or-string" => schema.int_or_string = yes,
            "x-kubernetes-list-type" => match value.as_str() {
                Some("atomic") => {}
                Some("set") => schema.list = ListType::Set,
                Some("map") => schema.list = ListType::Map,
                _ => self.errors.unsupported(here, value, &["atomic", "map", "set"]),
            },
            "x-kubernetes-list-map-keys" => schema.keys = texts(value),
            "x-kubernetes-map-type" => match value.as_str() {
                Some("granular") => {}
                Some("atomic") => schema.atomic = true,
                _ => self.errors.unsupported(here, value, &["atomic", "granular"]),
            },
            "x-kubernetes-validations" if value.as_array().is_some_and(Vec::is_empty) => {}
            _ => return false,
        }
        true
    }

    fn parts(&mut self, value: &Value, at: &str, level: usize) -> Vec<Schema> {
        let all = value.as_array().into_iter().flatten().enumerate();
        all.map(|(i, part)| self.schema(part, &format!("{at}[{i}]"), level + 1, true)).collect()
    }

    fn pattern(&mut self, value: &Value, at: &str) -> Option<Regex> {
        let text = value.as_str().filter(|text| !text.is_empty())?;
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            self.errors.forbidden(at, &format!("a schema may have {MAX_PATTERNS} patterns"));
            return None;
        }
        match RegexBuilder::new(text).size_limit(MAX_PATTERN).build() {
            Ok(pattern) => Some(pattern),
            Err(why) => {
                self.errors.invalid(at, value, &format!("must be a valid regular expression: {why}"));
                None
            }
        }
    }

    fn bounds(&mut self, schema: &mut Schema, words: &Map<String, Value>, at: &str) {
        let rules = &mut schema.rules;
        let number = |word: &str| words.get(word).and_then(Value::as_f64);
        let beyond = |word: &str| words.get(word) == Some(&Value::Bool(true));
        rules.least = number("minimum").map(|n| (n, beyond("exclusiveMinimum")));
        rules.most = number("maximum").map(|n| (n, beyond("exclusiveMaximum")));
        for (bounds, least, most) in [
            (&mut rules.length, "minLength", "maxLength"),
            (&mut rules.items, "minItems", "maxItems"),
            (&mut rules.fields, "minProperties", "maxProperties"),
        ] {
            let mut bound = |word: &str| {
                let value = words.get(word).filter(|value| !value.is_null())?;
                if value.as_u64().is_none() {
                    self.errors.invalid(format!("{at}.{word}"), value, "must be greater than or equal to 0");
                }
                value.as_u64()
            };
            *bounds = Bounds { least: bound(least), most: bound(most) };
        }
    }

    /// What a node must be as a whole for its objects to have one form.
    fn whole(&mut self, schema: &Schema, words: &Map<String, Value>, at: &str) {
        if schema.is.is_none() && !schema.int_or_string && !schema.open {
            self.errors.required(format!("{at}.type"), "must not be empty for specified object fields");
        }
        if schema.is.is_some() && schema.int_or_string {
            let why = "must be empty if x-kubernetes-int-or-string is true";
            self.errors.forbidden(format!("{at}.type"), why);
        }
        if schema.is == Some(Is::Array) && schema.items.is_none() {
            self.errors.required(format!("{at}.items"), "must be specified");
        }
        if !schema.fields.is_empty() && schema.values.is_some() {
            let why = "additionalProperties and properties are mutual exclusive";
            self.errors.forbidden(format!("{at}.additionalProperties"), why);
        }
        if schema.embedded && schema.is != Some(Is::Object) {
            self.errors.invalid(format!("{at}.type"), &words["type"], "must be object for an embedded resource");
        }
        if schema.list == ListType::Map {
            self.keys(schema, at);
        } else if !schema.keys.is_empty() {
            let why = "must not be specified unless x-kubernetes-list-type is map";
            self.errors.forbidden(format!("{at}.x-kubernetes-list-map-keys"), why);
        }
    }

    /// The items of a list of type map are told apart by fields that each of them has, by a plain value.
    fn keys(&mut self, schema: &Schema, at: &str) {
        let here = format!("{at}.x-kubernetes-list-map-keys");
        let Some(item) = &schema.items else { return };
        if schema.keys.is_empty() {
            self.errors.required(&here, "must be specified if x-kubernetes-list-type is map");
        }
        for key in &schema.keys {
            let name = Value::from(key.as_str());
            match item.fields.get(key) {
                Some(field) if matches!(field.is, None | Some(Is::Object | Is::Array)) && !field.int_or_string => {
                    self.errors.invalid(&here, &name, "must be a field of a scalar type");
                }
                Some(field) if field.default.is_none() && !item.rules.required.contains(key) => {
                    self.errors.required(&here, &format!("{key} must be required or have a default"));
                }
                Some(_) => {}
                None => self.errors.invalid(&here, &name, "entry must be a property of the items"),
            }
        }
    }
}

fn words_format(word: &str, value: &Value) -> Option<String> {
    (word == "format").then(|| value.as_str().map(str::to_owned)).flatten()
}

fn refusal(word: &str) -> &'static str {
    match word {
        "x-kubernetes-validations" => "rules in CEL are not evaluated here: say it by the schema, or by a webhook",
        "uniqueItems" => "uniqueItems cannot be set to true: use x-kubernetes-list-type=set",
        "$ref" | "definitions" | "dependencies" | "patternProperties" | "additionalItems" | "id" | "$schema" => {
            "must not be set in a structural schema"
        }
        _ => "is no keyword of a structural schema here",
    }
}

/// The texts of a list.
pub fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}
