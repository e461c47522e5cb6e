//! What a schema does to an object: drops what it does not name, fills in defaults, and says what breaks its rules. What a
//! schema and an object make together is bounded: both come from strangers, and each alone may be small.

use std::collections::HashSet;

use model::json_size;
use serde_json::{Map, Value};

use super::format;
use super::schema::{Bounds, Is, Schema};
use crate::check::MAX_OBJECT;
use crate::upstream::ListType;
use crate::validate::Errors;

/// The most unknown fields that are named.
const MAX_UNKNOWN: usize = 100;

/// The most broken rules that are told.
const MAX_BROKEN: usize = 100;

/// How many steps an object may take to be checked: values, each by each part of the schema that speaks of it.
const MAX_STEPS: usize = 2_000_000;

/// How many steps a pattern takes for each byte.
const PATTERN_STEPS: usize = 8;

/// Drops fields that the schema does not have; their paths. What every object has at its root stays.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_value(schema, object, true, "", &mut unknown);
    unknown
}

const OF_EVERY_OBJECT: &[&str] = &["apiVersion", "kind", "metadata"];

fn prune_value(schema: &Schema, value: &mut Value, whole: bool, at: &str, unknown: &mut Vec<String>) {
    let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        Value::Object(entries) => entries.retain(|name, value| {
            let own = (whole || schema.embedded) && OF_EVERY_OBJECT.contains(&name.as_str());
            match schema.fields.get(name).or(schema.values.as_deref()) {
                _ if own => true,
                // Without a value of its own a field has its default.
                Some(inner) if value.is_null() && !inner.nullable && inner.default.is_some() => false,
                Some(inner) => {
                    prune_value(inner, value, false, &below(name), unknown);
                    true
                }
                None if schema.open => true,
                None => {
                    if unknown.len() < MAX_UNKNOWN {
                        unknown.push(below(name));
                    }
                    false
                }
            }
        }),
        Value::Array(items) => {
            for (i, value) in items.iter_mut().enumerate() {
                if let Some(item) = &schema.items {
                    prune_value(item, value, false, &format!("{at}[{i}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

/// Fills in defaults, no more than an object can hold: one that has more is refused for its size.
pub fn default(schema: &Schema, object: &mut Value) {
    let mut added = 0;
    default_value(schema, object, &mut added);
}

fn default_value(schema: &Schema, value: &mut Value, added: &mut usize) {
    match value {
        Value::Object(entries) => {
            for (name, inner) in &schema.fields {
                if let Some(default) = &inner.default
                    && *added <= MAX_OBJECT
                    && !entries.contains_key(name)
                {
                    *added += name.len() + json_size(default);
                    entries.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in entries {
                if let Some(inner) = schema.fields.get(name).or(schema.values.as_deref()) {
                    default_value(inner, value, added);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = &schema.items {
                items.iter_mut().for_each(|value| default_value(item, value, added));
            }
        }
        _ => {}
    }
}

/// Says what of an object breaks the schema's rules. Metadata has rules of its own.
pub fn validate(schema: &Schema, object: &Value, errors: &mut Errors) {
    let mut check = Check { steps: 0, broken: Vec::new() };
    check.value(schema, object, "", true);
    if check.steps > MAX_STEPS {
        errors.forbidden("", "the object is too large to be checked against all that its schema says");
    }
    check.broken.into_iter().for_each(|tell| tell(errors));
}

/// Whether a default is as its schema wants it.
pub fn validate_default(schema: &Schema, value: &Value, at: &str, errors: &mut Errors) {
    let mut pruned = value.clone();
    let mut unknown = Vec::new();
    prune_value(schema, &mut pruned, false, "", &mut unknown);
    if !unknown.is_empty() || pruned != *value {
        errors.invalid(at, value, "must be a defined value: the schema does not have all of its fields");
    }
    let mut check = Check { steps: 0, broken: Vec::new() };
    check.value(schema, value, at, false);
    check.broken.into_iter().for_each(|tell| tell(errors));
}

type Tell = Box<dyn FnOnce(&mut Errors)>;

struct Check {
    steps: usize,
    broken: Vec<Tell>,
}

impl Check {
    fn tell(&mut self, tell: impl FnOnce(&mut Errors) + 'static) {
        if self.broken.len() < MAX_BROKEN {
            self.broken.push(Box::new(tell));
        }
    }

    fn invalid(&mut self, at: &str, value: &Value, rule: &str) {
        // A large value is not repeated: who sent it knows it.
        let shown = match value {
            Value::Object(_) => Value::from("object"),
            Value::Array(_) => Value::from("array"),
            plain => plain.clone(),
        };
        let place = at.strip_prefix('.').unwrap_or(at).to_owned();
        let detail = format!("{place} in body {rule}");
        self.tell(move |errors| errors.invalid(place, &shown, &detail));
    }

    /// Whether there is work left to be done at all.
    fn step(&mut self, cost: usize) -> bool {
        self.steps = self.steps.saturating_add(cost);
        self.steps <= MAX_STEPS && self.broken.len() < MAX_BROKEN
    }

    fn value(&mut self, schema: &Schema, value: &Value, at: &str, whole: bool) {
        if !self.step(1) || (value.is_null() && schema.nullable) {
            return;
        }
        if let Some(is) = schema.is
            && !is.holds(value)
        {
            return self.invalid(at, value, &format!("must be of type {}", is.name()));
        }
        if schema.int_or_string && !(Is::Integer.holds(value) || value.is_string()) {
            return self.invalid(at, value, "must be of type integer or string");
        }
        match value {
            Value::Object(entries) => self.object(schema, entries, at, whole),
            Value::Array(items) => self.array(schema, items, value, at),
            Value::String(text) => self.text(schema, text, value, at),
            Value::Number(_) => self.number(schema, value, at),
            _ => {}
        }
        self.any(schema, value, at);
    }

    fn object(&mut self, schema: &Schema, entries: &Map<String, Value>, at: &str, whole: bool) {
        for name in &schema.rules.required {
            if !entries.contains_key(name) {
                let place = format!("{at}.{name}").trim_start_matches('.').to_owned();
                self.tell(move |errors| errors.required(place, ""));
            }
        }
        if schema.embedded {
            for name in ["apiVersion", "kind"] {
                if entries.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                    let place = format!("{at}.{name}").trim_start_matches('.').to_owned();
                    self.tell(move |errors| errors.required(place, "must not be empty"));
                }
            }
        }
        self.bounded(schema.rules.fields, entries.len() as u64, at, "properties");
        for (name, value) in entries {
            if whole && OF_EVERY_OBJECT.contains(&name.as_str()) {
                continue;
            }
            if let Some(inner) = schema.fields.get(name).or(schema.values.as_deref()) {
                self.value(inner, value, &format!("{at}.{name}"), false);
            }
        }
    }

    fn array(&mut self, schema: &Schema, items: &[Value], value: &Value, at: &str) {
        self.bounded(schema.rules.items, items.len() as u64, at, "items");
        if schema.list != ListType::Atomic {
            let mut seen = HashSet::new();
            for (i, item) in items.iter().enumerate() {
                let name: String = match schema.list {
                    ListType::Map => schema.keys.iter().map(|key| format!("{}\n", item[key.as_str()])).collect(),
                    _ => item.to_string(),
                };
                if !seen.insert(name) {
                    let (place, item) = (format!("{at}[{i}]").trim_start_matches('.').to_owned(), item.clone());
                    self.tell(move |errors| errors.duplicate(place, &item));
                }
            }
            self.step(json_size(value) / 8);
        }
        if let Some(inner) = &schema.items {
            for (i, item) in items.iter().enumerate() {
                self.value(inner, item, &format!("{at}[{i}]"), false);
            }
        }
    }

    fn bounded(&mut self, bounds: Bounds, number: u64, at: &str, what: &str) {
        let value = Value::from(number);
        if let Some(least) = bounds.least.filter(|least| number < *least) {
            self.invalid(at, &value, &format!("should have at least {least} {what}"));
        }
        if let Some(most) = bounds.most.filter(|most| number > *most) {
            self.invalid(at, &value, &format!("should have at most {most} {what}"));
        }
    }

    fn text(&mut self, schema: &Schema, text: &str, value: &Value, at: &str) {
        let rules = &schema.rules;
        if rules.length.least.is_some() || rules.length.most.is_some() {
            let length = text.chars().count() as u64;
            if let Some(least) = rules.length.least.filter(|least| length < *least) {
                self.invalid(at, value, &format!("should be at least {least} chars long"));
            }
            if let Some(most) = rules.length.most.filter(|most| length > *most) {
                self.invalid(at, value, &format!("should be at most {most} chars long"));
            }
        }
        if let Some(pattern) = &rules.pattern
            && self.step(PATTERN_STEPS.saturating_mul(text.len()))
            && !pattern.is_match(text)
        {
            self.invalid(at, value, &format!("should match '{pattern}'"));
        }
        if let Some(format) = &rules.format
            && !format::holds(format, text)
        {
            self.invalid(at, value, &format!("must be of type {format}"));
        }
    }

    fn number(&mut self, schema: &Schema, value: &Value, at: &str) {
        let (rules, number) = (&schema.rules, value.as_f64().unwrap_or(0.0));
        if let Some((least, beyond)) = rules.least
            && (number < least || (beyond && number == least))
        {
            let or_equal = if beyond { "" } else { " or equal to" };
            self.invalid(at, value, &format!("should be greater than{or_equal} {least}"));
        }
        if let Some((most, beyond)) = rules.most
            && (number > most || (beyond && number == most))
        {
            let or_equal = if beyond { "" } else { " or equal to" };
            self.invalid(at, value, &format!("should be less than{or_equal} {most}"));
        }
        if let Some(of) = rules.multiple_of
            && (number / of).fract() != 0.0
        {
            self.invalid(at, value, &format!("should be a multiple of {of}"));
        }
        if rules.format.as_deref() == Some("int32") && value.as_i64().is_none_or(|n| i32::try_from(n).is_err()) {
            self.invalid(at, value, "must be of type int32");
        }
    }

    /// Rules of values of every type.
    fn any(&mut self, schema: &Schema, value: &Value, at: &str) {
        let rules = &schema.rules;
        if let Some(all) = &rules.one_of
            && self.step(all.len())
            && !all.contains(value)
        {
            let (place, value) = (at.trim_start_matches('.').to_owned(), value.clone());
            let known: Vec<String> =
                all.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
            self.tell(move |errors| {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                errors.unsupported(place, &value, &known);
            });
        }
        for part in &rules.all {
            self.value(part, value, at, false);
        }
        if !rules.any.is_empty() && !rules.any.iter().any(|part| self.fits(part, value)) {
            self.invalid(at, value, "must validate at least one schema (anyOf)");
        }
        let fitting = rules.exactly_one.iter().filter(|part| self.fits(part, value)).count();
        if !rules.exactly_one.is_empty() && fitting != 1 {
            self.invalid(at, value, "must validate one and only one schema (oneOf)");
        }
        if rules.not.as_ref().is_some_and(|part| self.fits(part, value)) {
            self.invalid(at, value, "must not validate the schema (not)");
        }
    }

    fn fits(&mut self, part: &Schema, value: &Value) -> bool {
        let mut check = Check { steps: self.steps, broken: Vec::new() };
        check.value(part, value, "", false);
        self.steps = check.steps;
        check.broken.is_empty()
    }
}
