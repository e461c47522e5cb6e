//! Lists of definitions: sorted, and in pages after a marker, which is a name.

use model::{Fault, Time};

use crate::call::Call;

/// By what something is sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortKey {
    Text(String),
    Time(Time),
}

impl From<Time> for SortKey {
    fn from(time: Time) -> Self {
        Self::Time(time)
    }
}

impl From<&str> for SortKey {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What a list is asked for.
pub struct Paging<'a> {
    pub limit: Option<usize>,
    marker: Option<&'a str>,
    /// One of the keys of this sort of list.
    pub key: &'a str,
    descends: bool,
}

impl<'a> Paging<'a> {
    /// Reads the query of a list that has these sort keys and filters. `least` is the smallest limit that it takes.
    pub fn of(call: &'a Call, keys: &[&str], filters: &[&str], least: usize) -> Result<Self, Fault> {
        let own = ["limit", "marker", "sort_key", "sort_dir"];
        if let Some((name, _)) = call.query.iter().find(|(n, _)| !own.contains(&&**n) && !filters.contains(&&**n)) {
            return Err(Fault::Invalid(format!("There is no filter '{name}' for this list.")));
        }
        let limit = match call.query("limit").map(|text| text.trim().parse::<i64>()) {
            None => None,
            Some(Err(_)) => return Err(Fault::invalid("limit param must be an integer")),
            Some(Ok(limit)) => {
                let limit = usize::try_from(limit).ok().filter(|limit| *limit >= least);
                Some(limit.ok_or_else(|| Fault::invalid("limit param must be positive"))?)
            }
        };
        let key = call.query("sort_key").unwrap_or("created_at");
        if !keys.contains(&key) {
            return Err(Fault::Invalid(format!("Invalid sort key: {key}. It must be one of: {}", keys.join(", "))));
        }
        let descends = match call.query("sort_dir").unwrap_or("desc") {
            "asc" => false,
            "desc" => true,
            other => return Err(Fault::Invalid(format!("Invalid sort direction: {other}"))),
        };
        Ok(Self { limit, marker: call.query("marker").filter(|marker| !marker.is_empty()), key, descends })
    }

    /// The same, of so many at most.
    pub fn bounded(self, unless_said: usize, most: usize) -> Self {
        Self { limit: Some(self.limit.unwrap_or(unless_said).min(most)), ..self }
    }

    /// The page of `all`, of each of which `key` tells by what it is sorted, when it was made, and its name.
    pub fn cut<T>(
        &self,
        mut all: Vec<T>,
        key: impl Fn(&T) -> (SortKey, Time, String),
        no_marker: impl Fn(&str) -> Fault,
    ) -> Result<Vec<T>, Fault> {
        all.sort_by_cached_key(&key);
        if self.descends {
            all.reverse();
        }
        if let Some(marker) = self.marker {
            let place = all.iter().position(|item| key(item).2 == marker);
            all.drain(..=place.ok_or_else(|| no_marker(marker))?);
        }
        all.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(all)
    }
}
