//! Which kinds a cluster has at a moment: those that every cluster has, and those that its own definitions make. What a
//! definition makes is kept as long as the definition stays the same: a schema is read once, not for each request.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use model::{Entry, KubeObject, Realm, Revision, Snapshot};

use crate::custom;
use crate::kind::ApiResource;
use crate::openapi::Documents;
use crate::registry;

/// The kinds of a cluster at one moment.
#[derive(Clone, Debug, Default)]
pub struct Kinds(Option<Arc<Custom>>);

/// The kinds that a cluster defines for itself.
#[derive(Debug, Default)]
struct Custom {
    /// By the definition's name, with the revision that it was read at.
    definitions: BTreeMap<String, (Revision, Vec<Arc<ApiResource>>)>,
    kinds: Vec<Arc<ApiResource>>,
    documents: Documents,
}

impl Kinds {
    /// Those that every cluster has.
    pub fn built_in() -> Self {
        Self::default()
    }

    /// In the order of discovery.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ApiResource>> {
        registry::built_in().iter().chain(self.0.iter().flat_map(|custom| &custom.kinds))
    }

    /// The kind served under this group, version and plural.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<ApiResource>> {
        self.iter().find(|k| k.plural == plural && k.group == group && k.version == version)
    }

    /// The kind in which rows of this group and plural are stored.
    pub fn stored(&self, group: &str, plural: &str) -> Option<&Arc<ApiResource>> {
        let own = |k: &&Arc<ApiResource>| k.stored.0 == k.group && k.stored.1 == k.plural && k.stored.2 == k.version;
        self.iter().find(|k| k.plural == plural && k.group == group && own(k))
    }

    /// Every group with its versions, in the order of discovery; the core group first, as the empty text.
    pub fn groups(&self) -> Vec<(&str, Vec<&str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for kind in self.iter() {
            let place = *places.entry(&kind.group).or_insert(groups.len());
            if place == groups.len() {
                groups.push((&kind.group, Vec::new()));
            }
            let versions = &mut groups[place].1;
            if !versions.contains(&kind.version.as_str()) {
                versions.push(&kind.version);
            }
        }
        groups
    }

    /// The kinds of one group in one version.
    pub fn of_version<'a>(&'a self, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Arc<ApiResource>> {
        self.iter().filter(move |k| k.group == group && k.version == version)
    }

    /// Where documents are kept that tell of these kinds.
    pub fn documents(&self) -> Option<&Documents> {
        self.0.as_ref().map(|custom| &custom.documents)
    }
}

/// The most clusters of which kinds are kept; those of others are read again.
const MOST: usize = 1024;

/// The kinds of clusters, as they were last asked for.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<String, Seen>>);

#[derive(Debug)]
struct Seen {
    at: Revision,
    /// How many definitions there were, and the newest revision of one: no other set of them has had both.
    count: usize,
    newest: Revision,
    custom: Arc<Custom>,
}

/// The definitions of a cluster.
pub fn rows<'s>(snapshot: &'s Snapshot, cluster: &str) -> impl Iterator<Item = Entry<'s, KubeObject>> + use<'s> {
    let prefix = KubeObject::prefix("apiextensions.k8s.io", "customresourcedefinitions", "");
    snapshot.names::<KubeObject>(&Realm::cluster(cluster), &prefix, None)
}

impl Known {
    /// The kinds that a cluster has in a snapshot.
    pub fn of(&self, snapshot: &Snapshot, cluster: &str) -> Kinds {
        let Some(first) = rows(snapshot, cluster).next() else { return Kinds::built_in() };
        let at = snapshot.revision();
        if let Some(seen) = self.lock().get(cluster).filter(|seen| seen.at == at) {
            return Kinds(Some(seen.custom.clone()));
        }
        let (mut count, mut newest) = (0, first.row.modified);
        for entry in rows(snapshot, cluster) {
            count += 1;
            newest = newest.max(entry.row.modified);
        }
        let before = {
            let mut all = self.lock();
            match all.get_mut(cluster) {
                Some(seen) if seen.count == count && seen.newest == newest => {
                    seen.at = at;
                    return Kinds(Some(seen.custom.clone()));
                }
                seen => seen.map(|seen| seen.custom.clone()).unwrap_or_default(),
            }
        };
        let custom = Arc::new(read(snapshot, cluster, &before));
        let mut all = self.lock();
        if all.len() >= MOST
            && !all.contains_key(cluster)
            && let Some(oldest) = all.iter().min_by_key(|(_, seen)| seen.at).map(|(name, _)| name.clone())
        {
            all.remove(&oldest);
        }
        all.insert(cluster.to_owned(), Seen { at, count, newest, custom: custom.clone() });
        Kinds(Some(custom))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what changed.
fn read(snapshot: &Snapshot, cluster: &str, before: &Custom) -> Custom {
    let mut custom = Custom::default();
    for entry in rows(snapshot, cluster) {
        let kinds = match before.definitions.get(&entry.value.name) {
            Some((revision, kinds)) if *revision == entry.row.modified => kinds.clone(),
            _ => custom::kinds(entry),
        };
        custom.kinds.extend(kinds.iter().cloned());
        custom.definitions.insert(entry.value.name.clone(), (entry.row.modified, kinds));
    }
    custom
}
