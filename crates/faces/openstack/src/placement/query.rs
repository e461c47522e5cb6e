//! What a request to Placement asks of a provider: amounts of resources, traits.

use std::collections::BTreeMap;

use model::{Fault, Host};

use super::classes::{CLASSES, is_class};
use super::provider::inventory;
use super::traits;
use crate::call::Call;

/// Refuses query parameters that are not known, as Placement does. Numbered request groups are Placement's, not ours.
pub fn only(call: &Call, known: &[&str]) -> Result<(), Fault> {
    for (name, _) in &call.query {
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit());
        if plain != name && known.contains(&plain) || name.starts_with("resources_") || name.starts_with("required_") {
            return Err(Fault::NotImplemented("Numbered request groups are not supported by this cloud.".into()));
        }
        if !known.contains(&name.as_str()) {
            return Err(Fault::Invalid(format!(
                "Invalid query string parameters: Additional properties are not allowed ('{name}' was unexpected)"
            )));
        }
    }
    Ok(())
}

/// What is asked of a provider.
pub struct Wanted {
    pub resources: BTreeMap<String, u64>,
    /// Alternatives: of each list the provider must have one.
    required: Vec<Vec<String>>,
    forbidden: Vec<String>,
}

impl Wanted {
    pub fn read(call: &Call) -> Result<Self, Fault> {
        let mut resources = BTreeMap::new();
        for part in call.query("resources").into_iter().flat_map(|text| text.split(',')) {
            let amount = part.split_once(':').and_then(|(class, n)| Some((class, n.parse::<u64>().ok()?)));
            let Some((class, amount)) = amount.filter(|(_, amount)| *amount > 0) else {
                return Err(Fault::Invalid(format!(
                    "Badly formed resources parameter. Expected resources query string parameter in form: \
                     ?resources=VCPU:2,MEMORY_MB:1024. Got: {part}."
                )));
            };
            if !is_class(class) {
                return Err(Fault::Invalid(format!(
                    "Invalid resource class in resources parameter: No such resource class {class}."
                )));
            }
            resources.insert(class.to_owned(), amount);
        }
        let (mut required, mut forbidden) = (Vec::new(), Vec::new());
        for text in call.queries("required") {
            if let Some(any) = text.strip_prefix("in:") {
                required.push(any.split(',').map(str::to_owned).collect());
                continue;
            }
            for name in text.split(',').filter(|name| !name.is_empty()) {
                match name.strip_prefix('!') {
                    Some(name) => forbidden.push(name.to_owned()),
                    None => required.push(vec![name.to_owned()]),
                }
            }
        }
        Ok(Self { resources, required, forbidden })
    }

    /// Whether a host has all that is asked for free.
    pub fn fits(&self, call: &Call, host: &Host) -> bool {
        let has = traits::of(host);
        let room = self.resources.iter().all(|(class, amount)| {
            let class = CLASSES.iter().find(|(name, _)| name == class);
            class.is_some_and(|(class, pool)| {
                let inventory = inventory(call, host, class, pool);
                // No single consumer gets more than there really is.
                *amount <= inventory.total && amount.saturating_add(inventory.used) <= inventory.capacity
            })
        });
        room && self.required.iter().all(|any| any.iter().any(|name| has.contains(name)))
            && !self.forbidden.iter().any(|name| has.contains(name))
    }
}

/// The filter of `GET /traits?name=`: `in:A,B` or `startswith:A`.
pub fn read_traits(filter: &str) -> Result<impl Fn(&String) -> bool, Fault> {
    let wrong = || {
        Fault::Invalid("Badly formatted name parameter. Expected name query string parameter in form: ?name=[in|startswith]:[name1,name2|prefix].".into())
    };
    let (how, what) = filter.split_once(':').ok_or_else(wrong)?;
    let prefix = match how {
        "in" => false,
        "startswith" => true,
        _ => return Err(wrong()),
    };
    let names: Vec<String> = what.split(',').map(str::to_owned).collect();
    Ok(move |name: &String| names.iter().any(|n| if prefix { name.starts_with(n.as_str()) } else { n == name }))
}
