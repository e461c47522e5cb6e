//! Lists of resources whose attributes are declared ([`crate::attrs`]): what a query filters them by, and in which order they
//! come. Only what passes is looked at further, so that a list costs what it shows.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};

use model::{Fault, Time};
use regex_lite::{Regex, RegexBuilder};

use crate::attrs::{Check, Filter, Order, Shown, Tags, Test};
use crate::call::Call;

/// The most bytes of a compiled pattern.
const LARGEST_PATTERN: usize = 32 << 10;

/// The filters that a query names.
pub struct Filters<'q, S: Shown>(Vec<Check<'q, S>>);

impl<'q, S: Shown> Filters<'q, S> {
    /// What is not for the caller or not yet in the version is passed over; lists that refuse unknown parameters have done so.
    pub fn read(call: &'q Call) -> Result<Self, Fault> {
        let admin = call.who()?.is_admin();
        let mut all: Vec<Check<'q, S>> = Vec::new();
        for attr in S::ATTRS {
            let mut checks = Vec::new();
            for filter in attr.filters.iter().filter(|filter| call.version >= filter.since && (admin || !filter.admin))
            {
                for name in filter.names {
                    checks.extend(read(filter, call, name)?);
                }
            }
            match attr.either && checks.len() > 1 {
                true => all.push(Box::new(move |of| checks.iter().any(|check| check(of)))),
                false => all.append(&mut checks),
            }
        }
        Ok(Self(all))
    }

    /// Every filter lets the item pass.
    pub fn pass(&self, item: &S::Of<'_>) -> bool {
        self.0.iter().all(|check| check(item))
    }
}

/// What a parameter asks of an item, if the query has it.
fn read<'q, S: Shown>(filter: &Filter<S>, call: &'q Call, name: &'static str) -> Result<Option<Check<'q, S>>, Fault> {
    if let Test::Own(_, read) = filter.test {
        return read(call);
    }
    let Some(value) = call.query(name) else { return Ok(None) };
    Ok(Some(match filter.test {
        Test::Equal(get) => Box::new(move |of| get(of) == Some(value)),
        Test::Part(get) => Box::new(move |of| get(of).contains(value)),
        Test::Number(get) => {
            let number: Option<i64> = value.parse().ok();
            Box::new(move |of| number == Some(get(of)))
        }
        Test::AtLeast(get) => {
            let least: u64 = value.parse().map_err(|_| Fault::Invalid(format!("Invalid {name} filter [{value}]")))?;
            Box::new(move |of| get(of) >= least)
        }
        Test::Truth(get) => {
            let truth = boolean(value, false);
            Box::new(move |of| truth == Some(get(of)))
        }
        Test::Flag(get) => {
            let flag = flag(call, name)?;
            Box::new(move |of| get(of) == flag)
        }
        Test::OneOf(get) => {
            let wanted: BTreeSet<String> = call.queries(name).map(str::to_uppercase).collect();
            Box::new(move |of| wanted.contains(get(of)))
        }
        Test::Pattern(any) => {
            let pattern = pattern(name, value)?;
            Box::new(move |of| any(of, &|text| pattern.is_match(text)))
        }
        Test::Since(get) => {
            let since = moment(name, value)?;
            Box::new(move |of| get(of) >= since)
        }
        Test::Before(get) => {
            let before = moment(name, value)?;
            Box::new(move |of| get(of) <= before)
        }
        Test::Tags(how, get) => {
            let wanted: HashSet<&str> = value.split(',').filter(|tag| !tag.is_empty()).collect();
            Box::new(move |of| has_tags(get(of), &wanted, how))
        }
        Test::Own(..) => return Ok(None),
    }))
}

fn has_tags(tags: &[String], wanted: &HashSet<&str>, how: Tags) -> bool {
    // By the item's tags, which are few.
    let shared = tags.iter().filter(|tag| wanted.contains(tag.as_str())).count();
    match how {
        _ if wanted.is_empty() => true,
        Tags::All => shared == wanted.len(),
        Tags::Any => shared > 0,
        Tags::NotAll => shared < wanted.len(),
        Tags::NotAny => shared == 0,
    }
}

fn boolean(text: &str, empty: bool) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "" => Some(empty),
        "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
        "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// A boolean of the query; named without a value it is true.
pub fn flag(call: &Call, name: &str) -> Result<bool, Fault> {
    let Some(text) = call.query(name) else { return Ok(false) };
    boolean(text, true).ok_or_else(|| Fault::Invalid(format!("Invalid value '{text}' for {name}")))
}

fn wrong(name: &str, value: &str, why: &str) -> Fault {
    Fault::Invalid(format!("Invalid input for query parameters {name}. Value: {value}.{why}"))
}

/// A regular expression, matched anywhere and without regard to case, as by Nova's usual database.
fn pattern(name: &str, text: &str) -> Result<Regex, Fault> {
    if text.len() > 255 {
        return Err(wrong(name, text, " It is too long"));
    }
    // What a pattern costs on each name grows with its size when it is compiled, and `(a{0,99}){99}` is a short text.
    let pattern = RegexBuilder::new(text).case_insensitive(true).size_limit(LARGEST_PATTERN).build();
    pattern.map_err(|_| wrong(name, text, " It is not a regular expression, or too large a one"))
}

fn moment(name: &str, text: &str) -> Result<Time, Fault> {
    parse_time(text).ok_or_else(|| wrong(name, text, &format!(" '{text}' is not a 'date-time'")))
}

/// A moment given by a user: ISO 8601 with or without a zone (then UTC), or a date.
pub fn parse_time(text: &str) -> Option<Time> {
    let spaced = text.trim().replacen(' ', "T", 1);
    let zoned = || spaced.parse::<Time>().ok();
    let plain = || format!("{spaced}Z").parse::<Time>().ok();
    let date = || format!("{spaced}T00:00:00Z").parse::<Time>().ok();
    zoned().or_else(plain).or_else(date)
}

/// Sorts by the keys of the query, or by `key`; `down` unless the query says in which direction. What is equal by all keys comes
/// in the order of ids, in the direction of the first.
pub fn sort<S: Shown>(call: &Call, items: &mut [S::Of<'_>], key: &str, down: bool) -> Result<(), Fault> {
    let mut keys: Vec<(Order<S>, bool)> = Vec::new();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    let mut directions = call.queries("sort_dir");
    for key in call.queries("sort_key").chain((call.query("sort_key").is_none()).then_some(key)).chain(["id"]) {
        let order = S::order(key).ok_or_else(|| wrong("sort_key", key, ""))?;
        let down = match directions.next() {
            None => keys.first().map_or(down, |(_, down)| *down),
            Some("desc") => true,
            Some("asc") => false,
            Some(other) => return Err(wrong("sort_dir", other, "")),
        };
        // What is equal by a key is equal by it the second time, too.
        if known.insert(key) {
            keys.push((order, down));
        }
    }
    items.sort_by(|a, b| {
        let by = |(order, down): &(Order<S>, bool)| if *down { order(b, a) } else { order(a, b) };
        keys.iter().map(by).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    Ok(())
}
