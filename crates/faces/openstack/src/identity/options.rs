//! Options of resources: what Keystone keeps apart from their attributes and acts on itself. An immutable project, domain or
//! role is neither changed nor deleted before that is taken back; a user's options say how that user logs in. Passwords do
//! not expire here, so the two that exempt from it are kept and change nothing.

use model::{Fault, Options};
use serde_json::Value;

use super::wire::{Fields, invalid};

const IMMUTABLE: &str = "immutable";

/// The most rules for several factors, and methods in one.
const MOST_RULES: usize = 32;

/// What a request sets, an option of null being taken away.
#[derive(Clone, Debug, Default)]
pub struct Wanted(Options);

impl Wanted {
    /// The options of a project, domain or role in a body.
    pub fn of_resource(fields: &Fields) -> Result<Self, Fault> {
        Self::read(fields, &|name, value| name == IMMUTABLE && value.is_boolean())
    }

    /// The options of a user in a body.
    pub fn of_user(fields: &Fields) -> Result<Self, Fault> {
        Self::read(fields, &|name, value| match name {
            model::option::RULES => is_rules(value),
            _ => model::option::OF_USERS.contains(&name) && value.is_boolean(),
        })
    }

    fn read(fields: &Fields, fits: &dyn Fn(&str, &Value) -> bool) -> Result<Self, Fault> {
        let Some(value) = fields.get("options").filter(|value| !value.is_null()) else { return Ok(Self::default()) };
        let options =
            value.as_object().ok_or_else(|| invalid("options", &format!("{value} is not of type 'object'")))?;
        // Null is of no type, but takes away only what there is.
        let is_known = |name: &str| fits(name, &Value::Bool(true)) || fits(name, &Value::Array(Vec::new()));
        match options.iter().find(|(name, value)| !(fits(name, value) || value.is_null() && is_known(name))) {
            Some((name, value)) => Err(invalid(&format!("options/{name}"), &format!("{value} is not valid for it"))),
            None => Ok(Self(options.clone().into_iter().collect())),
        }
    }

    pub fn apply(&self, options: &mut Options) {
        options.extend(self.0.clone());
        options.retain(|_, value| !value.is_null());
    }

    /// Refuses to change what is immutable, unless this takes it back.
    pub fn check(&self, options: &Options, what: &str, id: &str) -> Result<(), Fault> {
        match self.0.get(IMMUTABLE) {
            Some(Value::Bool(false) | Value::Null) => Ok(()),
            _ => check(options, "update", what, id),
        }
    }
}

/// Refuses to delete what is immutable.
pub fn check_delete(options: &Options, what: &str, id: &str) -> Result<(), Fault> {
    check(options, "delete", what, id)
}

fn check(options: &Options, verb: &str, what: &str, id: &str) -> Result<(), Fault> {
    match options.get(IMMUTABLE) {
        Some(Value::Bool(true)) => Err(Fault::Forbidden(format!(
            "Unable to {verb} immutable {what} resource: `{id}`. Set resource option \"immutable\" to false first."
        ))),
        _ => Ok(()),
    }
}

/// A list of lists of methods, each once.
fn is_rules(value: &Value) -> bool {
    let is_rule = |rule: &Value| {
        let methods = rule.as_array().filter(|methods| (1..=MOST_RULES).contains(&methods.len()));
        methods.is_some_and(|all| all.iter().all(Value::is_string))
    };
    value.as_array().is_some_and(|rules| rules.len() <= MOST_RULES && rules.iter().all(is_rule))
}
