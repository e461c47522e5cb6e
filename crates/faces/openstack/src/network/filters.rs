//! Filters of a list, read once: a value is taken as the attribute takes it, so that what was written in one notation is
//! found in any other, and repeated ones are alternatives in one set. What an item is put to grows with the attributes that
//! are named and not with how often: a reader could hold up a core with a long query before.

use std::collections::{BTreeMap, HashMap, HashSet};

use gate::View;
use serde_json::Value;

use super::attrs::{Attr, Is, Item};
use super::body::{boolean, fit_value};
use super::error::NeutronError;
use crate::json::Json;

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

/// A test of an attribute. Items may be without it: some can be looked for in every list.
struct Filter<T: 'static> {
    attr: Option<&'static Attr<T>>,
    test: Test,
}

/// All filters of a request.
pub struct Filters<T: 'static>(BTreeMap<String, Filter<T>>);

impl<T> Filters<T> {
    /// The filters that a query names; those that the resource does not know have been refused.
    pub fn read(query: &[(String, String)], attrs: &'static [Attr<T>]) -> Result<Self, NeutronError> {
        let mut named: HashMap<&str, Vec<&str>> = HashMap::new();
        for (name, value) in query.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
            named.entry(name).or_default().push(value);
        }
        let read = |(name, values): (&str, Vec<&str>)| {
            let of = match name {
                name if TAG_FILTERS.contains(&name) => "tags",
                "changed_since" => "updated_at",
                name => name,
            };
            let attr = attrs.iter().find(|attr| attr.name == of);
            let test = test(attr.map_or(Is::Any, |attr| attr.is), name, &values)?;
            Ok((name.to_owned(), Filter { attr, test }))
        };
        named.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The ids that are asked for, if any are.
    pub fn ids(&self) -> Option<&HashSet<String>> {
        self.values("id")
    }

    /// The values of which the attribute must have one, if it is named.
    pub fn values(&self, name: &str) -> Option<&HashSet<String>> {
        match self.0.get(name) {
            Some(Filter { test: Test::OneOf(values), .. }) => Some(values),
            _ => None,
        }
    }

    /// Every filter lets the item pass.
    pub fn pass<'a>(&self, view: &View<'a>, item: Item<'a, T>) -> bool {
        self.0.values().all(|filter| filter.test.passes(&filter.attr.map_or(Json::Absent, |attr| attr.of(view, item))))
    }
}

impl Test {
    fn passes(&self, value: &Json<'_>) -> bool {
        match self {
            Self::OneOf(values) => has_one(value, values),
            Self::Tags { wanted, any, not } => {
                let tags: HashSet<_> = value.items().iter().filter_map(Json::text).collect();
                let has = |tag: &String| tags.contains(tag.as_str());
                wanted.iter().all(|list| (if *any { list.iter().any(has) } else { list.iter().all(has) }) != *not)
            }
            Self::FixedIps(fields) => fixed_ips_pass(value, fields),
            Self::Since(moment) => value.text().as_deref().unwrap_or("") >= moment.as_str(),
            Self::Nothing => false,
        }
    }
}

/// Whether a parameter is no attribute, but means something in every list.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || TAG_FILTERS.contains(&name)
}

fn test(is: Is, name: &str, values: &[&str]) -> Result<Test, NeutronError> {
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
        _ => Test::OneOf(values.iter().map(|value| form(is, value)).collect()),
    })
}

fn few(name: &str, count: usize) -> Result<(), NeutronError> {
    match count > MAX_SINGLE {
        true => Err(NeutronError::attribute(name, format!("a list is filtered by at most {MAX_SINGLE} of them."))),
        false => Ok(()),
    }
}

/// A value in the form in which items have it; what the attribute would not take stays as it is, and is found nowhere.
fn form(is: Is, value: &str) -> String {
    match is {
        _ if matches!(value, "" | "None" | "null") => String::new(),
        Is::Bool => boolean(&Value::from(value)).map_or_else(|| value.to_owned(), |flag| flag.to_string()),
        Is::IpList => form(Is::IpOrNull, value),
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

fn has_one(value: &Json<'_>, wanted: &HashSet<String>) -> bool {
    let flag = |flag: bool| {
        // Attributes that nobody can set have no form of their own.
        let means = |wanted: &String| boolean(&Value::from(wanted.as_str())) == Some(flag);
        wanted.contains(if flag { "true" } else { "false" }) || (wanted.len() <= MAX_SINGLE && wanted.iter().any(means))
    };
    match value {
        Json::Absent | Json::Null => wanted.contains(""),
        Json::Text(text) => wanted.contains(&**text),
        Json::Bool(value) => flag(*value),
        Json::Number(number) => wanted.contains(&number.to_string()),
        Json::Ip(_) | Json::Time(_) => value.text().is_some_and(|text| wanted.contains(&*text)),
        Json::List(items) => items.iter().any(|item| has_one(item, wanted)),
        Json::Object(_) | Json::Texts(_) => false,
        Json::Value(value) => match &**value {
            Value::Null => wanted.contains(""),
            Value::Bool(value) => flag(*value),
            Value::Array(items) => items.iter().any(|item| has_one(&item.into(), wanted)),
            Value::Object(_) => false,
            other => wanted.contains(&plain(other)),
        },
    }
}

/// `ip_address=…`, `ip_address_substr=…`, `subnet_id=…`: the same one repeated is an alternative, different ones must
/// all hold, as Neutron groups them.
fn fixed_ips_pass(ips: &Json<'_>, fields: &BTreeMap<String, HashSet<String>>) -> bool {
    fields.iter().all(|(field, wanted)| {
        ips.items().iter().any(|ip| {
            let text = |name: &str| ip.field(name).text().unwrap_or_default();
            match field.as_str() {
                "ip_address_substr" => wanted.iter().any(|part| text("ip_address").contains(part.as_str())),
                "ip_address" => wanted.contains(&*text("ip_address")),
                "subnet_id" => wanted.contains(&*text("subnet_id")),
                _ => false,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::network::attrs::{ruled, shown};

    macro_rules! attr {
        ($name:literal, $is:expr) => {
            ruled::<Value>($name, $is, |_, value| (&value[$name]).into())
        };
    }
    const ATTRS: &[Attr<Value>] = &[
        attr!("mac_address", Is::Mac),
        attr!("cidr", Is::Cidr),
        attr!("gateway_ip", Is::IpOrNull),
        attr!("dns_nameservers", Is::IpList),
        attr!("admin_state_up", Is::Bool),
        attr!("mtu", Is::Int(0, 9000)),
        shown("shared", |_, value| (&value["shared"]).into()),
        shown("name", |_, value| (&value["name"]).into()),
    ];

    fn pass(filters: &Filters<Value>, value: &Value) -> bool {
        let (rows, who) = (model::Snapshot::default(), crate::network::request::somebody());
        filters.pass(&View::new(&rows, &who), Item { id: "", revision: 0, value })
    }

    fn passes(query: &[(&str, &str)], item: &Value) -> bool {
        let query: Vec<_> = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        pass(&Filters::read(&query, ATTRS).unwrap(), item)
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
        assert!(pass(&filters, &json!({"name": "19999"})));
        let tags = [("tags".to_owned(), vec!["t"; MAX_SINGLE + 1].join(","))];
        assert!(Filters::read(&tags, ATTRS).is_err());
        let parts: Vec<_> =
            (0..=MAX_SINGLE).map(|n| ("fixed_ips".to_owned(), format!("ip_address_substr={n}"))).collect();
        assert!(Filters::read(&parts, ATTRS).is_err());
    }
}
