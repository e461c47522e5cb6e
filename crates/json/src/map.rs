//! The fields of an object, in the order of their names. Few of them are a sorted list, which takes as much memory as they do,
//! many are a tree, so that nobody can make a long list be sorted in again and again. Copies share everything until one of
//! them is changed.

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::Value;

/// So many fields are a list.
const FEW: usize = 48;

/// The fields of an object, by name.
pub struct Map<K = String, V = Value>(Option<Arc<Entries<K, V>>>);

#[derive(Clone)]
enum Entries<K, V> {
    Few(Vec<(K, V)>),
    Many(BTreeMap<K, V>),
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Map<K, V> {
    pub const fn new() -> Self {
        Self(None)
    }

    pub fn len(&self) -> usize {
        match self.0.as_deref() {
            None => 0,
            Some(Entries::Few(list)) => list.len(),
            Some(Entries::Many(tree)) => tree.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Whether both are one piece of memory: then they are equal, and neither costs what the other costs already.
    pub fn shares(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    pub fn iter(&self) -> Iter<'_, K, V> {
        match self.0.as_deref() {
            None => Iter::Few([].iter()),
            Some(Entries::Few(list)) => Iter::Few(list.iter()),
            Some(Entries::Many(tree)) => Iter::Many(tree.iter()),
        }
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator {
        self.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> Map<K, V> {
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match self.0.as_deref()? {
            // Names of other lengths are told apart without a look at them.
            Entries::Few(list) => list.iter().find(|(own, _)| own.borrow() == key).map(|(_, value)| value),
            Entries::Many(tree) => tree.get(key),
        }
    }

    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }
}

/// Where a name stands in a list, or would have to.
fn place<K: Borrow<Q>, V, Q: Ord + ?Sized>(list: &[(K, V)], key: &Q) -> Result<usize, usize> {
    list.binary_search_by(|(own, _)| own.borrow().cmp(key))
}

impl<K: Ord + Clone, V: Clone> Map<K, V> {
    pub fn with_capacity(fields: usize) -> Self {
        match fields {
            0 => Self(None),
            few if few <= FEW => Self(Some(Arc::new(Entries::Few(Vec::with_capacity(few))))),
            _ => Self(Some(Arc::new(Entries::Many(BTreeMap::new())))),
        }
    }

    /// The fields, for whoever changes them: copied if somebody else has them, too.
    fn own(&mut self) -> &mut Entries<K, V> {
        Arc::make_mut(self.0.get_or_insert_with(|| Arc::new(Entries::Few(Vec::new()))))
    }

    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // What is not there is no reason to copy what is.
        self.get(key)?;
        match self.own() {
            Entries::Few(list) => list.iter_mut().find(|(own, _)| (*own).borrow() == key).map(|(_, value)| value),
            Entries::Many(tree) => tree.get_mut(key),
        }
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.own() {
            Entries::Few(list) => match place(list, &key) {
                Ok(at) => Some(std::mem::replace(&mut list[at].1, value)),
                Err(at) => {
                    list.insert(at, (key, value));
                    if list.len() > FEW {
                        let list = std::mem::take(list);
                        *self.own() = Entries::Many(list.into_iter().collect());
                    }
                    None
                }
            },
            Entries::Many(tree) => tree.insert(key, value),
        }
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.remove_entry(key).map(|(_, value)| value)
    }

    pub fn remove_entry<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        match self.own() {
            Entries::Few(list) => place(list, key).ok().map(|at| list.remove(at)),
            Entries::Many(tree) => tree.remove_entry(key),
        }
    }

    /// Moves all fields of another here.
    pub fn append(&mut self, other: &mut Self) {
        self.extend(std::mem::take(other));
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        if self.is_empty() {
            return;
        }
        match self.own() {
            Entries::Few(list) => list.retain_mut(|(key, value)| keep(key, value)),
            Entries::Many(tree) => tree.retain(keep),
        }
    }

    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        match self.own() {
            Entries::Few(list) => IterMut::Few(list.iter_mut()),
            Entries::Many(tree) => IterMut::Many(tree.iter_mut()),
        }
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.into_iter().map(|(_, value)| value)
    }

    pub fn entry(&mut self, key: impl Into<K>) -> Entry<'_, K, V> {
        let key = key.into();
        match self.contains_key(&key) {
            true => Entry::Occupied(Occupied { map: self, key }),
            false => Entry::Vacant(Vacant { map: self, key }),
        }
    }

    /// Gives back what was taken in advance.
    pub(crate) fn shrink(&mut self, each: impl Fn(&mut V)) {
        // What others have as well is as it shall be, or will be made so by them.
        if let Some(fields) = self.0.as_mut().and_then(Arc::get_mut) {
            match fields {
                Entries::Few(list) => {
                    list.shrink_to_fit();
                    list.iter_mut().for_each(|(_, value)| each(value));
                }
                Entries::Many(tree) => tree.values_mut().for_each(each),
            }
        }
        if self.is_empty() {
            self.0 = None;
        }
    }
}

/// A field that is there, or not.
pub enum Entry<'a, K, V> {
    Occupied(Occupied<'a, K, V>),
    Vacant(Vacant<'a, K, V>),
}

/// A field that is there.
pub struct Occupied<'a, K, V> {
    map: &'a mut Map<K, V>,
    key: K,
}

/// A field that is not.
pub struct Vacant<'a, K, V> {
    map: &'a mut Map<K, V>,
    key: K,
}

impl<'a, K: Ord + Clone, V: Clone> Entry<'a, K, V> {
    pub fn key(&self) -> &K {
        match self {
            Self::Occupied(Occupied { key, .. }) | Self::Vacant(Vacant { key, .. }) => key,
        }
    }

    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }

    pub fn or_insert_with(self, value: impl FnOnce() -> V) -> &'a mut V {
        match self {
            Self::Occupied(occupied) => occupied.into_mut(),
            Self::Vacant(vacant) => vacant.insert(value()),
        }
    }

    pub fn and_modify(mut self, change: impl FnOnce(&mut V)) -> Self {
        if let Self::Occupied(occupied) = &mut self {
            change(occupied.get_mut());
        }
        self
    }
}

// Neither can be made without being true of the map, which stays borrowed.
#[allow(clippy::expect_used, reason = "the field was looked up when this was made")]
impl<'a, K: Ord + Clone, V: Clone> Occupied<'a, K, V> {
    pub fn get(&self) -> &V {
        self.map.get(&self.key).expect("the field is there")
    }

    pub fn get_mut(&mut self) -> &mut V {
        self.map.get_mut(&self.key).expect("the field is there")
    }

    pub fn into_mut(self) -> &'a mut V {
        self.map.get_mut(&self.key).expect("the field is there")
    }

    pub fn insert(&mut self, value: V) -> V {
        std::mem::replace(self.get_mut(), value)
    }

    pub fn remove(self) -> V {
        self.map.remove(&self.key).expect("the field is there")
    }
}

#[allow(clippy::expect_used, reason = "the field was put there")]
impl<'a, K: Ord + Clone, V: Clone> Vacant<'a, K, V> {
    pub fn insert(self, value: V) -> &'a mut V {
        self.map.insert(self.key.clone(), value);
        self.map.get_mut(&self.key).expect("the field is there")
    }
}

/// Fields with their names.
#[derive(Clone)]
pub enum Iter<'a, K, V> {
    Few(std::slice::Iter<'a, (K, V)>),
    Many(btree_map::Iter<'a, K, V>),
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(list) => list.next().map(|(key, value)| (key, value)),
            Self::Many(tree) => tree.next(),
        }
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Few(list) => list.size_hint(),
            Self::Many(tree) => tree.size_hint(),
        }
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(list) => list.next_back().map(|(key, value)| (key, value)),
            Self::Many(tree) => tree.next_back(),
        }
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

/// The same to be changed.
pub enum IterMut<'a, K, V> {
    Few(std::slice::IterMut<'a, (K, V)>),
    Many(btree_map::IterMut<'a, K, V>),
}

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(list) => list.next().map(|(key, value)| (&*key, value)),
            Self::Many(tree) => tree.next(),
        }
    }
}

/// The fields themselves.
pub enum IntoIter<K, V> {
    Few(std::vec::IntoIter<(K, V)>),
    Many(btree_map::IntoIter<K, V>),
}

impl<K, V> Iterator for IntoIter<K, V> {
    type Item = (K, V);
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(list) => list.next(),
            Self::Many(tree) => tree.next(),
        }
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Few(list) => list.size_hint(),
            Self::Many(tree) => tree.size_hint(),
        }
    }
}

impl<K: Clone, V: Clone> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;
    fn into_iter(self) -> IntoIter<K, V> {
        match self.0.map(Arc::unwrap_or_clone) {
            None => IntoIter::Few(Vec::new().into_iter()),
            Some(Entries::Few(list)) => IntoIter::Few(list.into_iter()),
            Some(Entries::Many(tree)) => IntoIter::Many(tree.into_iter()),
        }
    }
}

impl<'a, K, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;
    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<'a, K: Ord + Clone, V: Clone> IntoIterator for &'a mut Map<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;
    fn into_iter(self) -> IterMut<'a, K, V> {
        self.iter_mut()
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for Map<K, V> {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, fields: T) {
        fields.into_iter().for_each(|(key, value)| _ = self.insert(key, value));
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(fields: T) -> Self {
        let fields = fields.into_iter();
        let mut map = Self::with_capacity(fields.size_hint().0.min(FEW));
        map.extend(fields);
        map
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Map<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.shares(other) || (self.len() == other.len() && self.iter().eq(other.iter()))
    }
}

impl<K: Eq, V: Eq> Eq for Map<K, V> {}

impl<K: Hash, V: Hash> Hash for Map<K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|field| field.hash(state));
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<Q: Ord + ?Sized> std::ops::Index<&Q> for Map<String, Value>
where
    String: Borrow<Q>,
{
    type Output = Value;
    #[allow(clippy::expect_used, reason = "as of every map")]
    fn index(&self, key: &Q) -> &Value {
        self.get(key).expect("no such field")
    }
}
