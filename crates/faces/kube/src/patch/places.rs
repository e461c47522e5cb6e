//! Where the items of a list are, by what identifies them: patches and field ownership find items by it in one step,
//! whatever a client sends. Looking through the list for each item was refused: two patches of 277 KB held up the whole
//! cloud for 41 seconds.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use serde_json::Value;

/// What identifies an item among its neighbours: the value of its key, or all of it.
#[derive(Clone, Debug, Eq)]
pub struct Name(Box<str>);

impl Name {
    pub fn of(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        work::step();
        self.0 == other.0
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        work::step();
        self.0.hash(state);
    }
}

/// The places of the items of a list. Names may stand in it more than once.
#[derive(Debug, Default)]
pub struct Places(HashMap<Name, Vec<usize>>);

impl Places {
    pub fn of(names: impl Iterator<Item = Name>) -> Self {
        let mut places = Self::default();
        names.enumerate().for_each(|(i, name)| places.add(name, i));
        places
    }

    pub fn add(&mut self, name: Name, place: usize) {
        self.0.entry(name).or_default().push(place);
    }

    /// The first place of this name.
    pub fn first(&self, name: &Name) -> Option<usize> {
        self.0.get(name)?.first().copied()
    }

    /// Forgets the name; all places that it had.
    pub fn remove(&mut self, name: &Name) -> Vec<usize> {
        self.0.remove(name).unwrap_or_default()
    }
}

/// Counts what is done with names and sets of fields, for tests of what a request may cost.
#[cfg(test)]
pub mod work {
    use std::cell::Cell;

    thread_local!(static STEPS: Cell<usize> = const { Cell::new(0) });

    pub fn step() {
        STEPS.set(STEPS.get() + 1);
    }

    /// How many steps this takes.
    pub fn of<T>(act: impl FnOnce() -> T) -> (usize, T) {
        let before = STEPS.get();
        let result = act();
        (STEPS.get() - before, result)
    }
}

#[cfg(not(test))]
pub mod work {
    #[inline(always)]
    pub fn step() {}
}
