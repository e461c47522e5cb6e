//! Filters of a list, read once: a value is taken as the attribute takes it, so that what was written in one notation is
//! found in any other, and repeated ones are alternatives in one set. What an item is put to grows with the attributes that
//! are named and not with how often: a reader could hold up a core with a long query before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::ask::Ask;
use super::attrs::{Attr, Is, boolean, fit_value};
use super::trouble::Trouble;

/// Parameters that are not filters.
const RESERVED: &[&str] = &["fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"];
const TAG_FILTERS: &[&str] = &["tags", "tags-any", "not-tags", "not-tags-any"];
/// Values that are looked at one by one for each item: tags, and parts of addresses.
const MAX_SINGLE: usize = 64;

/// What an item must satisfy.
enum Test {
    /// One of these, in the form in which items have it.
    OneOf(HashSet<String>),
    /// Each list of tags: whether all must be there or any, and whether that must not be.
    Tags {
        wanted: Vec<Vec<String>>,
        any: bool,
        not: bool,
    },
    /// By the field of an address: one of these.
    FixedIps(BTreeMap<String, HashSet<String>>),
    /// Changed at or after the earliest of these moments.
    Since(String),
    Nothing,
}

/// All filters of a request.
pub struct Filters(BTreeMap<String, Test>);

impl Filters {
    pub fn of(ask: &Ask, attrs: &[Attr]) -> Result<Self, Trouble> {
        Self::read(&ask.query, attrs)
    }

    /// The filters that a query names; those that the resource does not know have been refused.
    fn read(query: &[(String, String)], attrs: &[Attr]) -> Result<Self, Trouble> {
        let mut named: HashMap<&str, Vec<&str>> = HashMap::new();
        for (name, value) in query.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
            named.entry(name).or_default().push(value);
        }
        let tests = named.into_iter().map(|(name, values)| Ok((name.to_owned(), test(attrs, name, &values)?)));
        tests.collect::<Result<_, _>>().map(Self)
    }

    /// The ids that are asked for, if any are.
    pub fn ids(&self) -> Option<&HashSet<String>> {
        self.values("id")
    }

    /// The values of which the attribute must have one, if it is named.
    pub fn values(&self, name: &str) -> Option<&HashSet<String>> {
        match self.0.get(name) {
            Some(Test::OneOf(values)) => Some(values),
            _ => None,
        }
    }

    /// Every filter lets the item pass.
    pub fn pass(&self, item: &Map<String, Value>) -> bool {
        self.0.iter().all(|(name, test)| match test {
            Test::OneOf(values) => has_one(item.get(name), values),
            Test::Tags { wanted, any, not } => {
                let tags: HashSet<&str> = item
                    .get("tags")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let has = |tag: &String| tags.contains(tag.as_str());
                wanted.iter().all(|list| (if *any { list.iter().any(has) } else { list.iter().all(has) }) != *not)
            }
            Test::FixedIps(fields) => fixed_ips_pass(item, fields),
            Test::Since(moment) => item.get("updated_at").and_then(Value::as_str).unwrap_or("") >= moment.as_str(),
            Test::Nothing => false,
        })
    }
}

/// Whether a parameter is no attribute, but means something in every list.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || TAG_FILTERS.contains(&name)
}

fn test(attrs: &[Attr], name: &str, values: &[&str]) -> Result<Test, Trouble> {
    if TAG_FILTERS.contains(&name) {
        let wanted: Vec<Vec<String>> =
            values.iter().map(|value| value.split(',').map(str::to_owned).collect()).collect();
        few(name, wanted.iter().map(Vec::len).sum())?;
        return Ok(Test::Tags { wanted, any: name.ends_with("-any"), not: name.starts_with("not-") });
    }
    Ok(match name {
        "fixed_ips" => {
            let mut fields: BTreeMap<String, HashSet<String>> = BTreeMap::new();
            for value in values {
                let Some((field, wanted)) = value.split_once('=') else { return Ok(Test::Nothing) };
                let wanted = if field == "ip_address" { form(Is::IpOrNull, wanted) } else { wanted.to_owned() };
                fields.entry(field.to_owned()).or_default().insert(wanted);
            }
            few(name, fields.get("ip_address_substr").map_or(0, HashSet::len))?;
            Test::FixedIps(fields)
        }
        "changed_since" => {
            Test::Since(values.iter().map(|value| value.trim_matches('"')).min().unwrap_or_default().to_owned())
        }
        name => {
            let is = attrs.iter().find(|attr| attr.name == name).map_or(Is::Any, |attr| attr.is);
            Test::OneOf(values.iter().map(|value| form(is, value)).collect())
        }
    })
}

fn few(name: &str, count: usize) -> Result<(), Trouble> {
    match count > MAX_SINGLE {
        true => Err(Trouble::attribute(name, format!("a list is filtered by at most {MAX_SINGLE} of them."))),
        false => Ok(()),
    }
}

/// A value in the form in which items have it; what the attribute would not take stays as it is, and is found nowhere.
fn form(is: Is, value: &str) -> String {
    let is = match is {
        Is::UuidList => Is::Uuid,
        Is::IpList => Is::IpOrNull,
        other => other,
    };
    match is {
        _ if matches!(value, "" | "None" | "null") => String::new(),
        Is::Bool => boolean(&Value::from(value)).map_or_else(|| value.to_owned(), |flag| flag.to_string()),
        Is::Mac | Is::Cidr | Is::IpOrNull | Is::Int(..) => {
            fit_value(is, &Value::from(value)).map_or_else(|_| value.to_owned(), |fits| plain(&fits))
        }
        _ => value.to_owned(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn has_one(value: Option<&Value>, wanted: &HashSet<String>) -> bool {
    match value {
        None | Some(Value::Null) => wanted.contains(""),
        Some(Value::String(text)) => wanted.contains(text),
        // Attributes that nobody can set have no form of their own.
        Some(Value::Bool(flag)) => {
            wanted.contains(if *flag { "true" } else { "false" })
                || (wanted.len() <= MAX_SINGLE
                    && wanted.iter().any(|wanted| boolean(&Value::from(wanted.as_str())) == Some(*flag)))
        }
        Some(Value::Array(items)) => items.iter().any(|item| has_one(Some(item), wanted)),
        Some(number @ Value::Number(_)) => wanted.contains(&number.to_string()),
        Some(Value::Object(_)) => false,
    }
}

/// `ip_address=…`, `ip_address_substr=…`, `subnet_id=…`: the same one repeated is an alternative, different ones must
/// all hold, as Neutron groups them.
fn fixed_ips_pass(item: &Map<String, Value>, fields: &BTreeMap<String, HashSet<String>>) -> bool {
    let ips: Vec<&Value> = item.get("fixed_ips").and_then(Value::as_array).into_iter().flatten().collect();
    fields.iter().all(|(field, wanted)| {
        ips.iter().any(|ip| {
            let address = ip["ip_address"].as_str().unwrap_or("");
            match field.as_str() {
                "ip_address_substr" => wanted.iter().any(|part| address.contains(part.as_str())),
                "ip_address" => {
                    let normal = address.parse::<IpAddr>().map_or_else(|_| address.to_owned(), |ip| ip.to_string());
                    wanted.contains(&normal)
                }
                "subnet_id" => ip["subnet_id"].as_str().is_some_and(|id| wanted.contains(id)),
                _ => false,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::network::attrs::{free, shown};

    const ATTRS: &[Attr] = &[
        free("mac_address", Is::Mac),
        free("cidr", Is::Cidr),
        free("gateway_ip", Is::IpOrNull),
        free("dns_nameservers", Is::IpList),
        free("admin_state_up", Is::Bool),
        free("mtu", Is::Int(0, 9000)),
        shown("shared"),
        shown("name"),
    ];

    fn passes(query: &[(&str, &str)], item: &Value) -> bool {
        let query: Vec<_> = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Filters::read(&query, ATTRS).unwrap().pass(item.as_object().unwrap())
    }

    #[test]
    fn every_notation_of_a_value_finds_it() {
        let item = json!({"mac_address": "fa:16:3e:21:21:21", "cidr": "2001:db8:21::/64", "gateway_ip": "2001:db8:21::1",
            "dns_nameservers": ["2001:db8::53"], "admin_state_up": true, "shared": false, "mtu": 1450, "name": "a"});
        for (name, value) in [
            ("mac_address", "FA:16:3E:21:21:21"),
            ("mac_address", "fa-16-3e-21-21-21"),
            ("mac_address", "fa163e212121"),
            ("mac_address", "fa16.3e21.2121"),
            ("cidr", "2001:DB8:21::/64"),
            ("cidr", "2001:db8:21:0::/64"),
            ("gateway_ip", "2001:DB8:21:0::1"),
            ("dns_nameservers", "2001:db8:0::53"),
            ("admin_state_up", "1"),
            ("admin_state_up", "True"),
            ("shared", "False"),
            ("mtu", "1450"),
            ("name", "a"),
        ] {
            assert!(passes(&[(name, value)], &item), "{name}={value}");
        }
        for (name, value) in [("mac_address", "x"), ("cidr", "10.0.0.0/8"), ("admin_state_up", "no"), ("name", "A")] {
            assert!(!passes(&[(name, value)], &item), "{name}={value}");
        }
        assert!(passes(&[("name", "b"), ("name", "a"), ("mtu", "1450")], &item), "repeated ones are alternatives");
        assert!(!passes(&[("name", "a"), ("mtu", "1")], &item), "different ones must all hold");
        assert!(passes(&[("gateway_ip", "None")], &json!({"gateway_ip": null})));
    }

    #[test]
    fn an_item_is_put_to_one_test_a_name_however_long_the_query() {
        let query: Vec<_> = (0..20_000).map(|n| ("name".to_owned(), n.to_string())).collect();
        let filters = Filters::read(&query, ATTRS).unwrap();
        assert_eq!(filters.0.len(), 1);
        assert!(filters.pass(json!({"name": "19999"}).as_object().unwrap()));
        let tags = [("tags".to_owned(), vec!["t"; MAX_SINGLE + 1].join(","))];
        assert!(Filters::read(&tags, ATTRS).is_err());
        let parts: Vec<_> =
            (0..=MAX_SINGLE).map(|n| ("fixed_ips".to_owned(), format!("ip_address_substr={n}"))).collect();
        assert!(Filters::read(&parts, ATTRS).is_err());
    }
}
